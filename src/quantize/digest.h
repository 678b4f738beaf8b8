// A checksum of a tensor's rows that does not depend on the order in which they are added, so that
// threads may take them as they come: the sum of a bijection of every 8 bytes, mixed with their
// place. One changed word always changes it; several do but once in 2^64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ultraspeed::quantize {

class Digest {
 public:
  Digest() = default;
  explicit Digest(uint64_t value) : sum_(value) {}

  void add_row(uint64_t row, std::span<const std::byte> bytes) {
    const uint64_t place = mix(row + 1);
    const size_t words = bytes.size() / sizeof(uint64_t);
    for (size_t i = 0; i < words; ++i) add_word(place + i, bytes.data() + i * sizeof(uint64_t));
    const size_t rest = bytes.size() % sizeof(uint64_t);
    if (rest == 0) return;
    std::byte last[sizeof(uint64_t)] = {};
    std::memcpy(last, bytes.data() + words * sizeof(uint64_t), rest);
    add_word(place + words, last);
  }

  void add(const Digest& other) { sum_ += other.sum_; }
  uint64_t value() const { return sum_; }
  bool operator==(const Digest&) const = default;

 private:
  // Two rounds of xor-shift-multiply, a bijection (the finaliser of MurmurHash3).
  static uint64_t mix(uint64_t value) {
    value = (value ^ value >> 33) * 0xff51afd7ed558ccdU;
    value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53U;
    return value ^ value >> 33;
  }

  void add_word(uint64_t place, const std::byte* bytes) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, sizeof(word));
    sum_ += mix(word ^ place * 0x9e3779b97f4a7c15U);
  }

  uint64_t sum_ = 0;
};

}  // namespace ultraspeed::quantize
