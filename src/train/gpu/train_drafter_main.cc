// The trainer as a program of its own, for GPU machines that have PyTorch and a compiler alone.
#include <string>
#include <vector>

#include "train/trainer_flags.h"

int main(int argc, char** argv) {
  return ultraspeed::train::train_drafter(std::vector<std::string>(argv + 1, argv + argc));
}
