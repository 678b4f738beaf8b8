// Attention on tensor cores against the same cache contents in binary64.
#include "cuda/ops/flash_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "cuda/flash_bound.h"
#include "cuda/gpu.h"
#include "cuda/ops/flash_attention_harness.h"

namespace ultraspeed::cuda {
namespace {

struct Attention {
  uint32_t num_q_heads = 16;
  uint32_t window = 0;
  bool is_causal = true, is_window_before_step = false;
  bool has_sinks = false;
  uint32_t chunk_positions = 512;
  uint32_t num_ctas = 132;
};

std::vector<float> random_queries(uint32_t rows, std::mt19937& random,
                                  uint32_t head_dim = kHeadDim) {
  std::normal_distribution<float> normal;
  std::vector<float> queries(uint64_t{rows} * head_dim);
  for (uint64_t i = 0; i < queries.size(); ++i) {
    queries[i] = std::ldexp(normal(random), static_cast<int>(i / head_dim % 4) - 2);
  }
  return queries;
}

constexpr float sink_of(uint32_t head) {
  return static_cast<float>(head % 7) - 2;
}

// own_rows: those of the step's columns that the cache does not have yet; empty: it has them.
std::vector<float> run(Caches& caches, const Attention& attention, const std::vector<Piece>& pieces,
                       const std::vector<float>& queries, const std::vector<float>& own_rows = {}) {
  DeviceStep step(pieces, caches.pages);
  Device<float> query(queries);
  Device<float> output(uint64_t{step.num_columns()} * attention.num_q_heads * caches.v_head_dim());
  std::vector<float> sink_values;
  for (uint32_t head = 0; head < attention.num_q_heads; ++head)
    sink_values.push_back(sink_of(head));
  Device<float> sinks(sink_values);
  uint64_t units = 0;
  for (const Piece& piece : pieces) {
    units += flash_units(piece.columns, piece.context + piece.columns,
                         attention.num_q_heads / caches.num_kv_heads(), caches.num_kv_heads(),
                         attention.chunk_positions);
  }
  if (attention.window != 0) units = 1;
  Device<float> sums(units * kFlashRows * kValueDim);
  Device<float2> states(units * kFlashRows);
  Device<uint32_t> arrivals(std::vector<uint32_t>{0, 0});
  FlashAttention launch;
  launch.step = step.data();
  launch.cache = caches.tiles();
  launch.format = caches.format();
  Device<float> rows(own_rows);
  launch.max_columns = step.num_columns() + 3;
  launch.query = query.data();
  launch.scale = 1 / std::sqrt(static_cast<float>(caches.head_dim()));
  if (!own_rows.empty()) launch.rows = rows.data();
  Device<uint8_t> operands(query_operand_bytes(caches.format(), step.num_columns(),
                                               attention.num_q_heads, caches.num_kv_heads()));
  Device<float> query_scales(uint64_t{step.num_columns()} * attention.num_q_heads);
  launch.query_operands = reinterpret_cast<const std::byte*>(operands.data());
  launch.query_scales = query_scales.data();
  check(launch_store_queries({.step = step.data(),
                              .queries = query.data(),
                              .num_columns = step.num_columns(),
                              .num_q_heads = attention.num_q_heads,
                              .num_kv_heads = caches.num_kv_heads(),
                              .head_dim = caches.head_dim(),
                              .scale = launch.scale,
                              .format = caches.format(),
                              .operands = reinterpret_cast<std::byte*>(operands.data()),
                              .scales = query_scales.data()},
                             nullptr));
  launch.follows_grid = true;
  launch.output = output.data();
  launch.sinks = attention.has_sinks ? sinks.data() : nullptr;
  launch.num_q_heads = attention.num_q_heads;
  launch.window = attention.window;
  launch.is_causal = attention.is_causal;
  launch.is_window_before_step = attention.is_window_before_step;
  launch.chunk_positions = attention.chunk_positions;
  launch.partials = {sums.data(), states.data(), arrivals.data()};
  launch.num_ctas = attention.num_ctas;
  check(launch_flash_attention(launch, nullptr));
  const std::vector<float> result = output.read();
  sums.read();
  states.read();
  rows.read();
  operands.read();
  query_scales.read();
  EXPECT_EQ(arrivals.read(), (std::vector<uint32_t>{0, 0}));
  return result;
}

void compare(Caches& caches, const Attention& attention, const std::vector<Piece>& pieces,
             const std::vector<float>& queries, const std::vector<float>& output,
             FlashErrors& errors) {
  const std::vector<uint8_t> bytes = caches.read();
  const uint32_t group = attention.num_q_heads / caches.num_kv_heads();
  uint32_t t = 0;
  for (const Piece& piece : pieces) {
    const uint32_t end = piece.context + piece.columns;
    for (uint32_t kv_head = 0; kv_head < caches.num_kv_heads(); ++kv_head) {
      std::vector<Cached> all;
      const uint32_t low = attention.window == 0 || piece.context < attention.window
                               ? 0
                               : piece.context - attention.window;
      for (uint32_t position = low; position < end; ++position) {
        all.push_back(caches.at(bytes, piece.sequence, position, kv_head));
      }
      // Of many rows, some.
      const uint32_t step = all.size() > 4000 ? 5 : 1;
      for (uint32_t i = 0; i < piece.columns * group; i += step) {
        const uint32_t column = i / group, head = kv_head * group + i % group;
        const uint32_t position = piece.context + column;
        uint32_t row_begin = 0, row_end = attention.is_causal ? position + 1 : end;
        if (attention.window != 0) {
          const uint32_t from = attention.is_window_before_step ? piece.context : position + 1;
          row_begin = from > attention.window ? from - attention.window : 0;
          if (!attention.is_causal && !attention.is_window_before_step) {
            row_end = std::min(row_end, position + attention.window);
          }
        }
        const std::vector<Cached> seen(all.begin() + (row_begin - low),
                                       all.begin() + (row_end - low));
        const double sink = sink_of(head);
        const uint64_t row = uint64_t{t + column} * attention.num_q_heads + head;
        compare_row(seen, &queries[row * caches.head_dim()],
                    1 / std::sqrt(static_cast<double>(caches.head_dim())),
                    attention.has_sinks ? &sink : nullptr, caches.format(),
                    &output[row * caches.v_head_dim()], errors);
      }
    }
    t += piece.columns;
  }
}

uint32_t columns_of(const std::vector<Piece>& pieces) {
  uint32_t count = 0;
  for (const Piece& piece : pieces) count += piece.columns;
  return count;
}

const char* name_of(KvFormat format) {
  return format == KvFormat::kE4m3 ? "e4m3" : "bf16";
}

// Twice and more of what was measured (1.2e-3 and 3.5e-6 of the row's largest output); one term
// instead of two gives 2.7e-2 and 1.9e-3.
double rms_limit(KvFormat format) {
  return format == KvFormat::kE4m3 ? 2.5e-3 : 1e-5;
}

class FlashAttentionTest : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  static void expect_agreement(const CacheShape& shape, const Attention& attention,
                               const std::vector<Piece>& pieces, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<Sequence> sequences;
    for (const Piece& piece : pieces) {
      sequences.push_back({piece.context + piece.columns, 0});
      ASSERT_EQ(piece.sequence, sequences.size() - 1);
    }
    Caches caches(shape, sequences, random);
    const std::vector<float> queries =
        random_queries(columns_of(pieces) * attention.num_q_heads, random);
    const std::vector<float> output = run(caches, attention, pieces, queries);
    FlashErrors errors;
    compare(caches, attention, pieces, queries, output, errors);
    std::printf(
        "  %s, %zu sequences, context %u, window %u: rms error %.2e, worst %.2e of "
        "the "
        "row's largest, %.3f of the bound\n",
        name_of(shape.format), pieces.size(), pieces[0].context, attention.window, errors.rms(),
        errors.worst_relative, errors.worst);
    EXPECT_LE(errors.worst, 1);
    EXPECT_LE(errors.rms(), rms_limit(shape.format));
  }
};

constexpr KvFormat kFormats[] = {KvFormat::kE4m3, KvFormat::kBf16};

TEST_F(FlashAttentionTest, AgreesWithBinary64AtManyContexts) {
  for (const KvFormat format : kFormats) {
    // A step of 128 positions may end with a tile that nobody wrote.
    for (const uint32_t context : {0u, 1u, 57u, 120u, 504u, 511u, 512u, 513u, 570u, 10000u}) {
      Attention attention;
      attention.has_sinks = context % 2 == 1;
      expect_agreement({format}, attention, {{0, context, 8}}, context);
    }
  }
}

// Sequences of different lengths in a step, other groups of heads, columns that fill no block.
TEST_F(FlashAttentionTest, AgreesWithBinary64InPackedSteps) {
  const std::vector<Piece> pieces = {
      {0, 3000, 9}, {1, 0, 1}, {2, 511, 8}, {3, 40, 3}, {4, 1023, 17}};
  for (const KvFormat format : kFormats) {
    for (const uint32_t window : {0u, 128u}) {
      Attention attention;
      attention.has_sinks = true;
      attention.window = window;
      expect_agreement({format, 1, window == 0 ? 0u : 512u}, attention, pieces, 1);
      attention.num_q_heads = 16;
      attention.chunk_positions = 256;
      expect_agreement({format, 2, window == 0 ? 0u : 512u}, attention, pieces, 2);
    }
  }
}

// Heads of fewer dimensions than a tile, and groups that fill no core matrix.
TEST_F(FlashAttentionTest, AgreesWithBinary64WithOtherHeads) {
  struct Heads {
    uint32_t head_dim, v_head_dim, num_kv_heads, num_q_heads;
  };
  for (const KvFormat format : kFormats) {
    for (const Heads& heads : {Heads{96, 64, 2, 8}, Heads{64, 64, 2, 14}, Heads{128, 128, 1, 5},
                               Heads{192, 128, 2, 6}, Heads{8, 8, 1, 1}, Heads{72, 40, 1, 48}}) {
      for (const uint32_t window : {0u, 128u, 200u}) {
        Attention attention;
        attention.has_sinks = heads.head_dim == 64;
        attention.window = window;
        attention.num_q_heads = heads.num_q_heads;
        const CacheShape shape = {format, heads.num_kv_heads, window == 0 ? 0u : 512u,
                                  heads.head_dim, heads.v_head_dim};
        expect_agreement(shape, attention, {{0, 1000, 9}, {1, 0, 3}, {2, 300, 1}}, 3);
      }
    }
  }
}

// Each row has its own window, wherever the ring's end is.
TEST_F(FlashAttentionTest, AgreesWithBinary64InWindows) {
  for (const KvFormat format : kFormats) {
    for (const uint32_t context : {0u, 1u, 60u, 127u, 128u, 250u, 255u, 256u, 511u, 700u, 5000u}) {
      Attention attention;
      attention.window = 128;
      attention.has_sinks = context % 3 != 0;
      expect_agreement({format, 1, 256}, attention, {{0, context, 8}}, context);
    }
    Attention attention;
    attention.window = 128;
    attention.is_window_before_step = true;
    attention.is_causal = false;
    for (const uint32_t context : {700u, 720u}) {  // from the first and second tile of a step on
      expect_agreement({format, 1, 256}, attention, {{0, context, 8}}, 4);
    }
    attention.is_window_before_step = false;
    expect_agreement({format, 1, 512}, attention, {{0, 700, 40}}, 5);
    attention.is_causal = true;
    for (const uint32_t window : {1u, 5u, 100u, 200u}) {
      attention.window = window;
      expect_agreement({format, 1, 512}, attention, {{0, 700, 8}}, window);
    }
  }
}

// Bits of a row do not depend on the grid, nor on other columns and sequences.
TEST_F(FlashAttentionTest, BitsDoNotDependOnTheCompany) {
  for (const KvFormat format : kFormats) {
    for (const uint32_t window : {0u, 128u, 200u}) {
      std::mt19937 random(9);
      Caches caches({format, 1, window == 0 ? 0u : 1024u}, {{10030, 0}, {600, 0}, {9, 0}}, random);
      Attention attention;
      attention.window = window;
      attention.has_sinks = true;
      const std::vector<Piece> pieces = {{2, 0, 5}, {0, 10000, 30}, {1, 580, 20}};
      const std::vector<float> queries = random_queries(55 * 16, random);
      const std::vector<float> want = run(caches, attention, pieces, queries);
      for (const uint32_t ctas : {1u, 7u, 131u}) {
        Attention other = attention;
        other.num_ctas = ctas;
        EXPECT_EQ(run(caches, other, pieces, queries), want) << ctas << " CTAs";
      }
      // Pieces of the same columns alone: {sequence, first column of the step, of the sequence}.
      const auto expect_same = [&](const std::vector<Piece>& alone, uint32_t first) {
        const uint32_t columns = columns_of(alone);
        const std::vector<float> of_alone(
            queries.begin() + uint64_t{first} * 16 * kHeadDim,
            queries.begin() + uint64_t{first + columns} * 16 * kHeadDim);
        const std::vector<float> got = run(caches, attention, alone, of_alone);
        EXPECT_TRUE(
            std::equal(got.begin(), got.end(), want.begin() + uint64_t{first} * 16 * kValueDim))
            << "columns from " << first;
      };
      expect_same({{2, 0, 5}}, 0);
      expect_same({{0, 10000, 8}}, 5);
      expect_same({{0, 10003, 8}}, 8);
      expect_same({{0, 10017, 1}}, 22);
      expect_same({{0, 10000, 30}}, 5);
      expect_same({{1, 580, 20}}, 35);
      expect_same({{1, 583, 3}}, 38);
    }
  }
}

// Steps of several launches, which cut sequences in two, and their ring's wrap.
TEST_F(FlashAttentionTest, WideStepsHaveTheBitsOfNarrowOnes) {
  for (const KvFormat format : kFormats) {
    for (const uint32_t window : {0u, 128u}) {
      std::mt19937 random(13);
      Caches caches({format, 2, window == 0 ? 0u : 512u}, {{900, 0}, {40, 0}, {3, 0}}, random);
      Attention attention;
      attention.window = window;
      attention.has_sinks = true;
      const std::vector<Piece> pieces = {{1, 0, 40}, {0, 790, 110}, {2, 0, 3}};
      const std::vector<float> queries = random_queries(153 * 16, random);
      const std::vector<float> want = run(caches, attention, pieces, queries);
      for (uint32_t t = 40; t < 150; t += 10) {
        const std::vector<float> of_alone(queries.begin() + uint64_t{t} * 16 * kHeadDim,
                                          queries.begin() + uint64_t{t + 10} * 16 * kHeadDim);
        const auto got = run(caches, attention, {{0, 750 + t, 10}}, of_alone);
        EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin() + uint64_t{t} * 16 * kValueDim))
            << "columns from " << t;
      }
    }
  }
}

