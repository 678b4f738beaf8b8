// What becomes of the sums of dense products: each epilogue against plain sums of the same rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "cuda/dense_data.h"
#include "cuda/ops/dense.h"
#include "cuda/ops/dense_columns.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;
using test::check;
using test::DenseCase;
using test::DenseWeights;
using test::Device;
using test::is_poison;
using test::kBf16;
using test::kFp8;
using test::operand_bytes;
using test::random_rows;
using DenseEpilogue = test::DenseTest;

// The chunks of a matrix have the bits of products of their own.
TEST_F(DenseEpilogue, PartialsAreThoseOfTheChunks) {
  // The last two are filled up to pages.
  for (const auto& [format, chunk_columns] : std::vector<std::pair<WeightFormat, uint32_t>>{
           {kFp8, 1024}, {kBf16, 1024}, {kFp8, 64}, {kBf16, 360}}) {
    const DenseCase c{format, 16, 11, 192, 3 * chunk_columns};
    const DenseCase part{format, 16, 11, 192, chunk_columns};
    std::mt19937 random(5);
    DenseWeights weights = DenseWeights::random(format, c.rows, c.k, random);
    weights.shape.num_chunks = 3;
    const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    Device<float> device_rows(rows), partials(uint64_t{c.num_columns} * 8 * c.rows);
    Device<uint8_t> operand(operand_bytes(format, c.width, c.k, 3));
    Device<std::byte> pages(pack(weights, neighbour_order(c.rows)));
    prepare(c, device_rows, operand, 3);
    DenseLaunch launch = launch_of(c, pages.data(), operand.data(), 5);
    launch.num_chunks = 3;
    check(launch_dense(launch, DensePartials{partials.data(), 4}, nullptr));
    const std::vector<float> out = partials.read();
    for (uint32_t chunk = 0; chunk < 3; ++chunk) {
      std::vector<float> some;
      for (uint32_t column = 0; column < c.num_columns; ++column) {
        const auto begin = rows.begin() + column * c.k + chunk * part.k;
        some.insert(some.end(), begin, begin + part.k);
      }
      const Output of_chunk = run(part, weights.chunk(chunk * part.k, part.k), some);
      for (uint32_t column = 0; column < c.num_columns; ++column) {
        ASSERT_EQ(std::memcmp(&out[(uint64_t{column} * 8 + 4 + chunk) * c.rows],
                              &of_chunk.values[uint64_t{column} * c.rows], c.rows * 4),
                  0);
      }
    }
    for (uint64_t i = 0; i < out.size(); ++i) {
      const uint64_t chunk = i / c.rows % 8;
      if (chunk < 4 || chunk > 6) {
        ASSERT_TRUE(is_poison(out[i])) << i;
      }
    }
  }
}

TEST_F(DenseEpilogue, StoreWritesItsRowsAlone) {
  const DenseCase c{kBf16, 8, 5, 66, 1024};
  std::mt19937 random(6);
  const DenseWeights weights = DenseWeights::random(c.format, c.rows, c.k, random);
  const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
  const Output want = run(c, weights, rows);
  Device<float> device_rows(rows), output(uint64_t{c.num_columns} * 200);
  Device<uint8_t> operand(operand_bytes(c.format, c.width, c.k));
  Device<std::byte> pages(pack(weights, neighbour_order(c.rows)));
  prepare(c, device_rows, operand);
  check(launch_dense(launch_of(c, pages.data(), operand.data()),
                     DenseStore{output.data(), 200, 110}, nullptr));
  const std::vector<float> out = output.read();
  for (uint32_t column = 0; column < c.num_columns; ++column) {
    for (uint32_t row = 0; row < 200; ++row) {
      const float got = out[column * 200 + row];
      if (row < 110 || row >= 110 + c.rows) {
        ASSERT_TRUE(is_poison(got));
      } else {
        ASSERT_EQ(got, want.values[column * c.rows + row - 110]);
      }
    }
  }
}

