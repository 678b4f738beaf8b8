// The w4a8 expert products against the same quantised arithmetic in binary64.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/ops/expert_test_data.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/pack_mxfp4.h"
#include "program/operand_ids.h"
#include "tensor/e4m3.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {
namespace {

using program::kReductionChunks;
using program::RouteTable;
using test::Errors;

// A k = 32 product of wgmma cuts off its terms and its sum 13 bits below the leading one
// (wgmma_gpu_test has the model, bit by bit): 32 terms and a sum of at most 32 of the largest.
constexpr double kProductError = 64 * 0x1p-13;

// An operand in host memory: any width, any number of pieces.
struct Operand {
  double value(uint64_t piece, uint32_t column, uint32_t k) const {
    return tensor::e4m3_to_float(code(piece, column, k)) * double{scale(piece, column, k / 32)};
  }
  uint8_t code(uint64_t piece, uint32_t column, uint32_t k) const {
    return bytes[piece * piece_bytes() + k / 32 * width * 32 + column / 8 * 256 +
                 k % 32 / 16 * 128 + column % 8 * 16 + k % 16];
  }
  float scale(uint64_t piece, uint32_t column, uint32_t block) const {
    float value = 0;
    std::memcpy(&value,
                &bytes[piece * piece_bytes() + uint64_t{piece_k} * width +
                       (uint64_t{block} * width + column) * 4],
                4);
    return value / kDecodedUnit;
  }
  uint64_t piece_bytes() const { return uint64_t{piece_k} / 32 * width * 36; }

  std::vector<uint8_t> bytes;
  uint32_t width, piece_k;
};

// The definition of e4m3_operand.h, by search. place(k): where value k lies in `piece` and those
// behind it.
template <class PlaceOf>
void expect_quantised(const float* values, const Operand& operand, uint64_t piece, uint32_t column,
                      float factor, const PlaceOf& place) {
  double largest = 0;
  for (uint32_t k = 0; k < 32; ++k) largest = std::max(largest, std::fabs(double{values[k]}));
  int exponent = -126;
  while (largest > std::ldexp(448.0, exponent)) ++exponent;
  const float scale = static_cast<float>(std::ldexp(1.0, exponent)) * factor;
  for (uint32_t k = 0; k < 32; ++k) {
    const uint64_t piece_of = piece + place(k) / operand.piece_k;
    const uint32_t at = place(k) % operand.piece_k;
    const float scaled = static_cast<float>(std::ldexp(double{values[k]}, -exponent));
    ASSERT_EQ(operand.scale(piece_of, column, at / 32), scale);
    ASSERT_EQ(operand.code(piece_of, column, at), tensor::e4m3_from_float(scaled))
        << values[k] << " of column " << column;
  }
}

struct Case {
  uint32_t width, num_columns, hidden, intermediate, slots;
  uint32_t chunk_columns = 256;
  uint32_t clusters = 0;     // 0: as many as run at once
  float clamp_limit = 0;     // set: there are biases, too
  uint32_t first_chunk = 0;  // others than the first get no bias of down

  uint32_t padded() const { return padded_down_columns(intermediate, chunk_columns); }
  uint32_t input_columns() const { return gate_up_columns(hidden); }
};

// Of experts [0, 2 slots): of gate and up, and of down.
struct Biases {
  explicit Biases(const Case& c) {
    if (c.clamp_limit == 0) return;
    std::mt19937 random(c.slots);
    std::normal_distribution<float> normal(0, c.clamp_limit / 4);
    gate_up.resize(uint64_t{2} * c.slots * 2 * c.intermediate);
    down.resize(uint64_t{2} * c.slots * c.hidden);
    for (float& bias : gate_up) bias = normal(random);
    for (float& bias : down) bias = normal(random);
  }
  double gate_up_of(const Case& c, uint32_t expert, uint32_t row) const {
    return gate_up.empty() ? 0 : double{gate_up[uint64_t{expert} * 2 * c.intermediate + row]};
  }
  double down_of(const Case& c, uint32_t expert, uint32_t row) const {
    return down.empty() ? 0 : double{down[uint64_t{expert} * c.hidden + row]};
  }

