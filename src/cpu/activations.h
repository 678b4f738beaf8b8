// The choices of an arithmetic mode (docs/numerics.md section 1): in which form the inputs of
// matrix products are multiplied, and what keys and values are kept as.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ultraspeed::cpu {

enum class Activations : uint8_t {
  kF32,   // binary32, weights as stored: the exact mode
  kInt8,  // 8 bits with a scale for each 32, FP8 weights likewise; MXFP4 weights as stored
  // What a GPU's tensor cores take, emulated: inputs rounded by the format of the matrix, weights
  // as stored, sums as in kF32.
  kW4a16,  // MXFP4 and FP8: binary16 with a scale for each 128; BF16: two bf16
  kW4a8,   // the same, but MXFP4: e4m3 with a scale for each 32
};

// Keys and values, rounded when they are written.
enum class KvCacheType : uint8_t {
  kF32,
  kBf16,
  kFp8,  // e4m3 with a scale for each position, kv head, and key or value
};

inline constexpr std::array kAllActivations = {Activations::kF32, Activations::kInt8,
                                               Activations::kW4a16, Activations::kW4a8};
inline constexpr std::array kAllKvCacheTypes = {KvCacheType::kF32, KvCacheType::kBf16,
                                                KvCacheType::kFp8};

constexpr std::string_view activations_name(Activations activations) {
  switch (activations) {
    case Activations::kF32:
      return "f32";
    case Activations::kInt8:
      return "int8";
    case Activations::kW4a16:
      return "w4a16";
    case Activations::kW4a8:
      return "w4a8";
  }
  return "?";
}

constexpr std::string_view kv_cache_type_name(KvCacheType type) {
  switch (type) {
    case KvCacheType::kF32:
      return "f32";
    case KvCacheType::kBf16:
      return "bf16";
    case KvCacheType::kFp8:
      return "fp8";
  }
  return "?";
}

}  // namespace ultraspeed::cpu
