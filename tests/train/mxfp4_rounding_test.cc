// Rounding in tensors gives the bits of the engine's codec: those that the quantizer stores.
#include "train/mxfp4_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/philox.h"
#include "quantize/encoder.h"
#include "support/scale.h"
#include "tensor/bf16.h"
#include "train/code_rounding.h"

namespace ultraspeed::test {
namespace {

constexpr uint32_t kBlock = 32;

std::vector<float> rounded(const std::vector<float>& values) {
  const torch::Tensor result =
      train::round_to_mxfp4(torch::tensor(values).view({-1, static_cast<int64_t>(kBlock)}));
  const float* data = result.contiguous().data_ptr<float>();
  return {data, data + result.numel()};
}

void expect_the_codecs_bits(const std::vector<float>& values) {
  std::vector<float> expected = values;
  quantize::EncodedRows rows;
  quantize::encode_mxfp4(quantize::ScaleRule::kEven, expected, kBlock, &rows);
  const std::vector<float> actual = rounded(values);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << "value " << values[i] << " of block " << i / kBlock << ": " << actual[i] << ", not "
        << expected[i];
    // BF16 holds it.
    ASSERT_EQ(tensor::bf16_to_float(tensor::bf16_from_float(actual[i])), actual[i]);
  }
  if (!std::all_of(actual.begin(), actual.end(), [](float v) { return std::isfinite(v); })) return;
  // Again nothing changes, so that an export of rounded numbers is quantised to them.
  const std::vector<float> again = rounded(actual);
  for (size_t i = 0; i < again.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(again[i]), std::bit_cast<uint32_t>(actual[i])) << i;
  }
}

float random_value(uint64_t seed, uint32_t i) {
  const double uniform = random_uniform(seed, 1, i), other = random_uniform(seed, 2, i);
  constexpr double kTwoPi = 6.283185307179586;
  return static_cast<float>(std::sqrt(-2 * std::log(uniform)) * std::cos(kTwoPi * other));
}

TEST(Mxfp4Rounding, GaussianBlocksOfAnySize) {
  const uint64_t seed = 11;
  std::vector<float> values;
  for (uint32_t block = 0; block < static_cast<uint32_t>(scaled(4000)); ++block) {
    const int exponent = static_cast<int>(random_bits(seed, 3, block) % 253) - 126;
    for (uint32_t i = 0; i < kBlock; ++i) {
      const float value = random_value(seed, block * kBlock + i);
      values.push_back(std::ldexp(std::min(std::max(value, -3.9F), 3.9F), exponent - 1));
    }
  }
  expect_the_codecs_bits(values);
}

// Every 32nd of an octave of the codes around a largest value that decides the scale: ties between
// codes, ties of the scale's own rounding (m' of 1.25 and 1.75), saturation.
TEST(Mxfp4Rounding, TiesAndSaturation) {
  std::vector<float> values;
  for (const float scale : {1.0F, 0x1p-20F, 0x1p100F}) {
    for (int largest = 64; largest <= 256; ++largest) {
      for (int part = 0; part < 8; ++part) {
        values.push_back(static_cast<float>(largest) / 32 * scale);
        for (int i = 1; i < static_cast<int>(kBlock); ++i) {
          const float value = static_cast<float>((part * 31 + i) % (largest + 1)) / 32;
          values.push_back((i % 2 == 0 ? value : -value) * scale);
        }
      }
    }
  }
  expect_the_codecs_bits(values);
}

void append_block(float largest, std::vector<float>* values) {
  values->push_back(largest);
  for (uint32_t i = 1; i < kBlock; ++i) {
    const float share = static_cast<float>(i) / 31;
    values->push_back((i % 3 == 0 ? -share : share) * largest);
  }
  (*values)[values->size() - 2] = -0.0F;
}

TEST(Mxfp4Rounding, ZerosSubnormalsAndTheLargestNumbers) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  std::vector<float> values;
  for (const float largest :
       {0.0F, kTiny, 0x1p-140F, 0x1p-128F, 0x1.7p-127F, 0x1p-127F, 0x1.8p-127F, 0x1p-126F,
        0x1.4p-125F, 0x1.bp-125F, 0x1.cp-125F, 0x1p-124F, 0x1p-123F, 0x1.bfp127F}) {
    append_block(largest, &values);
  }
  expect_the_codecs_bits(values);
  values.clear();
  for (const float largest : {0x1.cp127F, kMax}) append_block(largest, &values);  // to infinity
  expect_the_codecs_bits(values);
}

TEST(Mxfp4Rounding, GradientsPassAsTheyAre) {
  torch::manual_seed(1);
  const torch::Tensor masters = torch::randn({2, 4, 64}).requires_grad_(true);
  const torch::Tensor direction = torch::randn({2, 4, 64});
  const torch::Tensor rounded = train::round_to_mxfp4(masters);
  EXPECT_FALSE(torch::equal(rounded, masters));
  (rounded * direction).sum().backward();
  EXPECT_TRUE(torch::equal(masters.grad(), direction));
}

// The other small type, whose codes the drafter's matrices have.
TEST(CodeRounding, GivesTheCodecsE4m3) {
  std::vector<float> values;
  for (uint32_t i = 0; i < static_cast<uint32_t>(scaled(20000)); ++i) {
    const int exponent = static_cast<int>(random_bits(5, 3, i) % 24) - 14;
    values.push_back(std::ldexp(random_value(5, i), exponent));
  }
  for (int i = -512; i <= 512; ++i) values.push_back(static_cast<float>(i) * 0x1p-11F);
  const torch::Tensor result = train::round_to_codes(torch::tensor(values), train::kE4m3);
  for (size_t i = 0; i < values.size(); ++i) {
    const float expected = tensor::kE4m3Values[tensor::e4m3_from_float(values[i])];
    ASSERT_EQ(std::bit_cast<uint32_t>(result.data_ptr<float>()[i]),
              std::bit_cast<uint32_t>(expected))
        << values[i];
  }
}

}  // namespace
}  // namespace ultraspeed::test
