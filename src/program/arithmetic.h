// The choices of an arithmetic mode (docs/numerics.md section 1): in which form the inputs of
// matrix products are multiplied, and what keys and values are kept as.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "tensor/weight_format.h"

namespace ultraspeed::program {

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
  kFp8,  // e4m3 with a scale for the keys and one for the values of each kv head (kv_scales.h)
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

// What the input of a product is rounded to, each value to the nearest, ties to even
// (tensor/block_scale.h). Blocks of columns are absolute; a row's last one may be shorter.
enum class Rounding : uint8_t {
  kNone,
  kE4m3,      // e4m3, a power-of-two scale for each 32 columns
  kF16,       // binary16, a power-of-two scale for each 128 columns
  kBf16Pair,  // bf16(v) + bf16(v - bf16(v))
};

// The rounding of inputs of matrices with this format. kInt8, which changes weights too, is not
// one.
constexpr Rounding input_rounding(Activations activations, tensor::WeightFormat format) {
  const bool is_w4a8 = activations == Activations::kW4a8;
  if (!is_w4a8 && activations != Activations::kW4a16) return Rounding::kNone;
  switch (format) {
    case tensor::WeightFormat::kF32:
      return Rounding::kNone;
    case tensor::WeightFormat::kBf16:
      return Rounding::kBf16Pair;
    case tensor::WeightFormat::kFp8Block128:
      return Rounding::kF16;
    case tensor::WeightFormat::kMxfp4:
      return is_w4a8 ? Rounding::kE4m3 : Rounding::kF16;
  }
  return Rounding::kNone;
}

}  // namespace ultraspeed::program
