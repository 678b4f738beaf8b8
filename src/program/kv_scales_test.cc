// Scales of fp8 caches: against the rows of the weights in each format.
#include "program/kv_scales.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/bf16.h"

namespace ultraspeed::program {
namespace {

using tensor::KvScales;
using tensor::WeightFormat;

constexpr uint32_t kCols = 160;  // a block of 128 and a shorter one

TEST(KvScale, IsAPowerOfTwoBelowTheRootMeanSquare) {
  using tensor::kv_scale;
  EXPECT_EQ(kv_scale(1), 0.5F);
  EXPECT_EQ(kv_scale(3.99), 0.5F);
  EXPECT_EQ(kv_scale(4), 1);
  EXPECT_EQ(kv_scale(0.99), 0.25F);
  EXPECT_EQ(kv_scale(1e-80), 0x1p-60F);
  EXPECT_EQ(kv_scale(1e80), 0x1p60F);
  for (const double bad : {0.0, -1.0, double{NAN}, double{INFINITY}}) EXPECT_EQ(kv_scale(bad), 1);
}

TEST(KvRounding, IsE4m3OfTheScaledValue) {
  using tensor::round_to_e4m3;
  EXPECT_EQ(round_to_e4m3(17, 1), 16);  // ties to even
  EXPECT_EQ(round_to_e4m3(19, 1), 20);
  EXPECT_EQ(round_to_e4m3(-19 * 0x1p-20F, 0x1p-20F), -20 * 0x1p-20F);
  EXPECT_EQ(round_to_e4m3(1e9F, 2), 896);  // saturates
  EXPECT_EQ(round_to_e4m3(-1e9F, 0x1p60F), -0.0F);
}

// Two q heads of 4, two kv heads of 4 and 2.
struct Model {
  Model() {
    program.weights = {{"norm", WeightFormat::kF32, 1, kCols},
                       {"qkv", WeightFormat::kF32, 20, kCols},
                       {"k_norm", WeightFormat::kF32, 1, 4}};
    op.weight = 1;
    op.norm.weight = 0;
    op.num_q_heads = op.num_kv_heads = 2;
    op.head_dim = 4;
    op.v_head_dim = 2;
    op.value_scale = 3;
  }
  // norm[c] = 2, each element of row r the r-th of `rows`.
  KvScaleTable table(WeightFormat format, const std::vector<float>& rows, bool norm_first) {
    program.stages = {{"qkv_proj", 0, op}};
    program.weights[1].format = format;
    KvScaleBuilder builder(std::span(&program, 1));
    if (norm_first) take_norms(builder);
    builder.take(1, packed(format, rows));
    if (!norm_first) take_norms(builder);
    return builder.finish();
  }
  static void take_norms(KvScaleBuilder& builder) {
    const std::vector<float> norm(kCols, 2), k_norm = {1, 1, 8, 1};
    builder.take(0, std::as_bytes(std::span(norm)));
    builder.take(2, std::as_bytes(std::span(k_norm)));
  }
  // rows: powers of two from 0.5 to 4, or 0.
  static std::vector<std::byte> packed(WeightFormat format, const std::vector<float>& rows) {
    std::vector<std::byte> bytes(tensor::packed_bytes(format, rows.size(), kCols));
    std::byte* scales = bytes.data() + tensor::code_bytes(format, rows.size(), kCols);
    for (size_t r = 0; r < rows.size(); ++r) {
      for (uint64_t c = 0; c < kCols; ++c) {
        const uint64_t at = r * kCols + c;
        if (format == WeightFormat::kF32) {
          std::memcpy(&bytes[at * 4], &rows[r], 4);
        } else if (format == WeightFormat::kBf16) {
          const uint16_t code = tensor::bf16_from_float(rows[r]);
          std::memcpy(&bytes[at * 2], &code, 2);
        } else if (format == WeightFormat::kFp8Block128) {
          bytes[at] = std::byte{tensor::e4m3_from_float(rows[r] / (c < 128 ? 0.25F : 8))};
        } else {
          bytes[at / 2] = rows[r] == 0 ? std::byte{0} : std::byte{0x22};  // two times 1
        }
      }
      for (uint64_t block = 0; block < tensor::scale_columns(format, kCols); ++block) {
        if (format == WeightFormat::kFp8Block128) {
          const float scale = block == 0 ? 0.25F : 8;
          std::memcpy(scales + (r * 2 + block) * 4, &scale, 4);
        } else {
          const int exponent = rows[r] == 0 ? 0 : std::ilogb(rows[r]);
          scales[r * (kCols / 32) + block] = static_cast<std::byte>(127 + exponent);
        }
      }
    }
    return bytes;
  }

