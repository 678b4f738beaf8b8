// The products of FP8 experts against the same arithmetic in binary64.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "cuda/dense_data.h"
#include "cuda/ops/expert_test_data.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/mxfp4_page.h"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {
namespace {

using program::kReductionChunks;
using program::RouteTable;
using test::BoundedSum;
using test::DenseOperandBytes;
using test::DenseWeights;
using test::Errors;
using test::is_poison;
using test::kFp8;

struct Fp8Case {
  uint32_t width, num_columns, hidden, intermediate, slots;
  uint32_t chunk_columns = 256;
  uint32_t clusters = 0;  // 0: as many as run at once

  uint32_t chunks() const { return intermediate / chunk_columns; }
  uint32_t pieces() const { return padded_down_columns(intermediate, chunk_columns) / 256; }
};

// Slot i has expert 2 i + 1; what lies between is poison.
struct Fp8Experts {
  Fp8Experts(const Fp8Case& c, std::mt19937& random) {
    for (uint32_t slot = 0; slot < c.slots; ++slot) {
      gate_up.push_back(DenseWeights::random(kFp8, 2 * c.intermediate, c.hidden, random));
      down.push_back(DenseWeights::random(kFp8, c.hidden, c.intermediate, random));
    }
  }

  static std::vector<std::byte> poison(uint32_t slots, uint64_t matrix_bytes) {
    return std::vector<std::byte>(2 * slots * matrix_bytes, std::byte{0xff});
  }
  std::vector<std::byte> gate_up_pages() const {
    const DenseMatrix& shape = gate_up[0].shape;
    const uint64_t size_bytes = dense_page_bytes(shape);
    std::vector<std::byte> pages = poison(static_cast<uint32_t>(gate_up.size()), size_bytes);
    for (size_t i = 0; i < gate_up.size(); ++i) {
      pack_dense(shape, gate_up_order(shape.rows / 2), gate_up[i].bytes,
                 std::span(pages).subspan((2 * i + 1) * size_bytes, size_bytes));
    }
    return pages;
  }
  std::vector<std::byte> down_pages(uint32_t chunk_columns) const {
    DenseMatrix shape = down[0].shape;
    if (has_own_page(chunk_columns)) shape.num_chunks = shape.columns / chunk_columns;
    const uint64_t size_bytes = dense_page_bytes(shape);
    std::vector<std::byte> pages = poison(static_cast<uint32_t>(down.size()), size_bytes);
    for (size_t i = 0; i < down.size(); ++i) {
      pack_dense(shape, neighbour_order(shape.rows), down[i].bytes,
                 std::span(pages).subspan((2 * i + 1) * size_bytes, size_bytes));
    }
    return pages;
  }

  std::vector<DenseWeights> gate_up, down;
};

// h in host memory.
struct Fp8Activations {
  const uint8_t* piece(uint64_t number) const {
    return &bytes[number * ExpertOperand::piece_bytes(width)];
  }
  double code(uint64_t number, uint32_t column, uint32_t k) const {
    uint16_t bits = 0;
    std::memcpy(&bits,
                piece(number) + k / 16 * width * 32 + column / 8 * 256 + k % 16 / 8 * 128 +
                    column % 8 * 16 + k % 8 * 2,
                2);
    return test::f16_value(bits);
  }
  float scale(uint64_t number, uint32_t column, uint32_t k) const {
    float value = 0;
    std::memcpy(&value, piece(number) + width * 512 + (k / 32 * width + column) * 4, 4);
    return value;
  }