// Of columns that want logits, of drafted ones, of accepted ones.
TEST_F(DenseEpilogue, StoreWritesWantedColumnsAlone) {
  const DenseCase c{kFp8, 8, 7, 64, 1024};
  std::mt19937 random(11);
  const DenseWeights weights = DenseWeights::random(c.format, c.rows, c.k, random);
  const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
  const Output all = run(c, weights, rows);
  // Two sequences, of 4 and 3 columns; the first wants logits from column 1 on, the second of 6.
  std::vector<StepColumn> columns(c.num_columns);
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    columns[t].first_column = t < 4 ? 0 : 4;
    columns[t].end_column = t < 4 ? 4 : 7;
    columns[t].wants_logits = t != 0 && t != 4 && t != 5;
    columns[t].is_drafted = t == 2 || t == 3;
  }
  Device<StepColumn> device_columns(columns);
  Device<StepView> view(std::vector<StepView>{{c.num_columns, device_columns.data()}});
  Device<uint32_t> accepted(std::vector<uint32_t>{9, 2, 9, 9, 9, 9, 0});
  Device<float> device_rows(rows);
  Device<uint8_t> operand(operand_bytes(c.format, c.width, c.k));
  Device<std::byte> pages(pack(weights, neighbour_order(c.rows)));
  prepare(c, device_rows, operand);
  const DenseLaunch launch = launch_of(c, pages.data(), operand.data());
  const std::vector<std::pair<ColumnFilter, std::vector<uint32_t>>> cases = {
      {{view.data(), nullptr, true, false}, {1, 2, 3, 6}},
      {{view.data(), nullptr, false, true}, {2, 3}},
      {{view.data(), accepted.data(), false, false}, {3, 6}}};
  for (const auto& [filter, wanted] : cases) {
    Device<float> output(uint64_t{c.num_columns} * c.rows);
    check(launch_dense(launch, DenseStore{output.data(), c.rows, 0, filter}, nullptr));
    const std::vector<float> out = output.read();
    for (uint32_t i = 0; i < c.num_columns * c.rows; ++i) {
      if (std::find(wanted.begin(), wanted.end(), i / c.rows) == wanted.end()) {
        ASSERT_TRUE(is_poison(out[i])) << i;
      } else {
        ASSERT_EQ(out[i], all.values[i]) << i;
      }
    }
  }
}

TEST_F(DenseEpilogue, SwigluJoinsGateAndUp) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const DenseCase c{format, 8, 7, 320, 1024};
    const uint32_t neurons = c.rows / 2;
    std::mt19937 random(7);
    const DenseWeights weights = DenseWeights::random(format, c.rows, c.k, random);
    std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    for (float& value : rows) value /= 64;
    const Output sums = run(c, weights, rows);
    Device<float> device_rows(rows), output(uint64_t{c.num_columns} * neurons);
    Device<uint8_t> operand(operand_bytes(format, c.width, c.k));
    Device<std::byte> pages(pack(weights, gate_up_order(neurons)));
    prepare(c, device_rows, operand);
    check(launch_dense(launch_of(c, pages.data(), operand.data()), DenseSwiglu{output.data()},
                       nullptr));
    const std::vector<float> out = output.read();
    for (uint32_t column = 0; column < c.num_columns; ++column) {
      for (uint32_t i = 0; i < neurons; ++i) {
        const double gate = sums.values[uint64_t{column} * c.rows + i];
        const double want =
            gate / (1 + std::exp(-gate)) * sums.values[uint64_t{column} * c.rows + neurons + i];
        ASSERT_NEAR(out[uint64_t{column} * neurons + i], want, std::fabs(want) * 0x1p-21 + 1e-35);
      }
    }
  }
}

