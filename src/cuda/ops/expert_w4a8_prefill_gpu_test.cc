// The prefill form of the expert products has the bits of the decode kernels, and in down those of
// the definition (expert_w4a8.h) computed on the host.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/ops/expert_test_data.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/ptx/wgmma_model.h"
#include "cuda/tile/e4m3_operand.h"
#include "program/operand_ids.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {
namespace {

using program::kReductionChunks;
using program::RouteTable;

struct PrefillCase {
  uint32_t num_tokens, hidden, intermediate;
  uint32_t width = 0;  // tokens that there is room for; 0: num_tokens, which the host knows
};

// h of the tiles, where gate/up puts it.
struct PrefillH {
  PrefillH(std::vector<uint8_t> all_bytes, const Routes& routes, uint32_t intermediate_size)
      : bytes(std::move(all_bytes)), intermediate(intermediate_size) {
    uint32_t first = 0;
    for (uint32_t slot = 0; slot < routes.slots(); ++slot) {
      const uint32_t pairs = routes.begin[slot + 1] - routes.begin[slot];
      for (uint32_t i = 0; i < pairs; ++i) {
        const uint32_t columns = tile_columns(pairs), tile = i / columns;
        const uint32_t of_tile = std::min(columns, pairs - tile * columns);
        places.push_back({first + tile * columns, (of_tile + 7) / 8 * 8, i % columns});
      }
      if (pairs == 0) continue;
      const uint32_t of_last = pairs - (slot_tiles(pairs) - 1) * tile_columns(pairs);
      first += (slot_tiles(pairs) - 1) * tile_columns(pairs) + (of_last + 7) / 8 * 8;
    }
    num_columns = first;
  }

  uint8_t code(uint32_t pair, uint32_t k) const {
    const Place& at = places[pair];
    return bytes[chunk(pair, k) + k % 256 / 32 * at.width * 32 + at.column / 8 * 256 +
                 k % 32 / 16 * 128 + at.column % 8 * 16 + k % 16];
  }
  float scale(uint32_t pair, uint32_t k) const {
    const Place& at = places[pair];
    float value = 0;
    std::memcpy(&value,
                &bytes[chunk(pair, k) + 256 * at.width + (k % 256 / 32 * at.width + at.column) * 4],
                4);
    return value;
  }
  // Of value / kDecodedUnit: what decoded weights are multiplied with is larger by that.
  double value(uint32_t pair, uint32_t k) const {
    return tensor::e4m3_to_float(code(pair, k)) * double{scale(pair, k)} / kDecodedUnit;
  }

  std::vector<uint8_t> bytes;
  uint32_t intermediate;
  uint32_t num_columns = 0;

 private:
  struct Place {
    uint32_t first, width, column;
  };
  uint64_t chunk(uint32_t pair, uint32_t k) const {
    const Place& at = places[pair];
    return uint64_t{at.first} * intermediate / 32 * 36 + k / 256 * 288 * at.width;
  }
  std::vector<Place> places;  // of a pair
};

struct PrefillOutput {
  std::vector<uint8_t> codes, scales;  // of x
  PrefillH h;
  std::vector<float> activation, partials;
};

class ExpertPrefillTest : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  static uint32_t most_experts(const Routes& routes) {
    std::vector<uint32_t> count(4096, 0);
    for (const uint32_t token : routes.columns) ++count[token];
    return *std::max_element(count.begin(), count.end());
  }

