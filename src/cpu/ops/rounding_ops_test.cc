// Every product rounds its inputs as the mode and the format of its matrix ask, and what goes to
// the KV cache is rounded: the same bits as in f32 with inputs, or results, rounded by hand.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/math.h"
#include "cpu/ops/op_harness.h"
#include "program/route_table.h"
#include "tensor/bf16.h"

namespace ultraspeed::cpu {
namespace {

using tensor::WeightFormat;

constexpr uint32_t kColumns = 3;
constexpr uint32_t kHidden = 256;

std::vector<float> random_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

template <class T>
void append(T value, std::vector<std::byte>* bytes) {
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  bytes->insert(bytes->end(), raw.begin(), raw.end());
}

// Random matrices of a format, packed.
std::vector<std::byte> random_matrices(WeightFormat format, uint32_t rows, uint32_t cols,
                                       uint32_t count) {
  std::mt19937 random(rows + static_cast<uint32_t>(format));
  std::vector<std::byte> bytes;
  for (uint32_t index = 0; index < count; ++index) {
    for (uint64_t i = 0; i < uint64_t{rows} * cols; ++i) {
      const float value = static_cast<float>(random() % 2048) / 1024 - 1;
      if (format == WeightFormat::kF32) append(value, &bytes);
      if (format == WeightFormat::kBf16) append(tensor::bf16_from_float(value), &bytes);
      if (format == WeightFormat::kFp8Block128)
        append(static_cast<uint8_t>(random() % 0x60), &bytes);
      if (format == WeightFormat::kMxfp4 && i % 2 == 0)
        append(static_cast<uint8_t>(random()), &bytes);
    }
    for (uint64_t i = 0; i < rows * tensor::scale_columns(format, cols); ++i) {
      if (format == WeightFormat::kFp8Block128) append(0.25F, &bytes);
      if (format == WeightFormat::kMxfp4) append(static_cast<uint8_t>(125 + random() % 4), &bytes);
    }
  }
  return bytes;
}

struct Mode {
  Activations activations = Activations::kF32;
  KvCacheType kv_cache = KvCacheType::kF32;
};

// One operation on rows [kColumns, kHidden].
class Products {
 public:
  Products(const Mode& mode, WeightFormat format) : format_(format) {
    harness.set_mode(mode.activations, mode.kv_cache);
    for (uint32_t t = 0; t < kColumns; ++t) harness.column(0, t);
  }

  program::WeightId weight(uint32_t rows, uint32_t cols, uint32_t count = 1) {
    return harness.packed_weight(format_, rows, cols, random_matrices(format_, rows, cols, count),
                                 count);
  }
  program::BufferId output(size_t count) {
    size_ = count;
    output_ = harness.buffer(std::vector<float>(count, 0));
    return output_;
  }
  // The output after a task over `count` rows.
  std::vector<float> run(const program::Operands& operands, uint32_t count, uint32_t part = 0) {
    EXPECT_TRUE(harness.run(operands, 0, count, part));
    const float* values = harness.values(output_);
    return {values, values + size_};
  }

  OpHarness harness{kColumns, kHidden};