TEST_F(FlashAttentionTest, RefusesChunksThatCutSteps) {
  FlashAttention launch;
  launch.num_q_heads = 16;
  launch.cache.page_positions = 64;
  launch.max_columns = 1;
  launch.num_ctas = 1;
  for (const uint32_t chunk_positions : {0u, 64u, 192u}) {
    launch.chunk_positions = chunk_positions;
    EXPECT_EQ(launch_flash_attention(launch, nullptr), cudaErrorInvalidValue) << chunk_positions;
  }
}

// A NaN in a position's keys reaches those that see it, and nobody else.
TEST_F(FlashAttentionTest, NanReachesThoseThatSeeIt) {
  for (const KvFormat format : kFormats) {
    for (const uint32_t window : {0u, 128u}) {
      std::mt19937 random(11);
      Caches caches({format, 1, window == 0 ? 0u : 256u}, {{708, 0}}, random);
      caches.write({0, 700, 8}, random, 703);
      Attention attention;
      attention.window = window;
      const std::vector<float> queries = random_queries(8 * 16, random);
      const std::vector<float> output = run(caches, attention, {{0, 700, 8}}, queries);
      for (uint32_t i = 0; i < output.size(); ++i) {
        ASSERT_EQ(std::isnan(output[i]), i / (16 * kValueDim) >= 3) << "element " << i;
      }
    }
  }
}