  uint32_t width;
  std::vector<uint8_t> bytes;
};

// What a run of both kernels gives.
struct Fp8Output {
  DenseOperandBytes x;
  Fp8Activations h;
  std::vector<float> activation, partials;
};

ExpertLaunch fp8_launch(const Fp8Case& c) {
  ExpertLaunch launch;
  launch.format = kFp8;
  launch.columns = c.width;
  launch.hidden = c.hidden;
  launch.intermediate = c.intermediate;
  launch.chunk_columns = c.chunk_columns;
  return launch;
}

class ExpertFp8 : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  // x: [num_columns, hidden]
  static Fp8Output run(const Fp8Case& c, const Routes& routes, const std::vector<float>& x,
                       const Fp8Experts& experts,
                       ExpertLaunch::Work work = ExpertLaunch::Work::kProducts) {
    ExpertLaunch launch = fp8_launch(c);
    EXPECT_EQ(expert_limit(launch), nullptr);
    Device<float> rows(x);
    Device<uint8_t> input(expert_input_bytes(launch));
    Device<uint8_t> h(expert_activation_bytes(launch, routes.slots()));
    if (c.chunk_columns != 256) h.clear();
    Device<float> activation(uint64_t{routes.pairs()} * c.intermediate);
    Device<float> partials(uint64_t{c.num_columns} * kReductionChunks * c.hidden);
    Device gate_up(experts.gate_up_pages()), down(experts.down_pages(c.chunk_columns));
    Device<uint32_t> words(routes.words());
    Device<uint32_t> num_columns(std::vector<uint32_t>{c.num_columns});
    launch.route = RouteTable::at(words.data(), routes.slots(), routes.pairs());
    launch.num_columns = num_columns.data();
    check(set_clusters(&launch));
    if (c.clusters != 0) launch.gate_up_clusters = launch.down_ctas = c.clusters;
    auto* input_bytes = reinterpret_cast<std::byte*>(input.data());
    auto* h_bytes = reinterpret_cast<std::byte*>(h.data());
    check(launch_quantize(launch, {rows.data(), nullptr, 0, input_bytes}, nullptr));
    launch.work = work;
    check(launch_expert_gate_up(launch, {gate_up.data(), input_bytes, h_bytes, activation.data()},
                                nullptr));
    check(launch_expert_down(launch, {down.data(), h_bytes, partials.data(), 0}, nullptr));
    return {{kFp8, c.width, input.read()}, {c.width, h.read()}, activation.read(), partials.read()};
  }

  // Slot 1 has no column, if there is one.
  static Routes random_routes(const Fp8Case& c, std::mt19937& random) {
    Routes routes;
    for (uint32_t slot = 0; slot < c.slots; ++slot) {
      std::set<uint32_t> columns;
      if (slot != 1) columns.insert(slot % c.num_columns);
      for (uint32_t i = 0; i < c.num_columns / 3 && slot != 1; ++i) {
        columns.insert(static_cast<uint32_t>(random() % c.num_columns));
      }
      routes.add_slot(2 * slot + 1, columns, random);
    }
    return routes;
  }
};

void check_fp8_activation(const Fp8Case& c, const Routes& routes, const Fp8Experts& experts,
                          const Fp8Output& out) {
  Errors errors;
  for (uint32_t slot = 0; slot < c.slots; ++slot) {
    const DenseWeights& weights = experts.gate_up[slot];
    for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; ++p) {
      for (uint32_t i = p % 5; i < c.intermediate; i += 5) {
        const BoundedSum gate = dense_sum(weights, out.x, i, routes.columns[p]);
        const BoundedSum up = dense_sum(weights, out.x, c.intermediate + i, routes.columns[p]);
        const double silu = gate.value / (1 + std::exp(-gate.value));
        // |silu'| < 1.1
        const double bound = 1.1 * gate.bound * (std::fabs(up.value) + up.bound) +
                             std::fabs(silu) * up.bound + std::fabs(silu * up.value) * 0x1p-21;
        errors.add(out.activation[uint64_t{p} * c.intermediate + i], silu * up.value, bound);
      }
    }
  }
  errors.report("activation");
}

