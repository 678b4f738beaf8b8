// What becomes of the sums of dense products: each epilogue against plain sums of the same rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/dense_data.h"
#include "cuda/ops/dense.h"
#include "tensor/bf16.h"

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
  for (const WeightFormat format : {kFp8, kBf16}) {
    const DenseCase c{format, 16, 11, 192, 3072}, part{format, 16, 11, 192, 1024};
    std::mt19937 random(5);
    const DenseWeights weights = DenseWeights::random(format, c.rows, c.k, random);
    const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    Device<float> device_rows(rows), partials(uint64_t{c.num_columns} * 8 * c.rows);
    Device<uint8_t> operand(operand_bytes(format, c.width, c.k));
    Device<std::byte> pages(pack(weights, neighbour_order(c.rows)));
    prepare(c, device_rows, operand);
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

float as_float(float value) {
  return value;
}
float as_float(uint16_t value) {
  return tensor::bf16_to_float(value);
}
float rounded(float value, float) {
  return value;
}
float rounded(float value, uint16_t) {
  return tensor::bf16_to_float(tensor::bf16_from_float(value));
}

// Heads, from the plain sums, with rounded cosines and sines.
template <class Element>
void check_qkv(const std::vector<float>& sums, uint32_t num_columns, const DenseQkv<Element>& qkv,
               const std::vector<float2>& rotations, const std::vector<uint32_t>& cache_rows,
               const std::vector<float>& query, const std::vector<Element>& keys,
               const std::vector<Element>& values) {
  const uint32_t half = qkv.rotary_dim / 2, heads = qkv.num_q_heads + qkv.num_kv_heads;
  const uint32_t rows = heads * qkv.head_dim + qkv.num_kv_heads * qkv.v_head_dim;
  for (uint32_t t = 0; t < num_columns; ++t) {
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
        ASSERT_EQ(as_float(keys[(cache_rows[t] * qkv.num_kv_heads + kv_head) * qkv.head_dim + at]),
                  rounded(want, Element{}));
      }
    }
    for (uint32_t i = 0; i < qkv.num_kv_heads * qkv.v_head_dim; ++i) {
      ASSERT_EQ(as_float(values[cache_rows[t] * qkv.num_kv_heads * qkv.v_head_dim + i]),
                rounded(sum[heads * qkv.head_dim + i] * qkv.value_scale, Element{}));
    }
  }
}

template <class Element>
void run_qkv(const DenseCase& c, const DenseLaunch& launch, const std::vector<float>& sums,
             const QkvShape& shape) {
  std::vector<uint32_t> positions, cache_rows;
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    positions.push_back(7919 * t);
    cache_rows.push_back((5 * t + 3) % 17);
  }
  Device<uint32_t> device_positions(positions), device_cache_rows(cache_rows);
  Device<float2> rotations(uint64_t{c.num_columns} * shape.rotary_dim / 2);
  check(launch_dense_rotations(
      {device_positions.data(), c.num_columns, shape.rotary_dim, 1e4F, rotations.data()}, nullptr));
  Device<float> query(uint64_t{c.num_columns} * shape.num_q_heads * shape.head_dim);
  Device<Element> keys(17 * shape.num_kv_heads * shape.head_dim);
  Device<Element> values(17 * shape.num_kv_heads * shape.v_head_dim);
  DenseQkv<Element> qkv;
  qkv.num_q_heads = shape.num_q_heads;
  qkv.num_kv_heads = shape.num_kv_heads;
  qkv.head_dim = shape.head_dim;
  qkv.v_head_dim = shape.v_head_dim;
  qkv.rotary_dim = shape.rotary_dim;
  qkv.value_scale = 0.612F;
  qkv.rotations = rotations.data();
  qkv.cache_rows = device_cache_rows.data();
  qkv.query = query.data();
  qkv.keys = keys.data();
  qkv.values = values.data();
  check(launch_dense(launch, qkv, nullptr));
  const std::vector<float2> made = rotations.read();
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    for (uint32_t i = 0; i < shape.rotary_dim / 2; ++i) {
      const float power = static_cast<float>(
          std::pow(1e4, static_cast<float>(2 * i) / static_cast<float>(shape.rotary_dim)));
      const float angle = static_cast<float>(positions[t]) * (1 / power);
      const float2 rotation = made[t * shape.rotary_dim / 2 + i];
      ASSERT_NEAR(rotation.x, std::cos(double{angle}), 0x1p-23);
      ASSERT_NEAR(rotation.y, std::sin(double{angle}), 0x1p-23);
    }
  }
  const std::vector<Element> all_keys = keys.read(), all_values = values.read();
  check_qkv(sums, c.num_columns, qkv, made, cache_rows, query.read(), all_keys, all_values);
  for (uint32_t row = 0; row < 17; ++row) {  // other cache rows stay
    if (std::find(cache_rows.begin(), cache_rows.end(), row) != cache_rows.end()) continue;
    for (uint32_t i = 0; i < shape.num_kv_heads * shape.head_dim; ++i) {
      ASSERT_TRUE(std::isnan(as_float(all_keys[row * shape.num_kv_heads * shape.head_dim + i])));
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
    run_qkv<float>(c, launch, sums.values, shape);
    run_qkv<uint16_t>(c, launch, sums.values, shape);
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
