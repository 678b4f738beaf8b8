#include "cuda/device_turn.h"

#include <utility>

namespace ultraspeed::cuda {
namespace {

std::mutex turns;
Occupant* last = nullptr;  // guarded by turns

}  // namespace

DeviceTurn::DeviceTurn(Occupant* occupant) : lock_(turns) {
  Occupant* before = std::exchange(last, occupant);
  if (before != nullptr && before != occupant) before->leave();
}

}  // namespace ultraspeed::cuda