// The definition of dense_operand.h.
void check_fp8_codes(const Fp8Case& c, const Routes& routes, const Fp8Output& out) {
  for (uint32_t slot = 0; slot < c.slots; ++slot) {
    std::vector<uint32_t> pairs(c.width, program::kNoId);
    for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; ++p) {
      pairs[routes.columns[p]] = p;
    }
    for (uint32_t column = 0; column < c.width; ++column) {
      const uint32_t pair = pairs[column];
      const bool is_routed = pair != program::kNoId;
      const float* values = &out.activation[is_routed ? uint64_t{pair} * c.intermediate : 0];
      for (uint32_t i = 0; i < c.intermediate; ++i) {
        const uint32_t k = down_column(i, c.chunk_columns) % 256;
        const uint64_t piece = uint64_t{slot} * c.pieces() + down_column(i, c.chunk_columns) / 256;
        float largest = 0;
        for (uint32_t n = i / 32 * 32; n < i / 32 * 32 + 32 && is_routed; ++n) {
          largest = std::max(largest, std::fabs(values[n]));
        }
        const int exponent = test::f16_exponent(largest);
        const float scale = is_routed ? std::ldexp(1.0F, exponent) * routes.weights[pair] : 0.0F;
        ASSERT_EQ(out.h.scale(piece, column, k), scale) << slot << ", " << column << ", " << i;
        ASSERT_EQ(out.h.code(piece, column, k),
                  is_routed ? test::f16_code(values[i], exponent) : 0);
      }
    }
  }
}

void check_fp8_down(const Fp8Case& c, const Fp8Experts& experts, const Fp8Output& out) {
  Errors errors;
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    for (uint32_t chunk = 0; chunk < kReductionChunks; ++chunk) {
      for (uint32_t row = t % 7; row < c.hidden; row += chunk < c.chunks() ? 7 : 1) {
        const float seen = out.partials[(uint64_t{t} * kReductionChunks + chunk) * c.hidden + row];
        if (chunk >= c.chunks()) {
          ASSERT_TRUE(is_poison(seen));
          continue;
        }
        BoundedSum sum = {0, 1e-30, 0};
        const DownChunk of(chunk, c.chunks(), c.pieces());
        const bool is_own = has_own_page(c.chunk_columns);
        const uint32_t first = is_own ? chunk * c.chunk_columns : of.first_page * 256;
        const uint32_t count =
            is_own ? c.chunk_columns : std::min(of.num_pages * 256, c.intermediate - first);
        for (uint32_t slot = 0; slot < c.slots; ++slot) {
          const uint64_t piece = uint64_t{slot} * c.pieces() + of.first_page;
          const BoundedSum of_slot = test::block_sums(
              experts.down[slot], row, first, count, 32,
              [&](uint32_t, uint32_t k) { return out.h.code(piece + k / 256, t, k % 256); },
              [&](uint32_t k) { return out.h.scale(piece + k / 256, t, k % 256); });
          sum.value += of_slot.value;
          sum.bound += of_slot.bound;
          sum.magnitude += of_slot.magnitude;
        }
        errors.add(seen, sum.value, sum.bound + sum.magnitude * (c.slots + 12) * 0x1p-24);
      }
    }
  }
  errors.report("down");
}

TEST_F(ExpertFp8, AgreesWithBinary64) {
  for (const Fp8Case& c :
       {Fp8Case{8, 8, 6144, 256, 4}, Fp8Case{8, 1, 1024, 512, 2}, Fp8Case{16, 13, 2048, 256, 4},
        Fp8Case{32, 32, 1024, 512, 3}, Fp8Case{64, 50, 2048, 256, 3},
        Fp8Case{8, 8, 1024, 128, 6, 16}, Fp8Case{16, 9, 1024, 64, 3, 64},
        Fp8Case{64, 64, 1024, 256, 3, 128}, Fp8Case{32, 17, 1024, 64, 4, 32},
        // K-chunks that share pages.
        Fp8Case{8, 8, 2048, 768, 5, 96}, Fp8Case{16, 11, 1024, 320, 4, 40},
        Fp8Case{64, 60, 1024, 1536, 2, 192}, Fp8Case{8, 7, 1024, 2560, 3, 320}}) {
    std::printf("width %u, %u columns, %u slots\n", c.width, c.num_columns, c.slots);
    std::mt19937 random(c.width + c.num_columns);
    const Fp8Experts experts(c, random);
    const Routes routes = random_routes(c, random);
    const Fp8Output out =
        run(c, routes, test::random_rows(c.num_columns, c.hidden, random), experts);
    check_fp8_activation(c, routes, experts, out);
    check_fp8_codes(c, routes, out);
    check_fp8_down(c, experts, out);
  }
}

