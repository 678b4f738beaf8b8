#include "quantize/scale_rule.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tensor/block_scale.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {
namespace {

constexpr int kExponentBias = 127;
constexpr int kLargestExponent = 2;  // of E2M1: 6 = 1.5 * 2^2

// What is added to the bits of m before its exponent is taken, so that it carries from a fraction
// on.
constexpr uint32_t kFromThreeQuarters = 1U << 21;  // rounds to one fraction bit, half away
constexpr uint32_t kAboveHalf = (1U << 22) - 1;

// The biased exponent, within what E8M0 holds; subnormals of binary32 fall below it.
uint8_t scale_code(uint32_t magnitude_bits, uint32_t carry, int offset = 0) {
  const int exponent = static_cast<int>((magnitude_bits + carry) >> 23) - kExponentBias;
  return static_cast<uint8_t>(
      std::clamp(exponent - kLargestExponent + offset + kExponentBias, 0, 254));
}

double squared_error(std::span<const float> block, uint8_t code) {
  const float inverse = inverse_scale(code);
  const float scale = tensor::kE8m0Values[code];
  double sum = 0;
  for (const float value : block) {
    const float rounded = tensor::kE2m1Values[tensor::e2m1_from_float(value * inverse)] * scale;
    const double error = static_cast<double>(rounded) - static_cast<double>(value);
    sum += error * error;
  }
  return sum;
}

uint8_t search_scale(std::span<const float> block, uint32_t largest) {
  uint8_t best = scale_code(largest, 0);
  double least = squared_error(block, best);
  for (const int offset : {1, -1}) {
    const uint8_t code = scale_code(largest, 0, offset);
    const double error = squared_error(block, code);
    if (error < least) {
      best = code;
      least = error;
    }
  }
  return best;
}

}  // namespace

uint8_t choose_scale(ScaleRule rule, std::span<const float> block) {
  uint32_t largest = 0;
  for (const float value : block) largest = std::max(largest, tensor::magnitude_bits(value));
  if (largest == 0) return 0;
  switch (rule) {
    case ScaleRule::kEven:
      return scale_code(largest, kFromThreeQuarters);
    case ScaleRule::kRceil:
      return scale_code(largest, kAboveHalf);
    case ScaleRule::kFloor:
      return scale_code(largest, 0);
    case ScaleRule::kSearch:
      return search_scale(block, largest);
  }
  return 0;
}

// 2^(127 - code); below the normal numbers for code 254 alone.
float inverse_scale(uint8_t code) {
  if (code == 254) return 0x1p-127F;
  return std::bit_cast<float>(static_cast<uint32_t>(254 - code) << 23);
}

}  // namespace ultraspeed::quantize
