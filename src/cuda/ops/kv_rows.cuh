// The step's own keys and values on their way from rows in f32 to a cache of tiles.
#pragma once

#include <cstdint>

#include "cuda/tile/kv_store.cuh"
#include "cuda/view.h"

namespace ultraspeed::cuda {

// For all lanes of a warp: brings a row of the step's column to its slot in the cache.
template <class Tile>
__device__ __forceinline__ void store_to_cache(const KvRow<Tile>& row, const StepView& step,
                                               const KvTiles& cache, uint32_t t, uint32_t head) {
  const StepColumn& column = step.columns[t];
  const uint64_t tile = cache.tile(column.sequence, step.pages + column.first_page, head,
                                   column.position / kKvTilePositions);
  row.store(cache.tiles + tile * Tile::kBytes, column.position % kKvTilePositions,
            cache.scale(head));
}

// The same for row `index` of [columns from first_column on, num_kv_heads].
template <class Tile>
__device__ __forceinline__ void copy_to_cache(const float* rows, const StepView& step,
                                              const KvTiles& cache, uint32_t first_column,
                                              uint32_t index) {
  const uint32_t t = first_column + index / cache.num_kv_heads, head = index % cache.num_kv_heads;
  KvRow<Tile> row;
  row.load(rows, cache, t, head);
  store_to_cache(row, step, cache, t, head);
}

}  // namespace ultraspeed::cuda
