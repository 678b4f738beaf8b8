#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace ultraspeed {
namespace {

constexpr uint64_t kPrime = 0x9e3779b97f4a7c15u;  // odd, from the golden ratio

uint64_t mix(uint64_t lane, uint64_t word) {
  lane = (lane ^ word) * kPrime;
  return lane ^ (lane >> 29);
}

}  // namespace

uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed) {
  std::array<uint64_t, 4> lanes = {seed, seed + 1, seed + 2, seed + 3};
  size_t at = 0;
  for (; at + sizeof(lanes) <= bytes.size(); at += sizeof(lanes)) {
    std::array<uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + at, sizeof(words));
    for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  std::array<uint64_t, 4> rest = {};
  if (at < bytes.size()) std::memcpy(rest.data(), bytes.data() + at, bytes.size() - at);
  for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = mix(lanes[i], rest[i]);
  uint64_t sum = mix(seed, bytes.size());
  for (const uint64_t lane : lanes) sum = mix(sum, lane);
  return sum;
}

}  // namespace ultraspeed
