// Rounding of inputs and of cache rows to what a GPU's modes keep of them, as the binary32 values
// that their codes stand for (docs/numerics.md section 2).
#pragma once

#include <cstdint>

#include "cpu/activations.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cpu {

// What the input of a product is rounded to.
enum class Rounding : uint8_t {
  kNone,
  kE4m3,      // e4m3, a power-of-two scale for each 32 columns
  kF16,       // binary16, a power-of-two scale for each 128 columns
  kBf16Pair,  // bf16(v) + bf16(v - bf16(v))
};

// The rounding of inputs of matrices with this format.
Rounding input_rounding(Activations activations, tensor::WeightFormat format);

// out[i] = x[i] rounded, for one input of `count` columns; its last block may be shorter. A block
// with a NaN or an infinity becomes NaN. out may be x.
void round_input(Rounding rounding, const float* x, uint32_t count, float* out);

// The same of a head's key or value, in place.
void round_cache_row(KvCacheType type, uint32_t count, float* row);

}  // namespace ultraspeed::cpu
