// Launches of flash_attention.h.
#include "cuda/ops/flash_attention.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/tile/kv_store.cuh"
#include "cuda/tile/query_store.cuh"

namespace ultraspeed::cuda {
namespace {

using Work = FlashAttention::Work;
template <KvFormat kFormat>
using FlashTile = KvTile<kFormat, kFlashHeadDim, kFlashValueDim>;

template <KvFormat kFormat>
cudaError_t launch_format(const FlashAttention& launch, cudaStream_t stream) {
  using Tile = FlashTile<kFormat>;
  auto* kernel = launch.work == Work::kDrain ? flash_attention_kernel<Tile, Work::kDrain>
                                             : flash_attention_kernel<Tile, Work::kAttention>;
  const LaunchSize size = {dim3(launch.num_ctas), kFlashThreads, FlashShared<Tile>::kBytes};
  return launch.follows_grid ? launch_with(kernel, size, {starts_early()}, stream, launch)
                             : launch_with(kernel, size, {}, stream, launch);
}

constexpr uint32_t kStoreWarps = 4;

template <class Tile>
__global__ void __launch_bounds__(kStoreWarps * 32) store_kv_kernel(KvRows rows) {
  const uint32_t index = blockIdx.x * kStoreWarps + threadIdx.x / 32;
  const uint32_t t = index / rows.cache.num_kv_heads, head = index % rows.cache.num_kv_heads;
  if (t >= rows.num_columns || t >= rows.step->num_columns) return;
  const StepColumn& column = rows.step->columns[t];
  const uint64_t tile = rows.cache.tile(column.sequence, rows.step->pages + column.first_page, head,
                                        column.position / kKvTilePositions);
  const uint32_t kv_heads = rows.cache.num_kv_heads;
  const float* keys = rows.rows + uint64_t{t} * kv_heads * (Tile::kHeadDim + Tile::kValueDim);
  const float* values = keys + kv_heads * Tile::kHeadDim;
  store_kv_row<Tile>(rows.cache.tiles + tile * Tile::kBytes, column.position % kKvTilePositions,
                     rows.cache.scale(head), keys + head * Tile::kHeadDim,
                     values + head * Tile::kValueDim);
}

template <class Tile>
__global__ void __launch_bounds__(kStoreWarps * 32) store_queries_kernel(QueryRows rows) {
  const uint32_t index = blockIdx.x * kStoreWarps + threadIdx.x / 32;
  if (index >= min(rows.num_columns, rows.step->num_columns) * rows.num_q_heads) return;
  const uint32_t group = rows.num_q_heads / rows.num_kv_heads;
  std::byte* of_column =
      rows.operands + uint64_t{index / group} * kFlashTerms * (group / 8 * Tile::kKeyStride);
  store_query_row<Tile>(of_column, group, index % group,
                        rows.queries + uint64_t{index} * Tile::kHeadDim, rows.scale * kLog2E,
                        rows.scales + index);
}

template <KvFormat kFormat>
void launch_queries(const QueryRows& rows, cudaStream_t stream) {
  const uint32_t ctas = (rows.num_columns * rows.num_q_heads + kStoreWarps - 1) / kStoreWarps;
  store_queries_kernel<FlashTile<kFormat>><<<ctas, kStoreWarps * 32, 0, stream>>>(rows);
}

}  // namespace

cudaError_t launch_store_queries(const QueryRows& rows, cudaStream_t stream) {
  rows.format == KvFormat::kE4m3 ? launch_queries<KvFormat::kE4m3>(rows, stream)
                                 : launch_queries<KvFormat::kBf16>(rows, stream);
  return cudaGetLastError();
}

cudaError_t launch_flash_attention(const FlashAttention& launch, cudaStream_t stream) {
  const uint32_t kv_heads = launch.cache.num_kv_heads;
  if (kv_heads == 0 || launch.num_q_heads % kv_heads != 0 || launch.num_ctas == 0) {
    return cudaErrorInvalidValue;
  }
  const uint32_t group = launch.num_q_heads / kv_heads;
  const uint32_t size =
      launch.cache.ring_positions != 0 ? launch.cache.ring_positions : launch.cache.page_positions;
  if (group < 8 || kWarpgroupRows % group != 0 || size == 0 || size % kKvTilePositions != 0 ||
      launch.chunk_positions == 0 || launch.chunk_positions % kKvTilePositions != 0 ||
      (launch.first_column != 0 && (!launch.is_causal || launch.is_window_before_step))) {
    return cudaErrorInvalidValue;
  }
  return launch.format == KvFormat::kE4m3 ? launch_format<KvFormat::kE4m3>(launch, stream)
                                          : launch_format<KvFormat::kBf16>(launch, stream);
}

cudaError_t launch_store_kv(const KvRows& rows, cudaStream_t stream) {
  const uint32_t ctas =
      (rows.num_columns * rows.cache.num_kv_heads + kStoreWarps - 1) / kStoreWarps;
  auto* kernel = rows.format == KvFormat::kE4m3 ? store_kv_kernel<FlashTile<KvFormat::kE4m3>>
                                                : store_kv_kernel<FlashTile<KvFormat::kBf16>>;
  kernel<<<ctas, kStoreWarps * 32, 0, stream>>>(rows);
  return cudaGetLastError();
}

uint32_t kv_tile_bytes(KvFormat format) {
  return format == KvFormat::kE4m3 ? FlashTile<KvFormat::kE4m3>::kBytes
                                   : FlashTile<KvFormat::kBf16>::kBytes;
}

}  // namespace ultraspeed::cuda