  std::vector<float> gate_up, down;
};

// What a run of both kernels gives.
struct Output {
  Operand x, h;
  std::vector<float> activation, partials;
};

class ExpertW4a8 : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  // x: [num_columns, hidden]
  static Output run(const Case& c, const Routes& routes, const std::vector<float>& x,
                    const Experts& gate_up, const Experts& down) {
    Device<float> rows(x);
    const Biases biases(c);
    Device<float> gate_up_bias(biases.gate_up), down_bias(biases.down);
    const auto data_of = [&](Device<float>& bias) -> const float* {
      return c.clamp_limit == 0 ? nullptr : bias.data();
    };
    Device<uint8_t> input(gate_up_input_bytes(c.width, c.input_columns()));
    Device<uint8_t> h(down_input_bytes(c.width, c.padded(), routes.slots()));
    if (c.padded() != c.intermediate) h.clear();
    Device<float> activation(uint64_t{routes.pairs()} * c.intermediate);
    Device<float> partials(uint64_t{c.num_columns} * kReductionChunks * c.hidden);
    Device gate_up_pages(gate_up.gate_up_pages()), down_pages(down.down_pages(c.chunk_columns));
    Device<uint32_t> words(routes.words());
    Device<uint32_t> num_columns(std::vector<uint32_t>{c.num_columns});
    ExpertLaunch launch;
    launch.route = RouteTable::at(words.data(), routes.slots(), routes.pairs());
    launch.columns = c.width;
    launch.num_columns = num_columns.data();
    launch.hidden = c.hidden;
    launch.intermediate = c.intermediate;
    launch.chunk_columns = c.chunk_columns;
    check(set_clusters(&launch));
    if (c.clusters != 0) launch.gate_up_clusters = launch.down_ctas = c.clusters;
    check(launch_quantize(
        launch, {rows.data(), nullptr, 0, reinterpret_cast<std::byte*>(input.data())}, nullptr));
    auto* h_bytes = reinterpret_cast<std::byte*>(h.data());
    check(launch_expert_gate_up(launch,
                                {gate_up_pages.data(), reinterpret_cast<std::byte*>(input.data()),
                                 h_bytes, activation.data(), data_of(gate_up_bias), c.clamp_limit},
                                nullptr));
    check(launch_expert_down(
        launch, {down_pages.data(), h_bytes, partials.data(), c.first_chunk, data_of(down_bias)},
        nullptr));
    return {{input.read(), c.width, c.input_columns()},
            {h.read(), c.width, 256},
            activation.read(),
            partials.read()};
  }

  static std::vector<float> random_rows(const Case& c, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> x(uint64_t{c.num_columns} * c.hidden);
    for (uint64_t i = 0; i < x.size(); ++i) {
      x[i] = std::ldexp(normal(random), static_cast<int>(i / 32 * 7 % 9) - 4);
    }
    std::fill_n(x.begin(), 32, 0.0F);
    return x;
  }

  static Routes random_routes(const Case& c, std::mt19937& random) {
    Routes routes;
    for (uint32_t slot = 0; slot < c.slots; ++slot) {
      std::set<uint32_t> columns = {slot % c.num_columns};
      for (uint32_t i = 0; i < c.num_columns / 3; ++i)
        columns.insert(static_cast<uint32_t>(random() % c.num_columns));
      routes.add_slot(2 * slot + 1, columns, random);
    }
    return routes;
  }
};

// A sum of products in binary64 and how far the kernel's may be from it.
struct Bounded {
  double value = 0, bound = 0;
};

