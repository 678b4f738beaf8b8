// Attention of a step on tensor cores (sm_90a), from caches of tiles (tile/kv_tile.h).
//
// Short windows, causal and of at most kShortWindow positions: a CTA has up to 16 query heads of a
// KV head and a column, and all that they see (window_attention.cuh). It takes queries and the
// step's own rows as QkvProj writes them, and brings the rows to the cache.
//
// Else a block is up to 128 rows: `group` rows for the query heads of a KV head (flash_group())
// times 128 / group neighbouring columns of a sequence. Full attention cuts a sequence's positions
// into chunks (FlashChunks): a unit is a block and a chunk, whose partial result a CTA makes; then
// rows are merged, each by a CTA. With a window a unit is a block and all that it sees.
//
// Arithmetic and order (docs/numerics.md, section 9) depend on a row's query, what it sees, and the
// chunk, on nothing else: not on the width, the grid, or other columns.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/tile/kv_tile.h"
#include "cuda/view.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kFlashRows = 128;
inline constexpr uint32_t kFlashHeadDim = 192, kFlashValueDim = 128;  // of a tile
inline constexpr uint32_t kMaxFlashGroup = 64;                        // query heads of a KV head
inline constexpr uint32_t kFlashStepPositions = 128;  // that a softmax takes at once, at most
inline constexpr uint32_t kMaxFlashColumns = 64;      // of a launch, but of a short window's
inline constexpr uint32_t kMaxFlashChunks = 3000;     // of a sequence
inline constexpr uint32_t kShortWindow = 128;
US_HOST_DEVICE constexpr bool is_short_window(uint32_t window) {
  return window != 0 && window <= kShortWindow;
}

// Whether there are kernels for such heads.
constexpr bool has_flash_heads(uint32_t num_q_heads, uint32_t num_kv_heads, uint32_t head_dim,
                               uint32_t v_head_dim) {
  return num_q_heads != 0 && num_kv_heads != 0 && num_q_heads % num_kv_heads == 0 &&
         num_q_heads / num_kv_heads <= kMaxFlashGroup && head_dim != 0 &&
         head_dim <= kFlashHeadDim && head_dim % 8 == 0 && v_head_dim != 0 &&
         v_head_dim <= kFlashValueDim && v_head_dim % 8 == 0;
}

// Rows of a block that so many query heads of a KV head take.
US_HOST_DEVICE constexpr uint32_t flash_group(uint32_t heads) {
  uint32_t group = 8;  // of a core matrix
  while (group < heads) group *= 2;
  return group;
}

// The chunks of a sequence, by absolute positions: of min(256, chunk_positions) below 2048, so that
// several CTAs share a short context, then of chunk_positions. REQUIRES: kFlashStepPositions
// divides chunk_positions, which is not 0.
struct FlashChunks {
  static constexpr uint32_t kBorder = 2048;

  US_HOST_DEVICE constexpr explicit FlashChunks(uint32_t chunk_positions)
      : first(chunk_positions < 2 * kFlashStepPositions ? chunk_positions
                                                        : 2 * kFlashStepPositions),
        rest(chunk_positions) {}

  // How many hold positions below `end`.
  US_HOST_DEVICE constexpr uint32_t count(uint32_t end) const {
    return end <= kBorder ? up(end, first) : kBorder / first + up(end - kBorder, rest);
  }
  US_HOST_DEVICE constexpr uint32_t begin(uint32_t chunk) const {
    const uint32_t num_first = kBorder / first;
    return chunk <= num_first ? chunk * first : kBorder + (chunk - num_first) * rest;
  }

  uint32_t first, rest;  // positions of a chunk

 private:
  US_HOST_DEVICE static constexpr uint32_t up(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
};

// Work space of full attention: one partial result a unit.
struct FlashPartials {
  float* sums = nullptr;         // [units, 128, kFlashValueDim]
  float2* states = nullptr;      // [units, 128]: the largest logit m, and the sum l
  uint32_t* arrivals = nullptr;  // [2], zeros before the first launch; a launch leaves zeros
};

struct FlashAttention {
  enum class Work : uint8_t {
    kAttention,
    kDrain,  // reads the same tiles in the same way and computes nothing
  };