// Heads, from the plain sums, with rounded cosines and sines; column t goes to cache row rows[t].
void check_qkv(const std::vector<float>& sums, const DenseQkv& qkv,
               const std::vector<float2>& rotations, const std::vector<uint32_t>& cache_rows,
               const std::vector<float>& query, const std::vector<float>& keys,
               const std::vector<float>& values) {
  const uint32_t half = qkv.rotary_dim / 2, heads = qkv.num_q_heads + qkv.num_kv_heads;
  const uint32_t rows = heads * qkv.head_dim + qkv.num_kv_heads * qkv.v_head_dim;
  for (uint32_t t = 0; t < cache_rows.size(); ++t) {
    const float* sum = &sums[uint64_t{t} * rows];
    for (uint32_t i = 0; i < heads * qkv.head_dim; ++i) {
      const uint32_t head = i / qkv.head_dim, at = i % qkv.head_dim;
      float want = sum[i];
      if (at < qkv.rotary_dim) {
        const float2 r = rotations[t * half + at % half];
        const float first = at < half ? sum[i] : sum[i - half];
        const float second = at < half ? sum[i + half] : sum[i];
        want = at < half ? first * r.x - second * r.y : second * r.x + first * r.y;
      }
      if (head < qkv.num_q_heads) {
        ASSERT_EQ(query[t * qkv.num_q_heads * qkv.head_dim + i], want)
            << "head " << head << " " << at;
      } else {
        const uint32_t kv_head = head - qkv.num_q_heads;
        ASSERT_EQ(keys[cache_rows[t] * qkv.key_stride + kv_head * qkv.head_dim + at], want);
      }
    }
    for (uint32_t i = 0; i < qkv.num_kv_heads * qkv.v_head_dim; ++i) {
      ASSERT_EQ(values[cache_rows[t] * qkv.value_stride + i],
                sum[heads * qkv.head_dim + i] * qkv.value_scale);
    }
  }
}

// A step on the device; column t at position 7919 t of sequence t % 2.
class TestStep {
 public:
  static constexpr uint32_t kPagePositions = 16'384, kPages = 8;  // of each sequence

  explicit TestStep(uint32_t num_columns)
      : columns_(make_columns(num_columns)), pages_(make_pages()), view_(1) {
    const StepView view = {num_columns, columns_.data(), pages_.data()};
    check(cudaMemcpy(view_.data(), &view, sizeof(view), cudaMemcpyDefault));
  }

  const StepView* view() { return view_.data(); }
  static uint32_t position(uint32_t t) { return 7919 * t; }
  // Page `index` of sequence t % 2, as make_pages() has it.
  static uint32_t page(uint32_t t, uint32_t index) { return 5 + 2 * index + t % 2; }

 private:
  static std::vector<StepColumn> make_columns(uint32_t num_columns) {
    std::vector<StepColumn> columns(num_columns);
    for (uint32_t t = 0; t < num_columns; ++t) {
      columns[t].position = position(t);
      columns[t].sequence = t % 2;
      columns[t].first_page = t % 2 * kPages;
    }
    return columns;
  }
  static std::vector<uint32_t> make_pages() {
    std::vector<uint32_t> pages;
    for (uint32_t t = 0; t < 2; ++t) {
      for (uint32_t i = 0; i < kPages; ++i) pages.push_back(page(t, i));
    }
    return pages;
  }

  Device<StepColumn> columns_;
  Device<uint32_t> pages_;
  Device<StepView> view_;
};

// Columns beyond the step's, up to the width, stay as they are.
TEST_F(DenseEpilogue, ColumnsHaveRotationsAndCacheRows) {
  constexpr uint32_t kColumns = 13, kWidth = 16, kRing = 1000;
  TestStep step(kColumns);
  struct Want {
    float theta;
    uint32_t rotary_dim, ring_positions;
  };
  const std::vector<Want> wanted = {{1e4F, 32, kRing}, {5e6F, 70, 0}};
  Device<float2> rotations_0(kWidth * 16), rotations_1(kWidth * 35);
  Device<uint32_t> rows_0(kWidth), rows_1(kWidth);
  const std::vector<DenseColumns> kinds = {
      {{.theta = 1e4F}, 32, kRing, rotations_0.data(), rows_0.data()},
      {{.theta = 5e6F}, 70, 0, rotations_1.data(), rows_1.data()}};
  Device<DenseColumns> table(kinds);
  check(launch_dense_columns({step.view(), kWidth, TestStep::kPagePositions, table.data(), 2},
                             nullptr));
  for (uint32_t kind = 0; kind < 2; ++kind) {
    const uint32_t half = wanted[kind].rotary_dim / 2;
    const std::vector<float2> made = (kind == 0 ? rotations_0 : rotations_1).read();
    const std::vector<uint32_t> rows = (kind == 0 ? rows_0 : rows_1).read();
    for (uint32_t t = 0; t < kWidth; ++t) {
      const uint32_t position = TestStep::position(t);
      for (uint32_t i = 0; i < half; ++i) {
        const float2 rotation = made[t * half + i];
        if (t >= kColumns) {
          ASSERT_TRUE(is_poison(rotation.x) && is_poison(rotation.y));
          continue;
        }
        const float power = static_cast<float>(
            std::pow(double{wanted[kind].theta},
                     static_cast<float>(2 * i) / static_cast<float>(wanted[kind].rotary_dim)));
        const float angle = static_cast<float>(position) * (1 / power);
        ASSERT_NEAR(rotation.x, std::cos(double{angle}), 0x1p-23);
        ASSERT_NEAR(rotation.y, std::sin(double{angle}), 0x1p-23);
      }
      const uint32_t page = TestStep::page(t, position / TestStep::kPagePositions);
      const uint32_t paged = page * TestStep::kPagePositions + position % TestStep::kPagePositions;
      const uint32_t row = kind == 0 ? t % 2 * kRing + position % kRing : paged;
      ASSERT_EQ(rows[t], t < kColumns ? row : test::kPoison) << t;
    }
  }
}

