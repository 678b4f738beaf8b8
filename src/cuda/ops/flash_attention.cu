// Launches of flash_attention.h.
#include "cuda/ops/flash_attention.cuh"
#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/query_rows.cuh"
#include "cuda/ops/window_attention.cuh"

namespace ultraspeed::cuda {
namespace {

using Work = FlashAttention::Work;
template <KvFormat kFormat>
using FlashTile = KvTile<kFormat, kFlashHeadDim, kFlashValueDim>;

template <class Tile, Work kWork>
cudaError_t launch_short_window(const FlashAttention& launch, cudaStream_t stream) {
  const uint32_t kv_heads = launch.cache.num_kv_heads;
  const uint32_t slabs = (launch.num_q_heads / kv_heads + kWindowRows - 1) / kWindowRows;
  const LaunchSize size = {dim3(launch.max_columns, kv_heads * slabs), kWindowThreads,
                           WindowShared<Tile>::kBytes};
  auto* kernel = window_attention_kernel<Tile, kWork>;
  return launch.follows_grid ? launch_with(kernel, size, {starts_early()}, stream, launch)
                             : launch_with(kernel, size, {}, stream, launch);
}

template <class Tile, Work kWork>
cudaError_t launch_work(FlashAttention launch, cudaStream_t stream) {
  if (launch.is_short()) return launch_short_window<Tile, kWork>(launch, stream);
  const LaunchSize size = {dim3(launch.num_ctas), kFlashThreads, FlashShared<Tile>::kBytes};
  auto* kernel = flash_attention_kernel<Tile, kWork>;
  cudaError_t error = cudaSuccess;
  for (uint32_t first = 0; first < launch.max_columns && error == cudaSuccess;
       first += kMaxFlashColumns) {
    launch.first_column = first;
    error = launch.follows_grid ? launch_with(kernel, size, {starts_early()}, stream, launch)
                                : launch_with(kernel, size, {}, stream, launch);
  }
  return error;
}

template <KvFormat kFormat>
cudaError_t launch_format(const FlashAttention& launch, cudaStream_t stream) {
  using Tile = FlashTile<kFormat>;
  return launch.work == Work::kDrain ? launch_work<Tile, Work::kDrain>(launch, stream)
                                     : launch_work<Tile, Work::kAttention>(launch, stream);
}

constexpr uint32_t kStoreWarps = 4;

template <class Tile>
__global__ void __launch_bounds__(kStoreWarps * 32) store_kv_kernel(KvRows rows) {
  const uint32_t index = blockIdx.x * kStoreWarps + threadIdx.x / 32;
  if (index >= min(rows.num_columns, rows.step->num_columns) * rows.cache.num_kv_heads) return;
  copy_to_cache<Tile>(rows.rows, *rows.step, rows.cache, 0, index);
}

template <class Tile>
__global__ void __launch_bounds__(kStoreWarps * 32) store_queries_kernel(QueryRows rows) {
  const uint32_t index = blockIdx.x * kStoreWarps + threadIdx.x / 32;
  if (index >= min(rows.num_columns, rows.step->num_columns) * rows.num_q_heads) return;
  store_query<Tile>(rows, index);
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
  if (!has_flash_heads(launch.num_q_heads, kv_heads, launch.cache.head_dim,
                       launch.cache.v_head_dim) ||
      launch.num_ctas == 0) {
    return cudaErrorInvalidValue;
  }
  const uint32_t size =
      launch.cache.ring_positions != 0 ? launch.cache.ring_positions : launch.cache.page_positions;
  if (size == 0 || size % kKvTilePositions != 0 || launch.chunk_positions == 0 ||
      launch.chunk_positions % kFlashStepPositions != 0 || launch.max_columns == 0 ||
      (launch.rows != nullptr && !launch.is_short()) ||
      (launch.max_columns > kMaxFlashColumns &&
       (!launch.is_causal || launch.is_window_before_step))) {
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
