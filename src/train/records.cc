#include "train/records.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace ultraspeed::train {
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

void append_model_name(std::string* record, std::string_view name) {
  US_CHECK(name.size() < kModelNameBytes, "a model's name of {} bytes", name.size());
  record->append(name);
  record->append(kModelNameBytes - name.size(), '\0');
}

std::string model_name_at(std::span<const std::byte> record, size_t at) {
  const auto field = record.subspan(at, kModelNameBytes);
  const auto end = std::find(field.begin(), field.end(), std::byte{0});
  return {reinterpret_cast<const char*>(field.data()), static_cast<size_t>(end - field.begin())};
}

}  // namespace ultraspeed::train
