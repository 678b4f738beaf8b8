// Launches of dense.h: products by format, operands.
#include "cuda/ops/dense_pages.h"
#include "cuda/ops/dense_prepare.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/dense_matrix.h"

namespace ultraspeed::cuda {
namespace {

// Calls call(Page()) for the format of the weights.
template <class Call>
cudaError_t for_format(tensor::WeightFormat format, const Call& call) {
  if (format == tensor::WeightFormat::kFp8Block128) return call(Fp8Page());
  if (format == tensor::WeightFormat::kBf16) return call(Bf16Page());
  return cudaErrorInvalidValue;
}

template <class Epilogue>
cudaError_t launch_format(const DenseLaunch& launch, const Epilogue& epilogue,
                          cudaStream_t stream) {
  return for_format(launch.format, [&](auto page) {
    return launch_dense_pages<decltype(page)>(launch, epilogue, stream);
  });
}

constexpr uint32_t kPrepareThreads = 512;
static_assert(kMaxDenseInput * sizeof(float) == kStreamSharedBytes);

// One CTA a column.
template <class Page>
__global__ void __launch_bounds__(kPrepareThreads)
    dense_prepare_kernel(const __grid_constant__ DensePrepare data,
                         const __grid_constant__ PagedRow paged) {
  extern __shared__ __align__(16) float row[];
  __shared__ float factor;
  if (!data.holds_next) ptx::launch_dependents();
  const NormedRow shared = {row, row + data.k, &factor};
  const bool takes_part = blockIdx.x < present_columns(data);
  if (takes_part && data.norm_weight != nullptr) {
    copy_floats<kPrepareThreads>(shared.weight, data.norm_weight, data.k);
  }
  ptx::wait_for_grids();
  if (data.holds_next) ptx::launch_dependents();
  const float* from = data.rows + uint64_t{data.first_column + blockIdx.x} * data.k;
  if (takes_part) copy_floats<kPrepareThreads>(row, from, data.k);
  __syncthreads();
  prepare_column<Page, kPrepareThreads>(data, paged, blockIdx.x, shared, takes_part);
}

}  // namespace

cudaError_t set_clusters(DenseLaunch* launch) {
  return for_format(launch->format,
                    [&](auto page) { return set_dense_clusters<decltype(page)>(launch); });
}

cudaError_t launch_dense(const DenseLaunch& launch, const DenseStore& store, cudaStream_t stream) {
  if (store.total_rows % 2 != 0 || store.first_row % 2 != 0 || launch.num_chunks != 1) {
    return cudaErrorInvalidValue;
  }
  return launch_format(launch, store, stream);
}

cudaError_t launch_dense(const DenseLaunch& launch, const DensePartials& partials,
                         cudaStream_t stream) {
  if (partials.first_chunk + launch.num_chunks > program::kReductionChunks) {
    return cudaErrorInvalidValue;
  }
  return launch_format(launch, partials, stream);
}

cudaError_t launch_dense(const DenseLaunch& launch, const DenseSwiglu& swiglu,
                         cudaStream_t stream) {
  if (launch.num_chunks != 1) return cudaErrorInvalidValue;
  return launch_format(launch, swiglu, stream);
}

cudaError_t launch_dense(const DenseLaunch& launch, const DenseQkv& qkv, cudaStream_t stream) {
  const uint32_t rows =
      (qkv.num_q_heads + qkv.num_kv_heads) * qkv.head_dim + qkv.num_kv_heads * qkv.v_head_dim;
  if (rows != launch.rows || qkv.head_dim % 2 != 0 || qkv.v_head_dim % 2 != 0 ||
      qkv.rotary_dim % 2 != 0 || qkv.rotary_dim > qkv.head_dim || launch.num_chunks != 1 ||
      qkv.key_stride % 2 != 0 || qkv.value_stride % 2 != 0) {
    return cudaErrorInvalidValue;
  }
  return launch_format(launch, qkv, stream);
}

cudaError_t launch_dense_prepare(const DensePrepare& data, cudaStream_t stream) {
  return for_format(data.format, [&](auto page) {
    using Page = decltype(page);
    const uint64_t shared_bytes = dense_prepare_bytes(data);
    if (!has_dense_columns(data.k, data.num_chunks) ||
        dense_input_limit(data.k, data.norm_weight != nullptr) != nullptr) {
      return cudaErrorInvalidValue;
    }
    return for_width(data.columns, [&](auto width) {
      const LaunchSize size = {dim3(width), kPrepareThreads, static_cast<uint32_t>(shared_bytes)};
      return launch_with(dense_prepare_kernel<Page>, size, {starts_early()}, stream, data,
                         paged_row<Page>(data.k, data.num_chunks));
    });
  });
}

}  // namespace ultraspeed::cuda
