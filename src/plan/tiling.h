// How work is cut into tiles: plain functions of shapes and the number of workers. The cut never
// changes a result (docs/numerics.md), only who computes what. Internal to plan/.
#pragma once

#include <cstdint>
#include <vector>

namespace ultraspeed::plan {

struct RowRange {
  uint32_t begin = 0;
  uint32_t count = 0;
};

// [begin, begin + rows) in at most num_workers bands of a multiple of `granularity` rows (the last
// band may be shorter).
std::vector<RowRange> bands(uint32_t begin, uint32_t rows, uint32_t num_workers,
                            uint32_t granularity);

// Parts to cut each head's projection into, so that num_heads * parts tiles keep num_workers busy
// and a tile keeps at least 16 rows. Divides rotary_dim / 2, head_dim - rotary_dim and v_head_dim.
uint32_t head_parts(uint32_t num_heads, uint32_t head_dim, uint32_t v_head_dim, uint32_t rotary_dim,
                    uint32_t num_workers);

// Q heads of one attention tile: a KV head's whole group, or a share of it when there are more
// workers than KV heads. Divides num_q_heads / num_kv_heads.
uint32_t attention_heads_per_tile(uint32_t num_q_heads, uint32_t num_kv_heads,
                                  uint32_t num_workers);

// Splits of a full-attention head group over its context.
uint32_t attention_splits(uint32_t num_kv_heads, uint32_t num_workers, uint32_t max_chunks);

// Row groups of an expert's gate/up product; divides intermediate_size.
uint32_t expert_row_groups(uint32_t intermediate_size, uint32_t num_workers);

}  // namespace ultraspeed::plan