  const StepView* step = nullptr;  // device; the columns of a sequence are neighbouring positions
  uint32_t max_columns = 0;        // of the step
  uint32_t first_column = 0;       // launch_flash_attention() sets it: this one and those after it
  KvTiles cache;
  KvFormat format = KvFormat::kE4m3;
  // Of short windows: [T, num_q_heads * head_dim], rotated, aligned to 16; scale: of logits.
  const float* query = nullptr;
  float scale = 1;
  // Of all else: operands (tile/query_store.cuh), aligned to 16: [T, num_kv_heads, 2 terms,
  // group * kFlashHeadDim], and [T, num_q_heads]; launch_store_queries().
  const std::byte* query_operands = nullptr;
  const float* query_scales = nullptr;
  // The step's own keys and values: [T, num_kv_heads * (head_dim + v_head_dim)], the k heads, then
  // the v heads, as QkvProj writes cache_rows (program/operands.h). They are attended to as the
  // cache keeps them, and written there. Nothing else in the step writes there: tiles are read
  // before the grid in front has ended. nullptr: the cache has them. Of short windows alone.
  const float* rows = nullptr;
  float* output = nullptr;       // [T, num_q_heads * v_head_dim]
  const float* sinks = nullptr;  // [num_q_heads]; nullptr: none
  uint32_t num_q_heads = 0;      // num_kv_heads * heads; heads is at most kMaxFlashGroup
  uint32_t window = 0;           // 0: full attention; else as in program::AttentionOperands
  bool is_causal = true;
  bool is_window_before_step = false;
  uint32_t chunk_positions = 512;  // kFlashStepPositions divides it
  FlashPartials partials;          // of full attention
  uint32_t num_ctas = 0;           // at most as many as run at the same time
  bool follows_grid = false;       // may start before the grid in front of it has ended
  Work work = Work::kAttention;

  US_HOST_DEVICE bool is_short() const {
    return is_short_window(window) && is_causal && !is_window_before_step;
  }
};

// output[t, h] = softmax of the visible logits, with the sink where there is one, times values;
// zeros for a row that sees nothing and has no sink. A step of more than kMaxFlashColumns columns
// takes several launches, with the same bits; then is_causal, and not is_window_before_step.
// REQUIRES: at most kMaxFlashChunks chunks a sequence; with a window, rings as KvTiles says.
cudaError_t launch_flash_attention(const FlashAttention& launch, cudaStream_t stream);

// Units of a step of full attention, which FlashPartials has to have room for: a sequence of
// `columns` columns ending at position `end` (one past the last), of `heads` query heads of a KV
// head.
constexpr uint64_t flash_units(uint32_t columns, uint32_t end, uint32_t heads,
                               uint32_t num_kv_heads, uint32_t chunk_positions) {
  const uint32_t width = kFlashRows / flash_group(heads);
  return uint64_t{(columns + width - 1) / width} * num_kv_heads *
         FlashChunks(chunk_positions).count(end);
}

// Writes rows of a step's columns, at most num_columns, to their cache, for whom no attention does.
// REQUIRES: has_flash_heads() of the cache's.
struct KvRows {
  const StepView* step = nullptr;  // device
  uint32_t num_columns = 0;
  KvTiles cache;
  KvFormat format = KvFormat::kE4m3;
  const float* rows = nullptr;  // as in FlashAttention
};
cudaError_t launch_store_kv(const KvRows& rows, cudaStream_t stream);

// Writes query operands and their scales of a step's columns, at most num_columns. queries [T,
// num_q_heads * head_dim], aligned to 16. REQUIRES: has_flash_heads().
struct QueryRows {
  const StepView* step = nullptr;  // device
  const float* queries = nullptr;
  uint32_t num_columns = 0, num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  float scale = 1;  // of logits
  KvFormat format = KvFormat::kE4m3;
  std::byte* operands = nullptr;
  float* scales = nullptr;
};
cudaError_t launch_store_queries(const QueryRows& rows, cudaStream_t stream);
constexpr uint64_t query_operand_bytes(KvFormat format, uint32_t columns, uint32_t num_q_heads,
                                       uint32_t num_kv_heads) {
  return uint64_t{columns} * num_kv_heads * flash_group(num_q_heads / num_kv_heads) *
         kFlashHeadDim * 2 * (format == KvFormat::kE4m3 ? 1 : 2);
}

// Bytes of a tile.
uint32_t kv_tile_bytes(KvFormat format);

}  // namespace ultraspeed::cuda
