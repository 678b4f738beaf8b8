// The order of tokens, or experts: larger value first, then lower id, as one number.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda {

// Ascends with the value; NaN comes above all.
inline __device__ uint32_t order_of(float value) {
  if (value != value) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(value + 0.0F);  // -0 becomes 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Larger for what comes first. Neither 0 nor ~0 is a key of a number below 2^32 - 1.
inline __device__ uint64_t key_of_order(uint32_t order, uint32_t id) {
  return uint64_t{order} << 32 | ~id;
}
inline __device__ uint64_t key_of(float value, uint32_t id) {
  return key_of_order(order_of(value), id);
}
inline __device__ uint32_t id_of(uint64_t key) {
  return ~static_cast<uint32_t>(key);
}
// REQUIRES: the key of a number.
inline __device__ float value_of(uint64_t key) {
  const auto order = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((order & 0x80000000u) != 0 ? order ^ 0x80000000u : ~order);
}

}  // namespace ultraspeed::cuda
