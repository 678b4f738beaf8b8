#include "plan/tiling.h"

#include <algorithm>

namespace ultraspeed::plan {
namespace {

// A tile of fewer rows does not fill a 16-row tensor-core fragment.
constexpr uint32_t kMinTileRows = 16;

}  // namespace

std::vector<RowRange> bands(uint32_t begin, uint32_t rows, uint32_t num_workers,
                            uint32_t granularity) {
  const uint32_t units = (rows + granularity - 1) / granularity;
  const uint32_t units_per_band = (units + num_workers - 1) / num_workers;
  const uint32_t band_rows = units_per_band * granularity;
  std::vector<RowRange> result;
  for (uint32_t row = 0; row < rows; row += band_rows) {
    result.push_back({begin + row, std::min(band_rows, rows - row)});
  }
  return result;
}

uint32_t head_parts(uint32_t num_heads, uint32_t head_dim, uint32_t v_head_dim, uint32_t rotary_dim,
                    uint32_t num_workers) {
  uint32_t parts = 1;
  while (num_heads * parts < 2 * num_workers) {
    const uint32_t next = 2 * parts;
    const bool divides =
        rotary_dim / 2 % next == 0 && (head_dim - rotary_dim) % next == 0 && v_head_dim % next == 0;
    if (!divides || std::min(head_dim, v_head_dim) / next < kMinTileRows) break;
    parts = next;
  }
  return parts;
}

uint32_t attention_heads_per_tile(uint32_t num_q_heads, uint32_t num_kv_heads,
                                  uint32_t num_workers) {
  uint32_t heads = num_q_heads / num_kv_heads;
  while (heads % 2 == 0 && num_q_heads / heads < num_workers) heads /= 2;
  return heads;
}

uint32_t attention_splits(uint32_t num_kv_heads, uint32_t num_workers, uint32_t max_chunks) {
  return std::clamp(num_workers / num_kv_heads, 1u, max_chunks);
}

uint32_t expert_row_groups(uint32_t intermediate_size, uint32_t num_workers) {
  // Many workers share the few live experts in small groups; few workers take larger ones.
  const uint32_t wanted = num_workers > 8 ? intermediate_size / kMinTileRows : 4;
  for (uint32_t groups = std::max(wanted, 1u); groups > 1; --groups) {
    if (intermediate_size % groups == 0) return groups;
  }
  return 1;
}

}  // namespace ultraspeed::plan