// Columns go to cache rows, or without them each to a row of its own, keys and values side by side.
void run_qkv(const DenseCase& c, const DenseLaunch& launch, const std::vector<float>& sums,
             const QkvShape& shape, bool has_cache) {
  constexpr uint32_t kRing = 17;
  std::vector<uint32_t> cache_rows;
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    cache_rows.push_back(has_cache ? (5 * t + 3) % kRing : t);
  }
  std::vector<float2> turns;
  for (uint32_t i = 0; i < c.num_columns * shape.rotary_dim / 2; ++i) {
    const double angle = 0.37 * i;
    turns.push_back({static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))});
  }
  Device<uint32_t> device_cache_rows(cache_rows);
  Device<float2> rotations(turns);
  Device<float> query(uint64_t{c.num_columns} * shape.num_q_heads * shape.head_dim);
  const uint32_t key_row = shape.num_kv_heads * shape.head_dim;
  const uint32_t value_row = shape.num_kv_heads * shape.v_head_dim;
  DenseQkv qkv;
  qkv.num_q_heads = shape.num_q_heads;
  qkv.num_kv_heads = shape.num_kv_heads;
  qkv.head_dim = shape.head_dim;
  qkv.v_head_dim = shape.v_head_dim;
  qkv.rotary_dim = shape.rotary_dim;
  qkv.value_scale = 0.612F;
  qkv.rotations = rotations.data();
  qkv.cache_rows = has_cache ? device_cache_rows.data() : nullptr;
  qkv.query = query.data();
  qkv.key_stride = has_cache ? key_row : key_row + value_row;
  qkv.value_stride = has_cache ? value_row : key_row + value_row;
  Device<float> keys(kRing * qkv.key_stride), values(kRing * value_row);
  qkv.keys = keys.data();
  qkv.values = has_cache ? values.data() : keys.data() + key_row;
  check(launch_dense(launch, qkv, nullptr));
  const std::vector<float> all_keys = keys.read();
  const std::vector<float> all_values =
      has_cache ? values.read() : std::vector<float>(all_keys.begin() + key_row, all_keys.end());
  check_qkv(sums, qkv, turns, cache_rows, query.read(), all_keys, all_values);
  for (uint32_t row = 0; row < kRing; ++row) {  // other cache rows stay
    if (std::find(cache_rows.begin(), cache_rows.end(), row) != cache_rows.end()) continue;
    for (uint32_t i = 0; i < qkv.key_stride; ++i) {
      ASSERT_TRUE(std::isnan(all_keys[row * qkv.key_stride + i]));
    }
  }
}

TEST_F(DenseEpilogue, QkvRotatesScalesAndCaches) {
  const QkvShape shape{3, 2, 96, 64, 32};
  for (const WeightFormat format : {kFp8, kBf16}) {
    const DenseCase c{format, 16, 9, shape.rows(), 1024};
    std::mt19937 random(8);
    const DenseWeights weights = DenseWeights::random(format, c.rows, c.k, random);
    const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    const Output sums = run(c, weights, rows);
    Device<float> device_rows(rows);
    Device<uint8_t> operand(operand_bytes(format, c.width, c.k));
    Device<std::byte> pages(pack(weights, qkv_order(shape)));
    prepare(c, device_rows, operand);
    const DenseLaunch launch = launch_of(c, pages.data(), operand.data());
    for (const bool has_cache : {true, false}) {
      run_qkv(c, launch, sums.values, shape, has_cache);
    }
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
