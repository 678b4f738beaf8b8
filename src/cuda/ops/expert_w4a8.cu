// Launches of expert_w4a8.h.
#include <algorithm>

#include "cuda/ops/expert_fp8.h"
#include "cuda/ops/expert_quantize.cuh"
#include "cuda/ops/expert_w4a8_down.cuh"
#include "cuda/ops/expert_w4a8_gate_up.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/tile/dense_operand.h"

namespace ultraspeed::cuda {
namespace {

using Work = ExpertLaunch::Work;

// CTA (column, part).
template <uint32_t kColumns>
__global__ void __launch_bounds__(kTaskThreads)
    quantize_kernel(const __grid_constant__ ExpertLaunch launch,
                    const __grid_constant__ QuantizeData data) {
  __shared__ float row[kGateUpMaxRanks * kMaxPart];  // the sum of squares reads it with less delay
  quantize_column<kColumns>(launch, data, blockIdx.x, blockIdx.y, row);
}

bool is_fp8(const ExpertLaunch& launch) {
  return launch.format == tensor::WeightFormat::kFp8Block128;
}

// Calls call(integral constant of gate_up_ranks()).
template <class Call>
cudaError_t for_ranks(uint32_t hidden, const Call& call) {
  const uint32_t ranks = gate_up_ranks(hidden);
  if (ranks == kGateUpMaxRanks) return call(std::integral_constant<uint32_t, kGateUpMaxRanks>());
  if (ranks == 2) return call(std::integral_constant<uint32_t, 2>());
  return call(std::integral_constant<uint32_t, 1>());
}

}  // namespace

const char* expert_limit(const ExpertLaunch& launch) {
  const uint32_t chunk = launch.chunk_columns;
  if (is_fp8(launch)) return fp8_expert_limit(launch);
  if (launch.format != tensor::WeightFormat::kMxfp4) return "the kernels take MXFP4 and FP8";
  if (for_width(launch.columns, [](auto) { return cudaSuccess; }) != cudaSuccess) {
    return "the kernels have widths of 8, 16, 32 and 64 columns";
  }
  static_assert(kBlockRows % kBlockColumns == 0 && kGateUpMaxRanks * kMaxPart == 6144);
  if (launch.hidden == 0 || launch.hidden % kBlockRows != 0 ||
      launch.hidden > kGateUpMaxRanks * kMaxPart) {
    return "the kernels take a hidden size of at most 6144 that 64 divides";
  }
  if (launch.intermediate == 0 || launch.intermediate % kTileNeurons != 0) {
    return "the kernels take a multiple of 32 of the intermediate size on each rank";
  }
  if (chunk == 0 || launch.intermediate % chunk != 0) {
    return "the kernels take K-chunks that are equally long";
  }
  return nullptr;
}

uint64_t expert_input_bytes(const ExpertLaunch& launch) {
  if (is_fp8(launch)) return dense_operand_bytes<Fp8Page>(launch.columns, launch.hidden);
  return gate_up_input_bytes(launch.columns, gate_up_columns(launch.hidden));
}

uint64_t expert_activation_bytes(const ExpertLaunch& launch, uint32_t slots) {
  const uint32_t padded = padded_down_columns(launch.intermediate, launch.chunk_columns);
  if (!is_fp8(launch)) return down_input_bytes(launch.columns, padded, slots);
  return uint64_t{slots} * (padded / kDownChunkColumns) *
         ExpertOperand::piece_bytes(launch.columns);
}

cudaError_t launch_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                  cudaStream_t stream) {
  if (expert_limit(launch) != nullptr) return cudaErrorInvalidValue;
  if (is_fp8(launch)) return launch_fp8_expert_gate_up(launch, data, stream);
  return for_width(launch.columns, [&](auto width) {
    return for_ranks(launch.hidden, [&](auto ranks) {
      auto* kernel = launch.work == Work::kDrain
                         ? expert_gate_up_kernel<width, ranks, Work::kDrain>
                         : expert_gate_up_kernel<width, ranks, Work::kProducts>;
      const LaunchSize size = {dim3(launch.gate_up_clusters * ranks), kStreamThreads,
                               GateUpShared<width, ranks>::kBytes};
      return launch_with(kernel, size, {starts_early()}, stream, launch, data);
    });
  });
}

cudaError_t launch_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                               cudaStream_t stream) {
  if (expert_limit(launch) != nullptr) return cudaErrorInvalidValue;
  if (is_fp8(launch)) return launch_fp8_expert_down(launch, data, stream);
  return for_width(launch.columns, [&](auto width) {
    const uint32_t units =
        launch.hidden / kBlockRows * (launch.intermediate / launch.chunk_columns);
    const uint32_t ctas = std::min(launch.down_ctas, units);
    auto* kernel = launch.work == Work::kDrain ? expert_down_kernel<width, Work::kDrain>
                                               : expert_down_kernel<width, Work::kProducts>;
    const LaunchSize size = {dim3(ctas), kStreamThreads, DownShared<width>::kBytes};
    return launch_with(kernel, size, {starts_early()}, stream, launch, data);
  });
}

cudaError_t set_clusters(ExpertLaunch* launch) {
  if (is_fp8(*launch)) return set_fp8_expert_clusters(launch);
  return for_width(launch->columns, [&](auto width) {
    const cudaError_t error = for_ranks(launch->hidden, [&](auto ranks) {
      // As many on each multiprocessor: where one had a CTA more, its pages would come last.
      constexpr uint32_t kCtas = kGateUpCtas<width>;
      const cudaError_t status = count_clusters(
          expert_gate_up_kernel<width, ranks, Work::kProducts>, ranks, kStreamThreads,
          kCtas * GateUpShared<width, ranks>::kBytes, &launch->gate_up_clusters);
      launch->gate_up_clusters *= kCtas;
      return status;
    });
    if (error != cudaSuccess) return error;
    return count_clusters(expert_down_kernel<width, Work::kProducts>, 1, kStreamThreads,
                          DownShared<width>::kBytes, &launch->down_ctas);
  });
}

cudaError_t launch_quantize(const ExpertLaunch& launch, const QuantizeData& data,
                            cudaStream_t stream) {
  if (is_fp8(launch)) return launch_fp8_expert_input(launch, data, stream);
  return for_width(launch.columns, [&](auto width) {
    const LaunchSize size = {dim3(width, kQuantizeParts), kTaskThreads, 0};
    return launch_with(quantize_kernel<width>, size, {starts_early()}, stream, launch, data);
  });
}

}  // namespace ultraspeed::cuda