// The same columns in other company, at another width, have the same bits.
TEST_F(ExpertFp8, BitsDoNotDependOnTheCompany) {
  constexpr uint32_t kHidden = 2048;
  const Fp8Case small{8, 3, kHidden, 512, 2};
  std::mt19937 random(3);
  for (const uint32_t width : {8u, 16u, 32u, 64u}) {
    const uint32_t first = width / 4;  // the three columns' place among the others
    const Fp8Case large{width, width, kHidden, 512, 5};
    const Fp8Experts all(large, random);
    Fp8Experts two = all;
    two.gate_up = {all.gate_up[1], all.gate_up[3]};
    two.down = {all.down[1], all.down[3]};
    const std::vector<float> x = test::random_rows(width, kHidden, random);
    Routes few, many;
    few.add_slot(1, {0, 2}, random);
    few.add_slot(3, {1, 2}, random);
    for (uint32_t slot = 0; slot < large.slots; ++slot) {
      std::set<uint32_t> columns = {0, width - 1};
      if (slot % 2 == 1) {
        for (uint32_t p = few.begin[slot / 2]; p < few.begin[slot / 2 + 1]; ++p) {
          columns.insert(first + few.columns[p]);
        }
      }
      many.add_slot(2 * slot + 1, columns, random);
      if (slot % 2 == 1) {  // theirs stand behind column 0
        for (uint32_t i = 0; i < 2; ++i) {
          many.weights[many.begin[slot] + 1 + i] = few.weights[few.begin[slot / 2] + i];
        }
      }
    }
    const auto begin = x.begin() + first * kHidden;
    const Fp8Output a = run(small, few, {begin, begin + 3 * kHidden}, two);
    const Fp8Output b = run(large, many, x, all);
    for (uint32_t t = 0; t < 3; ++t) {
      for (uint32_t i = 0; i < 2 * kHidden; ++i) {  // two chunks
        const uint64_t row = kReductionChunks * kHidden;
        ASSERT_EQ(a.partials[t * row + i], b.partials[(t + first) * row + i]) << width;
      }
    }
  }
}

// A cluster that takes many units, one behind the other, has each from the same ring and buffers.
TEST_F(ExpertFp8, OneClusterGivesTheBitsOfMany) {
  for (Fp8Case c : {Fp8Case{8, 8, 1024, 256, 13}, Fp8Case{16, 9, 2048, 256, 7},
                    Fp8Case{32, 20, 1024, 256, 5}, Fp8Case{64, 64, 1024, 256, 9},
                    Fp8Case{8, 8, 1024, 128, 17, 16}, Fp8Case{8, 8, 2048, 768, 7, 96}}) {
    std::mt19937 random(c.hidden + c.width);
    const Fp8Experts experts(c, random);
    const Routes routes = random_routes(c, random);
    const std::vector<float> rows = test::random_rows(c.num_columns, c.hidden, random);
    const Fp8Output many = run(c, routes, rows, experts);
    for (const uint32_t clusters : {1u, 2u, 3u}) {
      c.clusters = clusters;
      const Fp8Output few = run(c, routes, rows, experts);
      EXPECT_EQ(few.h.bytes, many.h.bytes) << c.width << ", " << clusters << " clusters";
      EXPECT_EQ(std::memcmp(few.partials.data(), many.partials.data(), few.partials.size() * 4), 0)
          << c.width << ", " << clusters << " clusters";
    }
  }
}