  // x: [num_tokens, hidden]
  static PrefillOutput run(const PrefillCase& c, const Routes& routes, const std::vector<float>& x,
                           const Experts& gate_up, const Experts& down, uint32_t first_chunk = 0) {
    const uint32_t max_slots = routes.slots() + 3, max_pairs = routes.pairs() + 5;
    ExpertPrefill launch;
    const uint32_t width = c.width == 0 ? c.num_tokens : c.width;
    launch.num_tokens = width;
    Device<uint32_t> num_columns(std::vector<uint32_t>{c.num_tokens});
    if (c.width != 0) launch.num_columns = num_columns.data();
    launch.experts_per_token = most_experts(routes);
    launch.max_pairs = max_pairs;
    launch.hidden = c.hidden;
    launch.intermediate = c.intermediate;
    int ctas = 0;
    check(cudaDeviceGetAttribute(&ctas, cudaDevAttrMultiProcessorCount, 0));
    launch.num_ctas = static_cast<uint32_t>(ctas);
    Device<uint32_t> words(routes.words());
    launch.route = RouteTable::at(words.data(), routes.slots(), routes.pairs());
    const uint32_t token_pairs = width * launch.experts_per_token;
    Device<uint32_t> tiles(ExpertTiles::words(max_slots, max_pairs, token_pairs));
    launch.tiles = ExpertTiles::at(tiles.data(), max_slots, max_pairs);
    Device<float> rows(x);
    Device<uint8_t> codes(uint64_t{c.num_tokens} * c.hidden);
    Device<uint8_t> scales(uint64_t{c.num_tokens} * c.hidden / 32);
    Device<uint8_t> h(prefill_h_bytes(max_slots, max_pairs, c.intermediate));
    Device<float> activation(uint64_t{routes.pairs()} * c.intermediate);
    const uint32_t section_groups = prefill_section_groups(launch);
    Device<float> products(prefill_product_bytes(launch, section_groups) / 4);
    Device<SectionCounters> counters(c.hidden / 128);
    Device<float> partials(uint64_t{width} * kReductionChunks * c.hidden);
    Device<std::byte> gate_up_pages(gate_up.gate_up_pages()), down_pages(down.down_pages(256));
    const PrefillInput input = {reinterpret_cast<std::byte*>(codes.data()),
                                reinterpret_cast<std::byte*>(scales.data())};
    auto* h_bytes = reinterpret_cast<std::byte*>(h.data());
    check(launch_prefill_quantize(launch, {.rows = rows.data()}, input, nullptr));
    check(launch_expert_tiles(launch, nullptr));
    check(launch_prefill_gate_up(launch, {gate_up_pages.data(), input, h_bytes, activation.data()},
                                 nullptr));
    check(launch_prefill_down(launch,
                              {down_pages.data(), h_bytes, products.data(), counters.data(),
                               partials.data(), first_chunk, section_groups},
                              nullptr));
    static_cast<void>(products.read());  // its guard words
    static_cast<void>(tiles.read());
    return {codes.read(), scales.read(), PrefillH(h.read(), routes, c.intermediate),
            activation.read(), partials.read()};
  }

  static std::vector<float> random_x(const PrefillCase& c, std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> x(uint64_t{c.num_tokens} * c.hidden);
    for (uint64_t i = 0; i < x.size(); ++i) {
      x[i] = std::ldexp(normal(random), static_cast<int>(i / 32 * 7 % 9) - 4);
    }
    std::fill_n(x.begin(), 32, 0.0F);
    return x;
  }

  // A slot for each count: so many tokens, chosen at random.
  static Routes routes_of(const std::vector<uint32_t>& counts, uint32_t num_tokens,
                          std::mt19937& random) {
    Routes routes;
    std::vector<uint32_t> tokens(num_tokens);
    std::iota(tokens.begin(), tokens.end(), 0);
    for (uint32_t slot = 0; slot < counts.size(); ++slot) {
      std::shuffle(tokens.begin(), tokens.end(), random);
      routes.add_slot(2 * slot + 1, {tokens.begin(), tokens.begin() + counts[slot]}, random);
    }
    return routes;
  }
};

// What the decode kernels compute of the tokens [first, first + 64), and where: pairs of `routes`.
struct DecodeBatch {
  DecodeBatch(const Routes& routes, uint32_t first_token, uint32_t tokens) {
    for (uint32_t slot = 0; slot < routes.slots(); ++slot) {
      const size_t before = pairs.size();
      for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; ++p) {
        if (routes.columns[p] < first_token || routes.columns[p] >= first_token + tokens) continue;
        pairs.push_back(p);
        of_batch.columns.push_back(routes.columns[p] - first_token);
        of_batch.weights.push_back(routes.weights[p]);
      }
      if (pairs.size() == before) continue;
      of_batch.experts.push_back(routes.experts[slot]);
      of_batch.begin.push_back(static_cast<uint32_t>(pairs.size()));
    }
  }
  std::vector<uint32_t> pairs;
  Routes of_batch;
};