  Program program;
  QkvProjOperands op;
};

// Of a row of x: mean square kCols * (2 x)^2 = 640 x^2, root 25.3 x; for keys of x = 1 the scale is
// 2^3, for values of x = 1, tripled, root 75.9, 2^5.
TEST(KvScales, AreThoseOfEachHeadsRows) {
  const std::vector<float> rows = {4,    4,    4, 4, 4, 4, 4, 4,  // q
                                   1,    1,    1, 1, 0, 0, 0, 2,  // k: rms 25.3, and 25.3
                                   0.5F, 0.5F, 0, 0};             // v: rms 37.9, and none
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16,
                                    WeightFormat::kFp8Block128, WeightFormat::kMxfp4}) {
    for (const bool norm_first : {true, false}) {
      Model model;
      const KvScaleTable table = model.table(format, rows, norm_first);
      const std::vector<KvScales> expected = {{8, 16}, {8, 1}};
      const auto scales = table.of(model.op);
      EXPECT_EQ(std::vector(scales.begin(), scales.end()), expected)
          << tensor::weight_format_name(format);
      EXPECT_EQ(table.all().size(), 2u);
    }
  }
}

TEST(KvScales, OfNormedKeysAreThoseOfTheNorm) {
  Model model;
  model.op.k_norm.weight = 2;  // root mean square sqrt(67 / 4) = 4.09
  model.op.norm.weight = kNoId;
  const KvScaleTable table = model.table(WeightFormat::kF32, std::vector<float>(20, 1), true);
  EXPECT_EQ(table.of(model.op)[0].key, 2);
  EXPECT_EQ(table.of(model.op)[1].key, 2);
  EXPECT_EQ(table.of(model.op)[0].value, 16);  // sqrt(160) * 3 = 37.9
}

// A stage with another norm has scales of its own; one of another program that is alike has not.
TEST(KvScales, AreOfEachStage) {
  Model model;
  QkvProjOperands other = model.op;
  other.norm.weight = kNoId;
  model.program.stages = {{"a", 0, model.op}, {"b", 0, other}};
  const std::vector<Program> programs = {model.program, model.program};
  KvScaleBuilder builder(programs);
  Model::take_norms(builder);
  builder.take(1, Model::packed(WeightFormat::kF32, std::vector<float>(20, 1)));
  const KvScaleTable table = builder.finish();
  EXPECT_EQ(table.all().size(), 4u);
  EXPECT_EQ(table.of(model.op)[0].key, 8);
  EXPECT_EQ(table.of(other)[0].key, 4);
}

// Of a draft block's own rows, whose norm is another one: those of the cache beside them.
TEST(KvScales, OfABlockAreThoseOfItsCache) {
  Model model;
  QkvProjOperands block = model.op, context = model.op;
  block.norm.weight = kNoId;
  block.cache_rows = 5;
  context.cache = 0;
  AttentionOperands attention;
  attention.is_draft_block = 1;
  attention.cache_rows = 5;
  attention.cache = 0;
  model.program.stages = {{"block", 0, block}, {"attention", 0, attention}, {"fc", 0, context}};
  KvScaleBuilder builder(std::span(&model.program, 1));
  Model::take_norms(builder);
  builder.take(1, Model::packed(WeightFormat::kF32, std::vector<float>(20, 1)));
  const KvScaleTable table = builder.finish();
  EXPECT_EQ(table.of(context)[0].key, 8);
  EXPECT_EQ(table.of(block)[0].key, 8);
  EXPECT_EQ(table.of(block).data(), table.of(context).data());
}

}  // namespace
}  // namespace ultraspeed::program
