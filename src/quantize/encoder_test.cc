#include "quantize/encoder.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/philox.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {
namespace {

std::vector<int> as_ints(const std::vector<std::byte>& bytes) {
  std::vector<int> ints;
  ints.reserve(bytes.size());
  for (const std::byte byte : bytes) ints.push_back(std::to_integer<int>(byte));
  return ints;
}

// Zeros have signs, too.
std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

TEST(EncodeMxfp4, ABlockByHand) {
  // Largest 7: EVEN's scale is 2^1; values become halves: 3.5 ties to 4 (code 6), -1.5 (code 11),
  // .25 ties to 0, .375 rounds to .5 (code 1).
  std::vector<float> values = {7.0F, -3.0F, 0.5F, 0.75F, 12.0F};
  values[4] = -0.0F;
  values.resize(32);
  EncodedRows rows;
  encode_mxfp4(ScaleRule::kEven, values, 32, &rows);
  EXPECT_EQ(as_ints(rows.scales), std::vector<int>{128});
  std::vector<int> codes(16);
  codes[0] = 6 | 11 << 4;  // the even column is the low nibble
  codes[1] = 0 | 1 << 4;
  codes[2] = 8;  // minus zero
  EXPECT_EQ(as_ints(rows.codes), codes);
  EXPECT_EQ(values[0], 8.0F);
  EXPECT_EQ(values[1], -3.0F);
  EXPECT_EQ(values[2], 0.0F);
  EXPECT_EQ(values[3], 1.0F);
  ASSERT_EQ(rows.errors.size(), 1U);
  EXPECT_EQ(rows.errors[0].values, 49 + 9 + 0.25 + 0.5625);
  EXPECT_EQ(rows.errors[0].errors, 1 + 0.25 + 0.0625);
  EXPECT_EQ(rows.num_blocks, 1U);
  EXPECT_EQ(rows.num_clipped, 0U);
  EXPECT_EQ(rows.largest, 7.0F);
  EXPECT_EQ(rows.largest_error, 1.0F);
}

TEST(EncodeMxfp4, CountsClippedBlocks) {
  std::vector<float> values(64);
  values[0] = 6.5F;
  values[40] = -6.0F;
  EncodedRows rows;
  encode_mxfp4(ScaleRule::kEven, values, 64, &rows);
  EXPECT_EQ(rows.num_blocks, 2U);
  EXPECT_EQ(rows.num_clipped, 1U);
  EXPECT_EQ(values[0], 6.0F);
}

// Every block of binary32 numbers that MXFP4 can hold comes back as the same numbers, under every
// rule. Scales above 2^125 are left out: 6 * 2^126 is no binary32.
TEST(EncodeMxfp4, RequantisingKeepsEveryNumber) {
  for (uint32_t scale = 0; scale <= 252; ++scale) {
    for (uint32_t trial = 0; trial < 40; ++trial) {
      const uint32_t most = 1 + trial % 7;  // the largest magnitude's code
      std::vector<float> values(32);
      for (uint32_t i = 0; i < 32; ++i) {
        const uint32_t bits = random_bits(scale, trial, i);
        values[i] =
            tensor::kE2m1Values[bits % (most + 1) | (bits >> 16 & 8)] * tensor::kE8m0Values[scale];
      }
      for (const ScaleRule rule : kAllScaleRules) {
        std::vector<float> again = values;
        EncodedRows rows;
        encode_mxfp4(rule, again, 32, &rows);
        ASSERT_EQ(bits_of(values), bits_of(again))
            << "scale " << scale << ", trial " << trial << ", " << scale_rule_name(rule);
        ASSERT_EQ(rows.errors.at(0).errors, 0);
      }
    }
  }
}

TEST(EncodeFp8, BlocksAtTheEdges) {
  constexpr uint32_t kColumns = 130;  // a block of 128 columns and one of 2
  std::vector<float> values(size_t{3} * kColumns);
  values[0] = 448.0F;
  values[kColumns + 127] = -896.0F;  // the first block's largest: scale 2
  values[2 * kColumns + 128] = 1.0F;
  values[129] = 0.25F;  // the second block's scale is 1 / 448
  EncodedRows rows;
  encode_fp8(values, kColumns, &rows);
  ASSERT_EQ(rows.scales.size(), 2 * sizeof(float));
  float scales[2];
  std::memcpy(scales, rows.scales.data(), sizeof(scales));
  EXPECT_EQ(scales[0], 2.0F);
  EXPECT_EQ(scales[1], 1.0F / 448.0F);
  ASSERT_EQ(rows.codes.size(), 3 * kColumns);
  const auto code = [&](size_t i) { return std::to_integer<uint8_t>(rows.codes[i]); };
  EXPECT_EQ(code(0), tensor::e4m3_from_float(224.0F));
  EXPECT_EQ(code(kColumns + 127), tensor::e4m3_from_float(-448.0F));
  EXPECT_EQ(code(2 * kColumns + 128), tensor::e4m3_from_float(448.0F));
  EXPECT_EQ(code(129), tensor::e4m3_from_float(112.0F));
  EXPECT_EQ(values[0], 448.0F);
  EXPECT_EQ(values[129], 112.0F * scales[1]);
  EXPECT_EQ(rows.errors.size(), 3U);
  EXPECT_EQ(rows.num_blocks, 2U);
  EXPECT_EQ(rows.largest, 896.0F);
}

TEST(Digest, DependsOnEveryByteAndPlaceAlone) {
  std::vector<std::byte> bytes(37);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  const auto digest_of = [&] {
    Digest digest;
    digest.add_row(3, std::span(bytes).first(20));
    digest.add_row(4, std::span(bytes).subspan(20));
    return digest;
  };
  const Digest whole = digest_of();
  Digest other_order;
  other_order.add_row(4, std::span(bytes).subspan(20));
  other_order.add_row(3, std::span(bytes).first(20));
  EXPECT_EQ(whole, other_order);
  for (std::byte& byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      byte ^= static_cast<std::byte>(1 << bit);
      EXPECT_NE(digest_of(), whole);
      byte ^= static_cast<std::byte>(1 << bit);
    }
  }
  std::swap(bytes[0], bytes[8]);  // words of one row change places
  EXPECT_NE(digest_of(), whole);
  EXPECT_EQ(Digest(whole.value()), whole);
}

}  // namespace
}  // namespace ultraspeed::quantize