// Compares h of all pairs, and the partial sums from first_chunk on, with those of the decode
// kernels at width 64.
void expect_decode_bits(const PrefillCase& c, const Routes& routes, const std::vector<float>& x,
                        const Experts& gate_up, const Experts& down, const PrefillOutput& out,
                        uint32_t first_chunk) {
  constexpr uint32_t kWidth = 64;
  Device<std::byte> pages(gate_up.gate_up_pages()), down_pages(down.down_pages(256));
  uint32_t compared = 0;
  for (uint32_t first = 0; first < c.num_tokens; first += kWidth) {
    const uint32_t tokens = std::min(kWidth, c.num_tokens - first);
    const DecodeBatch batch(routes, first, tokens);
    const uint32_t slots = batch.of_batch.slots();
    if (slots == 0) continue;
    Device<float> rows(std::vector<float>(x.begin() + int64_t{first} * c.hidden,
                                          x.begin() + int64_t{first + tokens} * c.hidden));
    Device<std::byte> input(gate_up_input_bytes(kWidth, c.hidden));
    Device<uint8_t> h(down_input_bytes(kWidth, c.intermediate, slots));
    Device<float> activation(batch.pairs.size() * c.intermediate);
    Device<uint32_t> words(batch.of_batch.words());
    Device<uint32_t> num_columns(std::vector<uint32_t>{tokens});
    ExpertLaunch launch;
    launch.num_columns = num_columns.data();
    launch.route = RouteTable::at(words.data(), slots, batch.of_batch.pairs());
    launch.columns = kWidth;
    launch.hidden = c.hidden;
    launch.intermediate = c.intermediate;
    check(set_clusters(&launch));
    check(launch_quantize(launch, {rows.data(), nullptr, 0, input.data()}, nullptr));
    check(launch_expert_gate_up(
        launch,
        {pages.data(), input.data(), reinterpret_cast<std::byte*>(h.data()), activation.data()},
        nullptr));
    Device<float> partials(uint64_t{tokens} * kReductionChunks * c.hidden);
    check(launch_expert_down(
        launch,
        {down_pages.data(), reinterpret_cast<std::byte*>(h.data()), partials.data(), first_chunk},
        nullptr));
    const uint64_t first_sum = uint64_t{first} * kReductionChunks * c.hidden;
    const std::vector<float> sums = partials.read();
    EXPECT_EQ(std::memcmp(sums.data(), &out.partials[first_sum], sums.size() * 4), 0)
        << "down, tokens from " << first;
    const std::vector<float> want = activation.read();
    const std::vector<uint8_t> want_h = h.read();
    for (uint32_t slot = 0, p = 0; slot < slots; ++slot) {
      for (; p < batch.of_batch.begin[slot + 1]; ++p, ++compared) {
        const uint32_t pair = batch.pairs[p], column = batch.of_batch.columns[p];
        ASSERT_EQ(std::memcmp(&want[uint64_t{p} * c.intermediate],
                              &out.activation[uint64_t{pair} * c.intermediate], c.intermediate * 4),
                  0)
            << "pair " << pair;
        for (uint32_t k = 0; k < c.intermediate; ++k) {
          const uint8_t* piece =
              &want_h[(uint64_t{slot} * c.intermediate / 256 + k / 256) * (8 * kWidth * 36)];
          ASSERT_EQ(out.h.code(pair, k), piece[k % 256 / 32 * kWidth * 32 + column / 8 * 256 +
                                               k % 32 / 16 * 128 + column % 8 * 16 + k % 16]);
          const float scale = out.h.scale(pair, k);
          ASSERT_EQ(std::memcmp(&scale,
                                piece + 8 * kWidth * 32 + (k % 256 / 32 * kWidth + column) * 4, 4),
                    0);
        }
      }
    }
  }
  EXPECT_EQ(compared, routes.pairs());
}

