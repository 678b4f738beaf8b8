#include "cpu/rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/bf16.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/f16.h"
#include "tensor/kv_rounding.h"

namespace ultraspeed::cpu {
namespace {

// A form of codes that share a power-of-two scale.
struct E4m3 {
  static tensor::BlockScale scale(uint32_t bits) { return tensor::e4m3_scale(bits); }
  static float round(float v) { return tensor::kE4m3Values[tensor::e4m3_from_float(v)]; }
};
struct F16 {
  static tensor::BlockScale scale(uint32_t bits) { return tensor::f16_scale(bits); }
  static float round(float v) { return tensor::f16_to_float(tensor::f16_from_float(v)); }
};

template <class Form>
void round_block(const float* x, uint32_t count, float* out) {
  uint32_t largest = 0;
  for (uint32_t i = 0; i < count; ++i) largest = std::max(largest, tensor::magnitude_bits(x[i]));
  const tensor::BlockScale scale = Form::scale(largest);
  if (scale.is_nan) {
    std::fill(out, out + count, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const float factor = tensor::power_of_two(scale.exponent);
  const float inverse = tensor::power_of_two(-scale.exponent);
  for (uint32_t i = 0; i < count; ++i) out[i] = Form::round(x[i] * inverse) * factor;
}

template <class Form>
void round_blocks(uint32_t block, const float* x, uint32_t count, float* out) {
  for (uint32_t begin = 0; begin < count; begin += block) {
    round_block<Form>(x + begin, std::min(block, count - begin), out + begin);
  }
}

float round_to_bf16(float value) {
  return tensor::bf16_to_float(tensor::bf16_from_float(value));
}

}  // namespace

void round_input(Rounding rounding, const float* x, uint32_t count, float* out) {
  switch (rounding) {
    case Rounding::kNone:
      std::copy(x, x + count, out);
      return;
    case Rounding::kE4m3:
      return round_blocks<E4m3>(tensor::kE4m3BlockColumns, x, count, out);
    case Rounding::kF16:
      return round_blocks<F16>(tensor::kF16BlockColumns, x, count, out);
    case Rounding::kBf16Pair:
      for (uint32_t i = 0; i < count; ++i) {
        const float high = round_to_bf16(x[i]);
        out[i] = high + round_to_bf16(x[i] - high);
      }
      return;
  }
}

void round_cache_row(KvCacheType type, float scale, uint32_t count, float* row) {
  if (type == KvCacheType::kF32) return;
  if (!std::all_of(row, row + count, [](float v) { return std::isfinite(v); })) {
    std::fill(row, row + count, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const bool is_bf16 = type == KvCacheType::kBf16;
  for (uint32_t i = 0; i < count; ++i) {
    row[i] = is_bf16 ? round_to_bf16(row[i]) : tensor::round_to_e4m3(row[i], scale);
  }
}

}  // namespace ultraspeed::cpu