// weight(k) and x(k) of K terms; f32 sums of K / 32 blocks round by up to 2^-24 of the running sum.
template <class Weight, class X>
Bounded dot(uint32_t size, const Weight& weight, const X& x) {
  Bounded sum;
  double magnitude = 0;
  for (uint32_t block = 0; block < size; block += 32) {
    double largest = 0;
    for (uint32_t k = block; k < std::min(block + 32, size); ++k) {
      const double product = weight(k) * x(k);
      sum.value += product;
      largest = std::max(largest, std::fabs(product));
      magnitude += std::fabs(product);
    }
    sum.bound += kProductError * largest;
  }
  sum.bound += magnitude * (size / 32 + 8) * 0x1p-24;
  return sum;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// The two factors of h (program::SwigluClamp).
struct Joined {
  double gate, up;
};
Joined join(const Case& c, double gate, double up) {
  if (c.clamp_limit == 0) return {gate * sigmoid(gate), up};
  const double limit = double{c.clamp_limit};
  const double gated = std::min(gate, limit);
  return {gated * sigmoid(double{program::SwigluClamp::kSlope} * gated),
          std::clamp(up, -limit, limit) + 1};
}

void check_down(const Case& c, const Routes& routes, const Experts& down, const Output& out) {
  const uint32_t chunks = c.intermediate / c.chunk_columns, pages = c.padded() / 256;
  const Biases biases(c);
  Errors down_errors;
  for (uint32_t t = 0; t < c.num_columns; ++t) {
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      const DownChunk of_chunk(chunk, chunks, pages);
      const bool is_own = has_own_page(c.chunk_columns);
      const uint32_t first = is_own ? c.chunk_columns * chunk : 256 * of_chunk.first_page;
      const uint32_t count =
          is_own ? c.chunk_columns : std::min(256 * of_chunk.num_pages, c.intermediate - first);
      for (uint32_t row = t % 3; row < c.hidden; row += 7) {
        Bounded sum = {0, 1e-30};
        for (uint32_t slot = 0; slot < c.slots; ++slot) {
          const Bounded of_slot = dot(
              count, [&](uint32_t k) { return down.at(routes.experts[slot], row, first + k); },
              [&](uint32_t k) {
                const uint64_t piece = uint64_t{slot} * pages + of_chunk.first_page + k / 256;
                return out.h.value(piece, t, k % 256);
              });
          sum.value += of_slot.value;
          sum.bound += of_slot.bound * 2;
          if (chunk + c.first_chunk != 0) continue;
          const double bias = routes.weight(slot, t) * biases.down_of(c, routes.experts[slot], row);
          sum.value += bias;
          sum.bound += std::fabs(bias) * 0x1p-20;
        }
        down_errors.add(
            out.partials[(uint64_t{t} * kReductionChunks + c.first_chunk + chunk) * c.hidden + row],
            sum.value, sum.bound);
      }
    }
    for (uint32_t chunk = chunks; chunk < kReductionChunks; ++chunk) {
      const uint32_t other = (c.first_chunk + chunk) % kReductionChunks;
      for (uint32_t row = 0; row < c.hidden; ++row) {
        const float value = out.partials[(uint64_t{t} * kReductionChunks + other) * c.hidden + row];
        ASSERT_EQ(std::bit_cast<uint32_t>(value), kPoison);
      }
    }
  }
  down_errors.report("down");
}

TEST_F(ExpertW4a8, AgreesWithBinary64) {
  for (const Case& c :
       {Case{8, 8, 6144, 256, 5}, Case{8, 1, 6144, 512, 2}, Case{16, 13, 6144, 256, 4},
        Case{32, 32, 6144, 256, 3}, Case{64, 50, 6144, 256, 3}, Case{8, 7, 4096, 512, 2},
        Case{8, 8, 512, 128, 6, 16}, Case{16, 9, 1024, 64, 3, 64}, Case{64, 64, 1536, 256, 3, 128},
        // Filled up in every way, in halves and the whole, K-chunks of one page and two.
        Case{8, 8, 2880, 2880, 3, 360, 0, 7}, Case{8, 3, 2880, 320, 4, 40 * 8, 0, 1},
        Case{16, 16, 2880, 2880, 2, 360, 0, 7}, Case{8, 8, 2880, 1440, 3, 360, 0, 7, 4},
        Case{32, 30, 2560, 288, 3, 288, 0, 7}, Case{64, 61, 2624, 2112, 2, 264, 0, 7},
        Case{8, 6, 64, 32, 5, 4, 0, 2}, Case{8, 8, 6144, 256, 5, 256, 0, 7},
        Case{8, 8, 3584, 768, 3, 96, 0, 7}}) {
    std::printf("width %u, %u columns, %u slots\n", c.width, c.num_columns, c.slots);
    std::mt19937 random(c.width + c.num_columns);
    const Experts gate_up(2 * c.slots, 2 * c.intermediate, c.hidden, random);
    const Experts down(2 * c.slots, c.hidden, c.intermediate, random);
    const Routes routes = random_routes(c, random);
    const std::vector<float> rows = random_rows(c, random);
    const Output out = run(c, routes, rows, gate_up, down);
    const Biases biases(c);

    for (uint32_t t = 0; t < c.num_columns; ++t) {
      for (uint32_t block = 0; block < c.hidden / 32; ++block) {
        expect_quantised(&rows[uint64_t{t} * c.hidden + block * 32], out.x, 0, t, 1,
                         [&](uint32_t k) { return block * 32 + k; });
      }
      for (uint32_t k = c.hidden; k < c.input_columns(); ++k) ASSERT_EQ(out.x.value(0, t, k), 0);
    }
    Errors errors;
    const uint32_t pieces = c.padded() / 256;
    for (uint32_t slot = 0; slot < c.slots; ++slot) {
      std::set<uint32_t> unrouted;
      for (uint32_t t = 0; t < c.width; ++t) unrouted.insert(t);
      for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; ++p) {
        const uint32_t t = routes.columns[p], expert = routes.experts[slot];
        unrouted.erase(t);
        const float* activation = &out.activation[uint64_t{p} * c.intermediate];
        for (uint32_t i = 0; i < c.intermediate; i += 5) {
          const auto x = [&](uint32_t k) { return out.x.value(0, t, k); };
          const Bounded gate = dot(
              c.hidden, [&](uint32_t k) { return gate_up.at(expert, i, k); }, x);
          const Bounded up = dot(
              c.hidden, [&](uint32_t k) { return gate_up.at(expert, c.intermediate + i, k); }, x);
          const double g = gate.value + biases.gate_up_of(c, expert, i);
          const double u = up.value + biases.gate_up_of(c, expert, c.intermediate + i);
          const auto [silu, lifted] = join(c, g, u);
          // The steepest that silu, and its clamped form, are; a bias rounds the sum once more.
          const double gate_bound = 1.2 * (gate.bound + std::fabs(g) * 0x1p-23);
          const double up_bound = up.bound + (std::fabs(u) + 1) * 0x1p-23;
          const double bound = gate_bound * (std::fabs(lifted) + up_bound) +
                               std::fabs(silu) * up_bound + std::fabs(silu * lifted) * 0x1p-21;
          errors.add(activation[i], silu * lifted, bound);
        }
        for (uint32_t block = 0; block < c.intermediate / 32; ++block) {
          expect_quantised(
              activation + block * 32, out.h, uint64_t{slot} * pieces, t, routes.weights[p],
              [&](uint32_t k) { return down_column(block * 32 + k, c.chunk_columns); });
        }
      }
      for (const uint32_t t : unrouted) {
        for (uint32_t k = 0; k < c.padded(); ++k) {
          ASSERT_EQ(out.h.value(uint64_t{slot} * pieces + k / 256, t, k % 256), 0);
        }
      }
    }
    errors.report("h");

    check_down(c, routes, down, out);
  }
}