// An expert's row as e4m3 codes of value / kDecodedUnit, and its scales.
struct WeightRow {
  WeightRow(const Experts& experts, uint32_t expert, uint32_t row)
      : codes(experts.cols), scales(experts.cols / 32) {
    const auto* matrix =
        reinterpret_cast<const uint8_t*>(experts.bytes.data() + expert * experts.matrix_bytes);
    for (uint32_t k = 0; k < experts.cols; ++k) {
      const uint8_t code = tensor::mxfp4_code(matrix + uint64_t{row} * experts.cols / 2, k);
      codes[k] = tensor::e4m3_from_float(tensor::kE2m1Values[code] / kDecodedUnit);
    }
    for (uint32_t block = 0; block < scales.size(); ++block) {
      scales[block] =
          tensor::e8m0_to_float(matrix[uint64_t{experts.rows} * experts.cols / 2 +
                                       (uint64_t{row} * experts.cols + block * 32) / 32]);
    }
  }
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

// y of expert_w4a8_prefill.h, bit by bit, and in binary64 with the sum of its terms' magnitudes.
struct HostProduct {
  HostProduct(const WeightRow& row, const PrefillH& h, uint32_t pair, uint32_t chunk) {
    for (uint32_t block = 0; block < 8; ++block) {
      uint8_t b[32];
      const uint32_t first = chunk * 256 + block * 32;
      for (uint32_t k = 0; k < 32; ++k) {
        b[k] = h.code(pair, first + k);
        const double term = double{tensor::e4m3_to_float(row.codes[first + k])} *
                            tensor::e4m3_to_float(b[k]) * h.scale(pair, first) *
                            row.scales[first / 32];
        exact += term;
        magnitude += std::fabs(term);
      }
      const auto d = static_cast<float>(model_product(&row.codes[first], b));
      y = std::fmaf(d * h.scale(pair, first), row.scales[first / 32], y);
    }
  }
  float y = 0;
  double exact = 0, magnitude = 0;
};

// Compares every `step`-th row of the partial sums with the host's.
void expect_down_bits(const PrefillCase& c, const Routes& routes, const Experts& down,
                      const PrefillOutput& out, uint32_t first_chunk, uint32_t step) {
  const auto at = [&](uint32_t token, uint32_t chunk, uint32_t row) {
    return out.partials[(uint64_t{token} * kReductionChunks + chunk) * c.hidden + row];
  };
  double worst = 0;
  for (uint32_t chunk = 0; chunk < c.intermediate / 256; ++chunk) {
    for (uint32_t row = chunk; row < c.hidden; row += step) {
      std::vector<float> sums(c.num_tokens, 0.0F);
      std::vector<double> exact(c.num_tokens, 0), bound(c.num_tokens, 1e-30);
      for (uint32_t slot = 0; slot < routes.slots(); ++slot) {
        const WeightRow weights(down, routes.experts[slot], row);
        for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; ++p) {
          const HostProduct product(weights, out.h, p, chunk);
          sums[routes.columns[p]] += product.y;
          exact[routes.columns[p]] += product.exact;
          // A product cuts off at most 64 * 2^-13 of its largest term; the rest is binary32.
          bound[routes.columns[p]] += product.magnitude * (64 * 0x1p-13 + 32 * 0x1p-24);
        }
      }
      for (uint32_t token = 0; token < c.num_tokens; ++token) {
        const float got = at(token, first_chunk + chunk, row);
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(sums[token]))
            << "token " << token << " row " << row << ": " << got << ", not " << sums[token];
        worst = std::max(worst, std::fabs(got - exact[token]) / bound[token]);
      }
    }
  }
  std::printf("  down: worst error %.4f of the bound\n", worst);
  EXPECT_LE(worst, 1);
  for (uint32_t chunk = 0; chunk < kReductionChunks; ++chunk) {
    if (chunk >= first_chunk && chunk < first_chunk + c.intermediate / 256) continue;
    for (uint32_t token = 0; token < c.num_tokens; token += 7) {
      for (uint32_t row = 0; row < c.hidden; ++row) {
        ASSERT_EQ(std::bit_cast<uint32_t>(at(token, chunk, row)), kPoison);
      }
    }
  }
}

