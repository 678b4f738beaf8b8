// Launches of dense.h: products by format, operands.
#include <cuda_fp16.h>

#include "cuda/ops/columns.cuh"
#include "cuda/ops/dense_pages.h"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/dense_operand.h"
#include "tensor/bf16.h"
#include "tensor/block_scale.h"

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
constexpr uint32_t kWarpElements = 128;  // a block of FP8's operand: four elements a lane

// Four neighbouring elements, or zeros, of a column, of which the warp has 128.
template <class Page>
__device__ void write_operand(std::byte* piece, uint32_t columns, uint32_t column, uint32_t k,
                              const float (&v)[4], bool takes_part) {
  using Operand = DenseOperand<Page>;
  if constexpr (Operand::kIsFp8) {
    uint32_t largest = 0;
    for (const float value : v) largest = max(largest, __float_as_uint(value) & 0x7fffffffu);
    const tensor::BlockScale scale = tensor::f16_scale(__reduce_max_sync(kWholeWarp, largest));
    const float factor = scale.is_nan ? 0.0F : tensor::power_of_two(-scale.exponent);
    __half2 codes[2] = {__floats2half2_rn(v[0] * factor, v[1] * factor),
                        __floats2half2_rn(v[2] * factor, v[3] * factor)};
    if (scale.is_nan) codes[0] = codes[1] = __half2(0, 0);  // not NaN times 0
    *reinterpret_cast<uint2*>(piece + Operand::code(columns, 0, column, k)) =
        *reinterpret_cast<const uint2*>(codes);
    if (threadIdx.x % kWarpThreads != 0) return;
    const float unit =
        scale.is_nan ? __int_as_float(0x7fffffff) : tensor::power_of_two(scale.exponent);
    reinterpret_cast<float*>(piece +
                             Operand::scales(columns))[k / Page::kBlockColumns * columns + column] =
        takes_part ? unit : 0.0F;
  } else {
    ushort4 terms[2];
    uint16_t* codes = &terms[0].x;
    for (uint32_t i = 0; i < 4; ++i) {
      codes[i] = tensor::bf16_from_float(v[i]);
      codes[4 + i] = tensor::bf16_from_float(v[i] - tensor::bf16_to_float(codes[i]));
    }
    for (uint32_t term = 0; term < 2; ++term) {
      *reinterpret_cast<ushort4*>(piece + Operand::code(columns, term, column, k)) = terms[term];
    }
  }
}

// One CTA a column. Shared: the row, and the norm's weight.
template <class Page>
__global__ void __launch_bounds__(kPrepareThreads)
    dense_prepare_kernel(const __grid_constant__ DensePrepare data) {
  extern __shared__ __align__(16) float row[];
  __shared__ float shared_factor;
  float* weight = row + data.k;
  const uint32_t column = blockIdx.x, warp = threadIdx.x / kWarpThreads;
  const bool takes_part = column < present_columns(data);
  const bool is_normed = takes_part && data.norm_weight != nullptr;
  const auto copy = [&](float* to, const float* from) {
    for (uint32_t i = threadIdx.x; i < data.k / 4; i += kPrepareThreads) {
      reinterpret_cast<float4*>(to)[i] = reinterpret_cast<const float4*>(from)[i];
    }
  };
  if (!data.holds_next) ptx::launch_dependents();
  if (is_normed) copy(weight, data.norm_weight);
  ptx::wait_for_grids();
  if (data.holds_next) ptx::launch_dependents();
  if (takes_part) copy(row, data.rows + uint64_t{data.first_column + column} * data.k);
  __syncthreads();
  if (is_normed && warp == 0) {
    const float squares = sum_of_squares(row, data.k);
    if (threadIdx.x == 0) shared_factor = rms_factor(squares, data.k, data.epsilon);
  }
  __syncthreads();
  for (uint32_t begin = warp * kWarpElements; begin < data.k;
       begin += kPrepareThreads / kWarpThreads * kWarpElements) {
    const uint32_t k = begin + threadIdx.x % kWarpThreads * 4;
    float v[4] = {};
    for (uint32_t i = 0; i < 4 && takes_part; ++i) {
      v[i] = is_normed ? weight[k + i] * (row[k + i] * shared_factor) : row[k + i];
    }
    std::byte* piece =
        data.operand + uint64_t{k / Page::kColumns} * DenseOperand<Page>::piece_bytes(data.columns);
    write_operand<Page>(piece, data.columns, column, k % Page::kColumns, v, takes_part);
  }
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
    const uint64_t shared_bytes =
        uint64_t{data.k} * sizeof(float) * (data.norm_weight == nullptr ? 1 : 2);
    if (data.k == 0 || data.k % (kDenseRanks * Page::kColumns) != 0 ||
        shared_bytes > kStreamSharedBytes) {
      return cudaErrorInvalidValue;
    }
    return for_width(data.columns, [&](auto width) {
      const LaunchSize size = {dim3(width), kPrepareThreads, static_cast<uint32_t>(shared_bytes)};
      return launch_with(dense_prepare_kernel<Page>, size, {starts_early()}, stream, data);
    });
  });
}

}  // namespace ultraspeed::cuda