// A step's own rows come to the same cache and give the same bits as rows that were there before.
TEST_F(FlashAttentionTest, OwnRowsAreAttendedToAsTheCacheKeepsThem) {
  for (const KvFormat format : kFormats) {
    for (const uint32_t window : {128u, 37u}) {
      for (const uint32_t num_kv_heads : {1u, 2u}) {
        const CacheShape shape{format, num_kv_heads, 512};
        const std::vector<Piece> pieces = {{0, 1000, 8}, {1, 0, 3}, {2, 62, 1}, {3, 61, 70}};
        const auto fill = [&](uint32_t seed) {
          std::mt19937 random(seed);
          std::vector<Sequence> sequences;
          for (const Piece& piece : pieces) sequences.push_back({piece.context, piece.columns});
          return Caches(shape, sequences, random);
        };
        std::mt19937 random(31);
        Attention attention;
        attention.window = window;
        attention.num_q_heads = 16 * num_kv_heads;
        const auto queries = random_queries(columns_of(pieces) * attention.num_q_heads, random);
        Caches before = fill(32), given = fill(32);
        std::vector<float> rows;
        for (const Piece& piece : pieces) {
          // Column 5 of the first piece has a NaN, in KV head 0.
          const int64_t nan_position = piece.context == 1000 ? 1005 : -1;
          const std::mt19937 same = random;
          before.write(piece, random, nan_position);
          random = same;
          const auto more = given.random_rows(piece, random, nan_position);
          rows.insert(rows.end(), more.begin(), more.end());
        }
        const auto want = run(before, attention, pieces, queries);
        const auto got = run(given, attention, pieces, queries, rows);
        const uint64_t size = uint64_t{attention.num_q_heads} * kValueDim;
        for (uint64_t i = 0; i < want.size(); ++i) {
          const uint64_t column = i / size;
          const bool is_head_0 = i % size < size / num_kv_heads;
          ASSERT_EQ(std::isnan(want[i]), is_head_0 && column >= 5 && column < 8) << i;
          if (!std::isnan(want[i])) {
            ASSERT_EQ(got[i], want[i]) << "window " << window << ", " << i;
          } else {
            ASSERT_TRUE(std::isnan(got[i])) << i;
          }
        }
        EXPECT_EQ(given.read(), before.read()) << "window " << window;
      }
    }
  }
}