TEST_F(ExpertPrefillTest, HasTheBitsOfDecodeAndOfItsDefinition) {
  const PrefillCase c{300, 6144, 256};
  std::mt19937 random(11);
  const Routes routes = routes_of({0, 1, 7, 8, 9, 64, 65, 300, 31, 40, 56, 24}, 300, random);
  const Experts gate_up(2 * routes.slots(), 2 * c.intermediate, c.hidden, random);
  const Experts down(2 * routes.slots(), c.hidden, c.intermediate, random);
  const std::vector<float> x = random_x(c, random);
  const PrefillOutput out = run(c, routes, x, gate_up, down, 3);
  expect_decode_bits(c, routes, x, gate_up, down, out, 3);
  expect_down_bits(c, routes, down, out, 3, 97);

  // gate/up against binary64, a few of it
  double worst = 0;
  for (uint32_t slot = 0; slot < routes.slots(); slot += 2) {
    for (uint32_t p = routes.begin[slot]; p < routes.begin[slot + 1]; p += 41) {
      for (uint32_t neuron = p % 17; neuron < c.intermediate; neuron += 29) {
        double sums[2] = {}, bounds[2] = {};
        for (uint32_t part = 0; part < 2; ++part) {
          const uint32_t row = part * c.intermediate + neuron;
          for (uint32_t k = 0; k < c.hidden; ++k) {
            const uint64_t i = uint64_t{routes.columns[p]} * c.hidden + k;
            const double scale = std::ldexp(1.0, out.scales[i / 32] - 127 - 6);
            const double term = gate_up.at(routes.experts[slot], row, k) *
                                tensor::e4m3_to_float(out.codes[i]) * scale;
            sums[part] += term;
            bounds[part] += std::fabs(term) * (64 * 0x1p-13 + c.hidden / 32 * 0x1p-24);
          }
        }
        const double silu = sums[0] / (1 + std::exp(-sums[0]));
        const double bound = 1.1 * bounds[0] * (std::fabs(sums[1]) + bounds[1]) +
                             std::fabs(silu) * bounds[1] + std::fabs(silu * sums[1]) * 0x1p-21;
        const double got = out.activation[uint64_t{p} * c.intermediate + neuron];
        worst = std::max(worst, std::fabs(got - silu * sums[1]) / bound);
      }
    }
  }
  std::printf("  h: worst error %.4f of the bound\n", worst);
  EXPECT_LE(worst, 1);
}

TEST_F(ExpertPrefillTest, TwoChunksAndAnotherWidth) {
  const PrefillCase c{130, 2048, 512};
  std::mt19937 random(12);
  const Routes routes = routes_of({3, 130, 48, 16, 100}, 130, random);
  const Experts gate_up(2 * routes.slots(), 2 * c.intermediate, c.hidden, random);
  const Experts down(2 * routes.slots(), c.hidden, c.intermediate, random);
  const std::vector<float> x = random_x(c, random);
  const PrefillOutput out = run(c, routes, x, gate_up, down, 6);
  expect_decode_bits(c, routes, x, gate_up, down, out, 6);
  expect_down_bits(c, routes, down, out, 6, 61);

  // With room for more tokens than it has, a step reads and writes nothing of the others.
  const PrefillOutput part = run({130, 2048, 512, 300}, routes, x, gate_up, down, 6);
  EXPECT_EQ(part.codes, out.codes);
  EXPECT_EQ(part.scales, out.scales);
  const size_t size = out.partials.size();
  ASSERT_EQ(part.partials.size(), size / 130 * 300);
  EXPECT_EQ(std::memcmp(part.partials.data(), out.partials.data(), size * 4), 0);
  for (size_t i = size; i < part.partials.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(part.partials[i]), kPoison) << i;
  }
}

// A token alone has the bits that it has among 600, with many live experts.
TEST_F(ExpertPrefillTest, BitsDoNotDependOnTheCompany) {
  const PrefillCase large{600, 2048, 256}, small{1, 2048, 256};
  constexpr uint32_t kSlots = 48;
  std::mt19937 random(13);
  const Experts gate_up(2 * kSlots, 512, 2048, random), down(2 * kSlots, 2048, 256, random);
  std::vector<uint32_t> counts(kSlots);
  for (uint32_t& count : counts) count = static_cast<uint32_t>(random() % 200);
  const Routes many = routes_of(counts, large.num_tokens, random);
  const std::vector<float> x = random_x(large, random);
  const PrefillOutput all = run(large, many, x, gate_up, down);
  for (const uint32_t token : {0u, 63u, 599u}) {
    Routes one;
    for (uint32_t slot = 0; slot < many.slots(); ++slot) {
      for (uint32_t p = many.begin[slot]; p < many.begin[slot + 1]; ++p) {
        if (many.columns[p] != token) continue;
        one.add_slot(many.experts[slot], {0}, random);
        one.weights.back() = many.weights[p];
      }
    }
    ASSERT_GT(one.slots(), 1u);
    const std::vector<float> row(x.begin() + token * 2048, x.begin() + (token + 1) * 2048);
    const PrefillOutput alone = run(small, one, row, gate_up, down);
    ASSERT_EQ(std::memcmp(alone.partials.data(),
                          &all.partials[uint64_t{token} * kReductionChunks * 2048], 2048 * 4),
              0);
  }
}

