// The scale of an MXFP4 block of 32 weights: which power of two its values are divided by before
// they are rounded to E2M1, whose largest magnitude is 6 = 1.5 * 2^2 (docs/quantize.md has the
// errors of each rule).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace ultraspeed::quantize {

// With m = max |v| of the block, the exponent x of the scale 2^x:
enum class ScaleRule : uint8_t {
  kEven,    // floor(log2 m') - 2, m' being m rounded to one bit after its first: 6 to 7 clips
  kRceil,   // ceil(log2(m / 6)): nothing clips
  kFloor,   // floor(log2 m) - 2, OCP MX v1.0 section 6.3: 6 to 8 clips
  kSearch,  // of floor(log2 m) - 1, - 2 and - 3 the one with the least squared error
};
inline constexpr std::array kAllScaleRules = {ScaleRule::kEven, ScaleRule::kRceil,
                                              ScaleRule::kFloor, ScaleRule::kSearch};

constexpr std::string_view scale_rule_name(ScaleRule rule) {
  switch (rule) {
    case ScaleRule::kEven:
      return "even";
    case ScaleRule::kRceil:
      return "rceil";
    case ScaleRule::kFloor:
      return "floor";
    case ScaleRule::kSearch:
      return "search";
  }
  return "?";
}

// The E8M0 code, x + 127 within [0, 254]; 0 for a block of zeros. REQUIRES: finite values.
uint8_t choose_scale(ScaleRule rule, std::span<const float> block);

// 1 / scale, exact: what values are multiplied by.
float inverse_scale(uint8_t code);

}  // namespace ultraspeed::quantize