// A NaN and an infinity stay in their columns.
TEST_F(ExpertFp8, NanStaysInItsColumn) {
  for (const uint32_t width : {8u, 16u, 32u, 64u}) {
    const Fp8Case c{width, 8, 1024, 256, 10};
    std::mt19937 random(4);
    const Fp8Experts experts(c, random);
    const Routes routes = random_routes(c, random);
    std::vector<float> x = test::random_rows(8, 1024, random);
    x[2 * 1024 + 1000] = std::numeric_limits<float>::quiet_NaN();
    x[5 * 1024 + 77] = std::numeric_limits<float>::infinity();
    const Fp8Output out = run(c, routes, x, experts);
    for (uint32_t t = 0; t < 8; ++t) {
      for (uint32_t row = 0; row < 1024; ++row) {
        ASSERT_EQ(std::isnan(out.partials[uint64_t{t} * kReductionChunks * 1024 + row]),
                  t == 2 || t == 5)
            << width << ", column " << t;
      }
    }
  }
}

// Without live experts the partial sums are zeros.
TEST_F(ExpertFp8, NoExpertIsZero) {
  const Fp8Case c{8, 5, 1024, 256, 1};
  std::mt19937 random(6);
  const Fp8Experts experts(c, random);
  const Fp8Output out = run(c, Routes(), test::random_rows(5, 1024, random), experts);
  for (uint32_t t = 0; t < 5; ++t) {
    for (uint32_t row = 0; row < 1024; ++row) {
      ASSERT_EQ(out.partials[uint64_t{t} * kReductionChunks * 1024 + row], 0);
    }
  }
}

TEST_F(ExpertFp8, DrainsWriteNothing) {
  const Fp8Case c{8, 8, 1024, 256, 5};
  std::mt19937 random(7);
  const Fp8Experts experts(c, random);
  const Routes routes = random_routes(c, random);
  const Fp8Output out =
      run(c, routes, test::random_rows(8, 1024, random), experts, ExpertLaunch::Work::kDrain);
  EXPECT_TRUE(std::ranges::all_of(out.activation, is_poison));
  EXPECT_TRUE(std::ranges::all_of(out.partials, is_poison));
  EXPECT_TRUE(std::ranges::all_of(out.h.bytes, [](uint8_t byte) { return byte == 0xff; }));
}

TEST(ExpertFp8Limit, SaysWhatTheKernelsCannotTake) {
  const auto limit = [](const Fp8Case& c) { return std::string(expert_limit(fp8_launch(c))); };
  EXPECT_EQ(limit({12, 8, 1024, 256, 1}), "the kernels have widths of 8, 16, 32 and 64 columns");
  EXPECT_EQ(limit({8, 8, 1536, 256, 1}),
            "the kernels of FP8 experts take a multiple of 1024 of at most 28,928 as hidden size");
  EXPECT_EQ(limit({8, 8, 29 * 1024, 256, 1}), limit({8, 8, 0, 256, 1}));
  EXPECT_EQ(limit({8, 8, 1024, 272, 1, 16}),
            "the kernels take a multiple of 32 of the intermediate size on each rank");
  EXPECT_EQ(limit({8, 8, 1024, 384, 1, 250}), "the kernels take K-chunks that are equally long");
  ExpertLaunch launch = fp8_launch({8, 8, 1024, 256, 1});
  launch.format = tensor::WeightFormat::kBf16;
  EXPECT_STREQ(expert_limit(launch), "the kernels take MXFP4 and FP8");
  EXPECT_EQ(launch_expert_gate_up(launch, {}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(launch_expert_down(launch, {}, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ultraspeed::cuda