// What short windows do with `mma`, full attention does with wgmma: in bf16 with the same bits,
// where both see the same.
TEST_F(FlashAttentionTest, ShortWindowsHaveTheBitsOfFullAttention) {
  for (const uint32_t num_q_heads : {8u, 16u, 32u, 64u}) {
    for (const uint32_t context : {0u, 1u, 57u, 64u, 100u, 120u}) {
      std::mt19937 random(context + 41);
      Caches paged({KvFormat::kBf16, 1, 0}, {{context + 8, 0}}, random);
      random.seed(context + 41);
      Caches ring({KvFormat::kBf16, 1, 192}, {{context + 8, 0}}, random);
      Attention attention;
      attention.num_q_heads = num_q_heads;
      random.seed(43);
      const std::vector<float> queries = random_queries(8 * num_q_heads, random);
      const auto want = run(paged, attention, {{0, context, 8}}, queries);
      attention.window = 128;
      EXPECT_EQ(run(ring, attention, {{0, context, 8}}, queries), want)
          << num_q_heads << " heads, context " << context;
    }
  }
}

// The definition of tile/kv_tile.h.
TEST_F(FlashAttentionTest, RowsAreRoundedAsDefined) {
  for (const KvFormat format : kFormats) {
    std::mt19937 random(12);
    Caches caches({format, 2, 0}, {{0, 0}, {130, 0}}, random);
    const std::vector<uint8_t> bytes = caches.read();
    const auto rounded = [&](float x, float scale) {
      if (format == KvFormat::kBf16)
        return double{tensor::bf16_to_float(tensor::bf16_from_float(x))};
      return double{tensor::e4m3_to_float(tensor::e4m3_from_float(x / scale))} * scale;
    };
    for (uint32_t position = 0; position < 130; ++position) {
      for (uint32_t head = 0; head < 2; ++head) {
        const Cached cached = caches.at(bytes, 1, position, head);
        const float* key = &caches.last_keys[(position * 2 + head) * kHeadDim];
        const float* value = &caches.last_values[(position * 2 + head) * kValueDim];
        for (uint32_t d = 0; d < kHeadDim; ++d) {
          ASSERT_EQ(cached.key[d], rounded(key[d], scales_of(format, head).key));
        }
        for (uint32_t d = 0; d < kValueDim; ++d) {
          ASSERT_EQ(cached.value[d], rounded(value[d], scales_of(format, head).value));
        }
      }
    }
  }
}

}  // namespace
}  // namespace ultraspeed::cuda
