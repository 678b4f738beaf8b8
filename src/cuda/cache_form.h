// In which form each KV cache of a machine lies in device memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/tile/kv_tile.h"
#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/program.h"

namespace ultraspeed::cuda {

enum class CacheForm : uint8_t {
  kRows,       // f32 (view.h, Cache), rounded where the type is not f32
  kE4m3Tiles,  // tile/kv_tile.h
  kBf16Tiles,
};

constexpr KvFormat tile_format(CacheForm form) {
  return form == CacheForm::kBf16Tiles ? KvFormat::kBf16 : KvFormat::kE4m3;
}

// [CacheId]. Tiles where tensor cores attend to the cache in every program (flash_stages.h), rows
// where one of them has no kernel for that. REQUIRES: `programs` are alike in weights and caches.
std::vector<CacheForm> cache_forms(std::span<const program::Program> programs,
                                   program::KvCacheType type);

// Of a cache on one rank.
uint64_t cache_bytes(const program::Program& program, program::CacheId id, CacheForm form,
                     const program::CacheLimits& limits);

// Tiles of a page or a ring of all kv heads, which lie one behind the other. REQUIRES: tiles.
inline uint64_t tiles_of_piece(const program::Program& program, program::CacheId id) {
  const program::CacheDecl& decl = program.caches[id];
  const uint32_t positions =
      decl.ring_positions != 0 ? decl.ring_positions : program.kv_page_positions;
  return uint64_t{decl.num_kv_heads} * (positions / kKvTilePositions);
}

}  // namespace ultraspeed::cuda
