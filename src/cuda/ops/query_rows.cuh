// The step's queries on their way from rows in f32 to operands of full attention.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_attention.h"
#include "cuda/ops/flash_products.cuh"
#include "cuda/tile/query_store.cuh"

namespace ultraspeed::cuda {

// For all lanes of a warp: row `index` of [columns, num_q_heads].
template <class Tile>
__device__ __forceinline__ void store_query(const QueryRows& rows, uint32_t index) {
  const uint32_t heads = rows.num_q_heads / rows.num_kv_heads;
  const uint32_t term_bytes = flash_group(heads) / 8 * Tile::kKeyStride;
  QueryRow<Tile> row;
  row.load(rows.queries + uint64_t{index} * rows.head_dim, rows.head_dim);
  const float scale = row.scale(rows.scale * kLog2E);
  if (threadIdx.x % 32 == 0) rows.scales[index] = scale;
  row.store(rows.operands + uint64_t{index / heads} * kFlashTerms * term_bytes, term_bytes,
            index % heads);
}

}  // namespace ultraspeed::cuda