// The same columns in other company, at another width, have the same bits.
TEST_F(ExpertW4a8, BitsDoNotDependOnTheCompany) {
  const Case small{8, 3, 6144, 256, 4}, large{64, 40, 6144, 256, 9};
  std::mt19937 random(3);
  const Experts gate_up(20, 512, 6144, random), down(20, 6144, 256, random);
  const Routes few = random_routes(small, random);
  std::vector<float> x = random_rows(large, random);
  Routes many;
  for (uint32_t slot = 0; slot < large.slots; ++slot) {
    std::set<uint32_t> columns = {20, 30 + slot};
    const bool is_shared = slot % 2 == 1 && slot / 2 < small.slots;
    const uint32_t first = is_shared ? few.begin[slot / 2] : 0;
    const uint32_t end = is_shared ? few.begin[slot / 2 + 1] : 0;
    for (uint32_t p = first; p < end; ++p) columns.insert(5 + few.columns[p]);
    many.add_slot(slot, columns, random);
    for (uint32_t p = first; p < end; ++p) {
      many.weights[many.begin[slot] + p - first] = few.weights[p];  // theirs are the lowest columns
    }
  }
  const std::vector<float> x_few(x.begin() + 5 * 6144, x.begin() + 8 * 6144);
  // Slot i of `few` has expert 2 i + 1, as has slot 2 i + 1 of `many`.
  const Output a = run(small, few, x_few, gate_up, down);
  const Output b = run(large, many, x, gate_up, down);
  for (uint32_t t = 0; t < small.num_columns; ++t) {
    for (uint32_t row = 0; row < 6144; ++row) {
      ASSERT_EQ(a.partials[uint64_t{t} * kReductionChunks * 6144 + row],
                b.partials[uint64_t{t + 5} * kReductionChunks * 6144 + row]);
    }
  }
}

// A cluster that takes many units, one behind the other, has each from the same ring and buffers.
TEST_F(ExpertW4a8, OneClusterGivesTheBitsOfMany) {
  for (Case c : {Case{8, 8, 6144, 256, 13}, Case{16, 9, 6144, 256, 7}, Case{32, 20, 6144, 256, 5},
                 Case{64, 64, 6144, 256, 5}, Case{8, 3, 4096, 512, 5}, Case{8, 8, 2048, 256, 29},
                 Case{8, 8, 512, 128, 29, 16}, Case{64, 33, 1536, 256, 7, 128},
                 Case{16, 16, 1024, 64, 13, 64}, Case{8, 8, 2880, 2880, 5, 360, 0, 7},
                 Case{32, 31, 2560, 288, 7, 288, 0, 7}}) {
    std::mt19937 random(c.hidden + c.width);
    const Experts gate_up(2 * c.slots, 2 * c.intermediate, c.hidden, random);
    const Experts down(2 * c.slots, c.hidden, c.intermediate, random);
    const Routes routes = random_routes(c, random);
    const std::vector<float> rows = random_rows(c, random);
    const Output many = run(c, routes, rows, gate_up, down);
    for (const uint32_t clusters : {1u, 2u, 3u}) {
      c.clusters = clusters;
      const Output few = run(c, routes, rows, gate_up, down);
      EXPECT_EQ(few.h.bytes, many.h.bytes) << c.hidden << ", " << clusters << " clusters";
      EXPECT_EQ(std::memcmp(few.partials.data(), many.partials.data(), few.partials.size() * 4), 0)
          << c.hidden << ", " << clusters << " clusters";
    }
  }
}

