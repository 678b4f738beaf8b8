// Rounding of inputs and of cache rows to what a GPU's modes keep of them, as the binary32 values
// that their codes stand for (docs/numerics.md section 2).
#pragma once

#include <cstdint>

#include "program/arithmetic.h"

namespace ultraspeed::cpu {

using program::Activations;
using program::KvCacheType;
using program::Rounding;

// out[i] = x[i] rounded, for one input of `count` columns; its last block may be shorter. A block
// with a NaN or an infinity becomes NaN. out may be x.
void round_input(Rounding rounding, const float* x, uint32_t count, float* out);

// A head's key or value as a cache keeps it (tensor/kv_rounding.h), in place: NaN if there is a NaN
// or an infinity. scale: of fp8.
void round_cache_row(KvCacheType type, float scale, uint32_t count, float* row);

}  // namespace ultraspeed::cpu
