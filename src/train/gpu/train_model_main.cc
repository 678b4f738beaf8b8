// The training of language models as a program of its own, for GPU machines that have PyTorch and a
// compiler alone.
#include <string>
#include <vector>

#include "train/train_model.h"

int main(int argc, char** argv) {
  return ultraspeed::train::train_model(std::vector<std::string>(argv + 1, argv + argc));
}