// A NaN and an infinity stay in their columns.
TEST_F(ExpertW4a8, NanStaysInItsColumn) {
  const Case c{8, 8, 6144, 256, 8};
  std::mt19937 random(4);
  const Experts gate_up(16, 512, 6144, random), down(16, 6144, 256, random);
  const Routes routes = random_routes(c, random);
  std::vector<float> x = random_rows(c, random);
  x[2 * 6144 + 1000] = std::numeric_limits<float>::quiet_NaN();
  x[5 * 6144 + 77] = std::numeric_limits<float>::infinity();
  const Output out = run(c, routes, x, gate_up, down);
  for (uint32_t t = 0; t < 8; ++t) {
    for (uint32_t row = 0; row < 6144; ++row) {
      ASSERT_EQ(std::isnan(out.partials[uint64_t{t} * kReductionChunks * 6144 + row]),
                t == 2 || t == 5);
    }
  }
}

// All 16 codes with all 254 scales, exactly: each column sees one element of each row.
TEST_F(ExpertW4a8, CodesAndScalesAreExact) {
  const uint32_t slots = 64, width = 64, rows = 512;
  std::mt19937 random(5);
  Experts down(slots, rows, 256, random);
  std::vector<uint8_t> h(down_input_bytes(width, 256, slots), 0);
  Routes routes;
  const auto code_of = [&](uint32_t e, uint32_t row) { return (e * rows + row) % 16; };
  const auto scale_of = [&](uint32_t e, uint32_t row) { return 1 + (e * rows + row) / 16 % 254; };
  for (uint32_t e = 0; e < slots; ++e) {
    routes.add_slot(e, {e}, random);
    const uint32_t k = e * 37 % 256;
    for (uint32_t row = 0; row < rows; ++row) {
      std::byte* matrix = down.bytes.data() + e * down.matrix_bytes;
      std::byte& pair = matrix[(row * 256 + k) / 2];
      const uint32_t code = code_of(e, row);
      pair = k % 2 == 0 ? (pair & std::byte{0xf0}) | std::byte(code)
                        : (pair & std::byte{0x0f}) | std::byte(code << 4);
      matrix[uint64_t{rows} * 128 + row * 8 + k / 32] = std::byte(scale_of(e, row));
    }
    uint8_t* piece = h.data() + e * (8 * width * 36);
    piece[k / 32 * width * 32 + e / 8 * 256 + k % 32 / 16 * 128 + e % 8 * 16 + k % 16] = 0x38;
    const float scale = kDecodedUnit / 8;  // 1/8: 6 * 2^127 / 8 is finite
    std::memcpy(piece + 8 * width * 32 + (k / 32 * width + e) * 4, &scale, 4);
  }
  Device<std::byte> pages(down.down_pages(256));
  Device<uint8_t> input(h);
  Device<float> partials(uint64_t{width} * kReductionChunks * rows);
  Device<uint32_t> words(routes.words());
  ExpertLaunch launch;
  launch.route = RouteTable::at(words.data(), slots, slots);
  launch.columns = width;
  launch.hidden = rows;
  launch.intermediate = 256;
  launch.down_ctas = 1;
  check(launch_expert_down(
      launch, {pages.data(), reinterpret_cast<std::byte*>(input.data()), partials.data(), 0},
      nullptr));
  const std::vector<float> out = partials.read();
  for (uint32_t e = 0; e < slots; ++e) {
    for (uint32_t row = 0; row < rows; ++row) {
      const double want = tensor::kE2m1Values[code_of(e, row)] *
                          std::ldexp(0.125, static_cast<int>(scale_of(e, row)) - 127);
      ASSERT_EQ(double{out[uint64_t{e} * kReductionChunks * rows + row]}, want);
    }
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