// A NaN and an infinity stay with their tokens; a token without experts has zeros.
TEST_F(ExpertPrefillTest, NanStaysWithItsToken) {
  const PrefillCase c{100, 2048, 256};
  std::mt19937 random(14);
  const Experts gate_up(16, 512, 2048, random), down(16, 2048, 256, random);
  Routes routes;
  std::set<uint32_t> tokens;
  for (uint32_t t = 0; t < 99; ++t) tokens.insert(t);
  for (uint32_t slot = 0; slot < 8; ++slot) routes.add_slot(2 * slot, tokens, random);
  std::vector<float> x = random_x(c, random);
  x[2 * 2048 + 1000] = std::numeric_limits<float>::quiet_NaN();
  x[77 * 2048 + 77] = std::numeric_limits<float>::infinity();
  const PrefillOutput out = run(c, routes, x, gate_up, down);
  for (uint32_t t = 0; t < 100; ++t) {
    for (uint32_t row = 0; row < 2048; ++row) {
      const float value = out.partials[uint64_t{t} * kReductionChunks * 2048 + row];
      ASSERT_EQ(std::isnan(value), t == 2 || t == 77) << "token " << t;
      if (t == 99) {
        ASSERT_EQ(std::bit_cast<uint32_t>(value), 0u);
      }
    }
  }
}

// x normalised and in blocks of equal scale and codes, as the decode kernels' operand has it.
TEST_F(ExpertPrefillTest, QuantisesAsDecodeDoes) {
  const PrefillCase c{64, 2048, 256};
  std::mt19937 random(15);
  std::vector<float> x = random_x(c, random);
  x[5 * 2048 + 3] = std::numeric_limits<float>::infinity();
  for (uint32_t k = 64; k < 96; ++k) x[k] = std::ldexp(1.0F, -140);  // subnormals
  Device<float> rows(x);
  std::vector<float> norm_weight(2048);
  for (float& w : norm_weight) w = std::normal_distribution<float>()(random);
  Device<float> weight(norm_weight);
  const float* const norms[] = {nullptr, weight.data()};
  for (const float* norm : norms) {
    Device<uint8_t> codes(64 * 2048), scales(64 * 64), operand(gate_up_input_bytes(64, 2048));
    ExpertPrefill launch;
    launch.num_tokens = 64;
    launch.hidden = 2048;
    check(launch_prefill_quantize(
        launch, {rows.data(), norm, 1e-5F},
        {reinterpret_cast<std::byte*>(codes.data()), reinterpret_cast<std::byte*>(scales.data())},
        nullptr));
    ExpertLaunch decode;
    decode.columns = 64;
    decode.hidden = 2048;
    check(launch_quantize(
        decode, {rows.data(), norm, 1e-5F, reinterpret_cast<std::byte*>(operand.data())}, nullptr));
    const auto got = codes.read(), got_scales = scales.read(), want = operand.read();
    for (uint32_t t = 0; t < 64; ++t) {
      for (uint32_t k = 0; k < 2048; ++k) {
        ASSERT_EQ(got[t * 2048 + k],
                  want[k / 32 * 2048 + t / 8 * 256 + k % 32 / 16 * 128 + t % 8 * 16 + k % 16]);
        float scale = 0;
        std::memcpy(&scale, &want[64 * 2048 + (k / 32 * 64 + t) * 4], 4);
        ASSERT_EQ(std::ldexp(1.0F, got_scales[t * 64 + k / 32] - 127), scale);
      }
    }
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
