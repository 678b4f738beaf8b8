// Launches of expert_w4a8.h.
#include <algorithm>

#include "cuda/ops/expert_w4a8_down.cuh"
#include "cuda/ops/expert_w4a8_gate_up.cuh"

namespace ultraspeed::cuda {
namespace {

using Work = ExpertLaunch::Work;

// Calls call(integral constant of the width); an error for widths that there are no kernels for.
template <class Call>
cudaError_t for_width(uint32_t columns, const Call& call) {
  switch (columns) {
    case 8:
      return call(std::integral_constant<uint32_t, 8>());
    case 16:
      return call(std::integral_constant<uint32_t, 16>());
    case 32:
      return call(std::integral_constant<uint32_t, 32>());
    case 64:
      return call(std::integral_constant<uint32_t, 64>());
    default:
      return cudaErrorInvalidValue;
  }
}

template <class Data>
cudaError_t launch_clusters(void (*kernel)(ExpertLaunch, Data), uint32_t num_ctas,
                            uint32_t shared_bytes, const ExpertLaunch& launch, const Data& data,
                            cudaStream_t stream) {
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  kernel<<<num_ctas, kExpertThreads, shared_bytes, stream>>>(launch, data);
  return cudaGetLastError();
}

template <class Kernel>
cudaError_t count_clusters(Kernel* kernel, uint32_t ranks, uint32_t shared_bytes,
                           uint32_t* clusters) {
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(ranks);
  config.blockDim = dim3(kExpertThreads);
  config.dynamicSmemBytes = shared_bytes;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {ranks, 1, 1};
  config.attrs = &cluster;
  config.numAttrs = 1;
  int count = 0;
  const cudaError_t status = cudaOccupancyMaxActiveClusters(&count, kernel, &config);
  *clusters = static_cast<uint32_t>(count);
  return status;
}

constexpr uint32_t kQuantizeWarps = 8;

// One warp a column and 32 elements.
template <uint32_t kColumns>
__global__ void __launch_bounds__(kQuantizeWarps * 32)
    quantize_kernel(QuantizeData data, uint32_t hidden) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t index = blockIdx.x * kQuantizeWarps + threadIdx.x / 32;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t blocks = hidden / kBlockColumns;
  const uint32_t block = index / kColumns, column = index % kColumns;
  if (block >= blocks) return;
  uint8_t code = 0;
  float column_scale = 0;
  if (column < data.num_columns) {
    const float value = data.rows[uint64_t{column} * hidden + block * kBlockColumns + lane];
    const E4m3Scale scale =
        e4m3_scale(__reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu));
    code = scale.is_nan ? kE4m3Nan : tensor::e4m3_from_float(value * power_of_two(-scale.exponent));
    column_scale = power_of_two(scale.exponent) * kDecodedUnit;
  }
  data.output[Operand::code(block, column, lane)] = std::byte{code};
  if (lane == 0) {
    reinterpret_cast<float*>(data.output + Operand::code_bytes(blocks))[block * kColumns + column] =
        column_scale;
  }
}

}  // namespace

cudaError_t launch_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                  cudaStream_t stream) {
  return for_width(launch.columns, [&](auto width) {
    using Shared = GateUpShared<width>;
    if (launch.hidden % (kGateUpRanks * kGateUpPageColumns) != 0 ||
        launch.hidden > kGateUpRanks * Shared::kMaxQuarter ||
        launch.intermediate % kDownPageColumns != 0) {
      return cudaErrorInvalidValue;
    }
    auto* kernel = launch.work == Work::kDrain ? expert_gate_up_kernel<width, Work::kDrain>
                                               : expert_gate_up_kernel<width, Work::kProducts>;
    return launch_clusters(kernel, launch.gate_up_clusters * kGateUpRanks, Shared::kBytes, launch,
                           data, stream);
  });
}

cudaError_t launch_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                               cudaStream_t stream) {
  return for_width(launch.columns, [&](auto width) {
    if (launch.hidden % kDownPageRows != 0 || launch.intermediate % kDownChunkColumns != 0) {
      return cudaErrorInvalidValue;
    }
    const uint32_t units =
        launch.hidden / kDownPageRows * (launch.intermediate / kDownChunkColumns);
    const uint32_t clusters = std::min(launch.down_clusters, units);
    auto* kernel = launch.work == Work::kDrain ? expert_down_kernel<width, Work::kDrain>
                                               : expert_down_kernel<width, Work::kProducts>;
    return launch_clusters(kernel, clusters * kDownRanks, DownShared<width>::kBytes, launch, data,
                           stream);
  });
}

cudaError_t set_clusters(ExpertLaunch* launch) {
  return for_width(launch->columns, [&](auto width) {
    const cudaError_t error =
        count_clusters(expert_gate_up_kernel<width, Work::kProducts>, kGateUpRanks,
                       GateUpShared<width>::kBytes, &launch->gate_up_clusters);
    if (error != cudaSuccess) return error;
    return count_clusters(expert_down_kernel<width, Work::kProducts>, kDownRanks,
                          DownShared<width>::kBytes, &launch->down_clusters);
  });
}

cudaError_t launch_quantize(const QuantizeData& data, uint32_t columns, uint32_t hidden,
                            cudaStream_t stream) {
  return for_width(columns, [&](auto width) {
    const uint32_t warps = hidden / kBlockColumns * width;
    quantize_kernel<width>
        <<<(warps + kQuantizeWarps - 1) / kQuantizeWarps, kQuantizeWarps * 32, 0, stream>>>(data,
                                                                                            hidden);
    return cudaGetLastError();
  });
}

}  // namespace ultraspeed::cuda
