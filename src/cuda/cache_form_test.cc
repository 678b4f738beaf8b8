// Which caches are tiles, and what they take.
#include "cuda/cache_form.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "cuda/machine.h"

namespace ultraspeed::cuda {
namespace {

using enum CacheForm;
using program::KvCacheType;
using program::Program;

// A full and a sliding layer, 16 query heads over a kv head.
struct TileProgram {
  TileProgram() {
    program.width = 64;
    program.kv_page_positions = 64;
    program.arena_bytes = 4096;
    program.caches = {{1, 192, 128, 0}, {1, 192, 128, 1024}};
    qkv.num_q_heads = attention.num_q_heads = 16;
    qkv.num_kv_heads = attention.num_kv_heads = 1;
    attention.head_dim = 192;
    attention.v_head_dim = 128;
    attention.chunk_positions = 512;
    attention.max_chunks = 4;
    for (program::CacheId id = 0; id < 2; ++id) {
      qkv.cache = attention.cache = id;
      qkv.weight = id;
      attention.window = 128 * id;
      program.stages.push_back({"qkv", 0, qkv});
      program.stages.push_back({"attention", 0, attention});
    }
  }
  program::QkvProjOperands& writer(uint32_t cache) {
    return std::get<program::QkvProjOperands>(program.stages[2 * cache].operands);
  }
  program::AttentionOperands& reader(uint32_t cache) {
    return std::get<program::AttentionOperands>(program.stages[2 * cache + 1].operands);
  }

  Program program;
  program::QkvProjOperands qkv;
  program::AttentionOperands attention;
};

std::vector<CacheForm> forms_of(const std::vector<Program>& programs,
                                KvCacheType type = KvCacheType::kFp8) {
  return cache_forms(programs, type);
}

TEST(CacheForm, FollowsTheTypeWhereTheShapeFits) {
  const std::vector<Program> programs = {TileProgram().program};
  EXPECT_EQ(forms_of(programs, KvCacheType::kF32), (std::vector{kRows, kRows}));
  EXPECT_EQ(forms_of(programs, KvCacheType::kBf16), (std::vector{kBf16Tiles, kBf16Tiles}));
  EXPECT_EQ(forms_of(programs, KvCacheType::kFp8), (std::vector{kE4m3Tiles, kE4m3Tiles}));
}

TEST(CacheForm, TakesSmallerHeadsAndAnyGroup) {
  for (const uint32_t num_q_heads : {1u, 4u, 24u, 64u}) {
    TileProgram small;
    small.reader(0).num_q_heads = num_q_heads;
    small.reader(0).head_dim = 96;
    small.reader(0).v_head_dim = 8;
    EXPECT_EQ(forms_of({small.program}), (std::vector{kE4m3Tiles, kE4m3Tiles})) << num_q_heads;
  }
}

TEST(CacheForm, TakesDraftBlocks) {
  TileProgram drafting;
  for (const uint32_t cache : {0u, 1u}) {
    drafting.reader(cache).is_draft_block = 1;
    drafting.reader(cache).is_causal = 0;
    drafting.reader(cache).is_window_before_step = 1;
  }
  EXPECT_EQ(forms_of({drafting.program, TileProgram().program}),
            (std::vector{kE4m3Tiles, kE4m3Tiles}));
}

// What one program cannot attend to keeps its rows in all; the other cache does not care.
TEST(CacheForm, NeedsEveryProgram) {
  const std::vector<std::function<void(TileProgram&)>> changes = {
      [](TileProgram& p) { p.reader(0).head_dim = 100; },
      [](TileProgram& p) { p.reader(0).head_dim = 256; },
      [](TileProgram& p) { p.reader(0).v_head_dim = 192; },
      [](TileProgram& p) { p.reader(0).num_q_heads = 128; },
      [](TileProgram& p) {
        p.program.width = 128;
        p.reader(0).is_causal = 0;
      },
      [](TileProgram& p) {
        p.program.width = 128;
        p.reader(0).is_window_before_step = 1;
      },
      [](TileProgram& p) { p.reader(0).chunk_positions = 192; },
      [](TileProgram& p) { p.reader(0).chunk_positions = 0; },
      [](TileProgram& p) { p.reader(0).max_chunks = 1u << 23; },
      [](TileProgram& p) { p.reader(0).max_chunks = 2997; },
      [](TileProgram& p) { p.reader(0).window = 128; },
      [](TileProgram& p) { p.writer(0).weight = 7; },
      [](TileProgram& p) { p.writer(0).norm.weight = 7; },
      [](TileProgram& p) { p.writer(0).value_scale = 2; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    TileProgram changed;
    changes[i](changed);
    for (const bool is_first : {true, false}) {
      std::vector<Program> programs = {TileProgram().program, changed.program};
      if (is_first) std::swap(programs[0], programs[1]);
      EXPECT_EQ(forms_of(programs), (std::vector{kRows, kE4m3Tiles})) << i;
    }
  }
  TileProgram small_pages;
  small_pages.program.kv_page_positions = 32;
  EXPECT_EQ(forms_of({small_pages.program}), (std::vector{kRows, kE4m3Tiles}));
  TileProgram odd_ring;
  odd_ring.program.caches[1].ring_positions = 1000;
  EXPECT_EQ(forms_of({odd_ring.program}), (std::vector{kE4m3Tiles, kRows}));
  TileProgram unread;
  unread.program.stages.pop_back();
  EXPECT_EQ(forms_of({unread.program}), (std::vector{kE4m3Tiles, kRows}));
}

TEST(CacheForm, TilesTakeTheBytesOfTheirCodes) {
  const std::vector<Program> programs = {TileProgram().program};
  const program::CacheLimits limits{.num_sequences = 3, .num_kv_pages = 10};
  const uint64_t elements = (3 * 1024 + 10 * 64) * (192 + 128);
  EXPECT_EQ(cache_bytes(programs, limits, KvCacheType::kF32), 4 * elements);
  EXPECT_EQ(cache_bytes(programs, limits, KvCacheType::kBf16), 2 * elements);
  EXPECT_EQ(cache_bytes(programs, limits, KvCacheType::kFp8), elements);
}

// Rows, query operands of two terms and scales of 64 columns; partial results of 128 rows: of 3
// sequences and 64 columns at most 3 + 61 / 8 blocks, 8 chunks each, of 256 positions.
TEST(CacheForm, ScratchIsCounted) {
  const std::vector<Program> programs = {TileProgram().program};
  const program::CacheLimits limits{.num_sequences = 3, .num_kv_pages = 10};
  EXPECT_EQ(arena_bytes(programs, limits, {}), 4096u);
  const uint64_t rows = 64 * 320 * 4, queries = 64 * 16 * 192 * 2, scales = 64 * 16 * 4;
  const uint64_t partials = 10 * 8 * 128 * (128 + 2) * 4;
  EXPECT_EQ(arena_bytes(programs, limits, {.kv_cache = KvCacheType::kFp8}),
            4096 + rows + queries + scales + partials);
  EXPECT_EQ(arena_bytes(programs, limits, {.kv_cache = KvCacheType::kBf16}),
            4096 + rows + 2 * queries + scales + partials);
}

}  // namespace
}  // namespace ultraspeed::cuda