 private:
  WeightFormat format_;
  program::BufferId output_ = 0;
  size_t size_ = 0;
};

using Rows = std::vector<float>;
using Operation = Rows (*)(const Mode&, WeightFormat, const Rows&);

Rows linear(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::LinearOperands op;
  op.weight = products.weight(32, kHidden);
  op.input = products.harness.buffer(rows);
  op.output = products.output(size_t{kColumns} * 32);
  op.rows = op.total_rows = 32;
  products.harness.load();
  return products.run(op, 32);
}

// The second half of the input is the first again.
Rows joined_linear(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::LinearOperands op;
  op.weight = products.weight(32, 2 * kHidden);
  op.input = op.more_inputs[0] = products.harness.buffer(rows);
  op.output = products.output(size_t{kColumns} * 32);
  op.rows = op.total_rows = 32;
  products.harness.load();
  return products.run(op, 32);
}

Rows gate_up(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::GateUpOperands op;
  op.weight = products.weight(64, kHidden);
  op.hidden = products.harness.buffer(rows);
  op.output = products.output(size_t{kColumns} * 32);
  op.intermediate_size = 32;
  products.harness.load();
  return products.run(op, 32);
}

Rows out_proj(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::OutProjOperands op;
  op.weight = products.weight(kHidden, kHidden);
  op.input = products.harness.buffer(rows);
  op.partials = products.output(size_t{kColumns} * program::kReductionChunks * kHidden);
  op.input_size = kHidden;
  products.harness.load();
  return products.run(op, kHidden);
}

Rows qkv_proj(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::QkvProjOperands op;
  op.weight = products.weight(64, kHidden);
  op.hidden = products.harness.buffer(rows);
  op.query = products.output(size_t{kColumns} * 64);
  op.num_q_heads = 2;
  op.head_dim = op.v_head_dim = 32;
  op.rotary_dim = 16;
  op.rope.theta = 100;
  products.harness.load();
  return products.run(op, 2);
}

// All columns to expert 1, then column 2 to expert 3.
program::BufferId add_route(Products* products) {
  return products->harness.buffer(std::vector<float>(program::RouteTable::words(2, 4)));
}
void fill_route(Products* products, program::BufferId route) {
  const auto table = program::RouteTable::at(products->harness.words(route), 2, 4);
  *table.num_slots = 2;
  table.expert[0] = 1;
  table.expert[1] = 3;
  table.pair_begin[0] = 0;
  table.pair_begin[1] = 3;
  table.pair_begin[2] = 4;
  for (uint32_t pair = 0; pair < 4; ++pair) {
    table.pair_column[pair] = pair % 3 + pair / 3 * 2;
    table.pair_weight[pair] = 0.5F + static_cast<float>(pair);
  }
}

Rows expert_gate_up(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::ExpertGateUpOperands op;
  op.weight = products.weight(64, kHidden, 4);
  op.hidden = products.harness.buffer(rows);
  op.route = add_route(&products);
  op.activation = products.output(size_t{4} * 32);
  op.intermediate_size = 32;
  op.row_groups = op.max_slots = 2;
  op.max_pairs = 4;
  products.harness.load();
  fill_route(&products, op.route);
  return products.run(op, 1, 1);
}

// The fourth pair has the first row.
Rows expert_down(const Mode& mode, WeightFormat format, const Rows& rows) {
  Products products(mode, format);
  program::ExpertDownOperands op;
  op.weight = products.weight(kHidden, kHidden, 4);
  Rows activation = rows;
  activation.insert(activation.end(), rows.begin(), rows.begin() + kHidden);
  op.activation = products.harness.buffer(activation);
  op.route = add_route(&products);
  op.partials = products.output(size_t{kColumns} * program::kReductionChunks * kHidden);
  op.intermediate_size = kHidden;
  op.row_groups = 1;
  op.max_slots = 2;
  op.max_pairs = 4;
  products.harness.load();
  fill_route(&products, op.route);
  return products.run(op, kHidden);
}

constexpr std::tuple<const char*, Operation> kOperations[] = {
    {"linear", linear},
    {"joined linear", joined_linear},
    {"gate, up", gate_up},
    {"out", out_proj},
    {"qkv", qkv_proj},
    {"expert gate, up", expert_gate_up},
    {"expert down", expert_down},
};

class RoundedProducts : public testing::TestWithParam<Activations> {};

TEST_P(RoundedProducts, TakeInputsRoundedForTheirMatrix) {
  const Rows rows = random_values(size_t{kColumns} * kHidden, 1);
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16,
                                    WeightFormat::kFp8Block128, WeightFormat::kMxfp4}) {
    const Rounding rounding = input_rounding(GetParam(), format);
    Rows rounded = rows;
    for (uint32_t t = 0; t < kColumns; ++t) {
      float* row = &rounded[size_t{t} * kHidden];
      round_input(rounding, row, kHidden, row);
    }
    EXPECT_EQ(rounded != rows, format != WeightFormat::kF32);
    for (const auto& [name, operation] : kOperations) {
      SCOPED_TRACE(std::string(name) + ", " + std::string(tensor::weight_format_name(format)));
      const Rows result = operation({GetParam()}, format, rows);
      EXPECT_EQ(result, operation({}, format, rounded));
      EXPECT_EQ(result != operation({}, format, rows), format != WeightFormat::kF32);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, RoundedProducts,
                         testing::Values(Activations::kW4a16, Activations::kW4a8));

// Two matrices of different formats take the same columns one after the other, the norm of a third.
TEST(RoundedProductsOf, OneBufferDoNotMix) {
  const Rows rows = random_values(kHidden, 2);
  const Rows norm = random_values(kHidden, 3);
  const auto run_all = [&](const std::vector<WeightFormat>& formats) {
    OpHarness harness(1, kHidden);
    harness.set_mode(Activations::kW4a8, KvCacheType::kF32);
    std::vector<program::LinearOperands> ops;
    const auto input = harness.buffer(rows);
    const auto norm_weight = harness.weight(1, kHidden, norm);
    for (const WeightFormat format : formats) {
      program::LinearOperands& op = ops.emplace_back();
      op.weight =
          harness.packed_weight(format, 32, kHidden, random_matrices(format, 32, kHidden, 1));
      op.norm = {norm_weight, 1e-5F};
      op.input = input;
      op.output = harness.buffer(Rows(32, 0));
      op.rows = op.total_rows = 32;
    }
    harness.column(0, 0);
    harness.load();
    std::vector<Rows> results;
    for (const auto& op : ops) {
      EXPECT_TRUE(harness.run_next(op, 0, 32));
      results.emplace_back(harness.values(op.output), harness.values(op.output) + 32);
    }
    return results;
  };
  const auto together = run_all({WeightFormat::kMxfp4, WeightFormat::kF32, WeightFormat::kMxfp4,
                                 WeightFormat::kFp8Block128, WeightFormat::kBf16});
  EXPECT_EQ(together[0], run_all({WeightFormat::kMxfp4})[0]);
  EXPECT_EQ(together[1], run_all({WeightFormat::kF32})[0]);
  EXPECT_EQ(together[2], together[0]);
  EXPECT_EQ(together[3], run_all({WeightFormat::kFp8Block128})[0]);
  EXPECT_EQ(together[4], run_all({WeightFormat::kBf16})[0]);
}

// Random weights of kv heads, but for one large row of each: dimension 16 of a key, 0 of a value,
// which the first part computes.
Rows kv_weights(uint32_t dim, uint32_t value_dim) {
  Rows weights = random_values(size_t{2} * (dim + value_dim) * kHidden, 5);
  for (const uint32_t row : {16u, dim + 16, 2 * dim, 2 * dim + value_dim}) {
    for (uint32_t c = 0; c < kHidden; ++c) weights[size_t{row} * kHidden + c] *= 100;
  }
  return weights;
}

// Two kv heads of different sizes for k and v, in a number of parts, the last one first; the rows
// [kColumns, 2 * (dim + v_dim)] that went to the cache, or to a buffer.
Rows kv_rows(KvCacheType kv_cache, uint32_t parts, bool to_cache,
             std::vector<tensor::KvScales>* scales = nullptr) {
  constexpr uint32_t kCacheDim = 48, kCacheValueDim = 32,
                     kCacheRow = 2 * (kCacheDim + kCacheValueDim);
  Products products({Activations::kF32, kv_cache}, WeightFormat::kF32);
  OpHarness& harness = products.harness;
  program::QkvProjOperands op;
  op.weight = harness.weight(kCacheRow, kHidden, kv_weights(kCacheDim, kCacheValueDim));
  op.hidden = harness.buffer(random_values(size_t{kColumns} * kHidden, 4));
  op.cache_rows = products.output(size_t{kColumns} * kCacheRow);
  if (to_cache) op.cache = harness.cache({2, kCacheDim, kCacheValueDim, 64});
  op.num_kv_heads = 2;
  op.head_dim = kCacheDim;
  op.v_head_dim = kCacheValueDim;
  op.rotary_dim = 16;
  op.head_parts = parts;
  op.rope.theta = 100;
  op.value_scale = 0.7F;
  harness.load({op});
  if (scales != nullptr) {
    const auto of_op = harness.machine().rank(0).kv_scales.of(op);
    scales->assign(of_op.begin(), of_op.end());
  }
  Rows rows;
  for (uint32_t part = parts; part-- > 0;) rows = products.run(op, 4, part);
  if (!to_cache) return rows;
  rows.clear();
  const Cache& cache = harness.machine().rank(0).caches[op.cache];
  for (uint32_t t = 0; t < kColumns; ++t) {
    const float* keys = &cache.keys[size_t{t} * 2 * kCacheDim];
    const float* values = &cache.values[size_t{t} * 2 * kCacheValueDim];
    rows.insert(rows.end(), keys, keys + size_t{2} * kCacheDim);
    rows.insert(rows.end(), values, values + size_t{2} * kCacheValueDim);
  }
  return rows;
}

class RoundedCache : public testing::TestWithParam<KvCacheType> {};

TEST_P(RoundedCache, KeepsEachHeadRoundedInAnyNumberOfParts) {
  Rows expected = kv_rows(KvCacheType::kF32, 1, true);
  const Rows exact = expected;
  std::vector<tensor::KvScales> scales(2);
  if (GetParam() == KvCacheType::kFp8) {
    kv_rows(GetParam(), 1, true, &scales);
    for (const auto& [key, value] : scales) EXPECT_TRUE(key > 1 && value > 1);
  }
  for (uint32_t t = 0; t < kColumns; ++t) {
    float* row = &expected[size_t{t} * 160];
    for (const uint32_t head : {0u, 1u}) {
      round_cache_row(GetParam(), scales[head].key, 48, row + head * 48);
      round_cache_row(GetParam(), scales[head].value, 32, row + 96 + head * 32);
    }
  }
  EXPECT_NE(expected, exact);
  for (const uint32_t parts : {1u, 2u, 4u}) {
    EXPECT_EQ(kv_rows(GetParam(), parts, true), expected) << parts;
    EXPECT_EQ(kv_rows(GetParam(), parts, false), expected) << parts;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RoundedCache,
                         testing::Values(KvCacheType::kBf16, KvCacheType::kFp8));

}  // namespace
}  // namespace ultraspeed::cpu
