// Launches of expert_fp8.h.
#include "cuda/ops/expert_fp8.h"

#include <algorithm>

#include "cuda/ops/expert_fp8.cuh"
#include "cuda/ops/launch.cuh"

namespace ultraspeed::cuda {
namespace {

using Work = ExpertLaunch::Work;

ExpertStream stream_of(const ExpertLaunch& launch, const std::byte* weights,
                       const std::byte* operand) {
  ExpertStream of;
  static_cast<ExpertLaunch&>(of) = launch;
  of.weights = weights;
  of.operand = operand;
  return of;
}

template <class Plan, class Epilogue>
cudaError_t launch_plan(const ExpertStream& launch, uint32_t ctas, const Epilogue& epilogue,
                        cudaStream_t stream) {
  const LaunchSize size = {dim3(ctas), kStreamThreads, DenseShared<Plan>::kBytes};
  if (launch.work == Work::kDrain) {
    return launch_with(dense_kernel<Plan, DenseNothing, Work::kDrain>, size,
                       {starts_early(), spreads_clusters()}, stream, launch, DenseNothing());
  }
  return launch_with(dense_kernel<Plan, Epilogue, Work::kProducts>, size,
                     {starts_early(), spreads_clusters()}, stream, launch, epilogue);
}

}  // namespace

const char* fp8_expert_limit(const ExpertLaunch& launch) {
  const uint32_t chunk = launch.chunk_columns;
  static_assert(kDenseRanks * Fp8Page::kColumns == 1024 && kMaxDenseInput / 2 == 28'928);
  if (for_width(launch.columns, [](auto) { return cudaSuccess; }) != cudaSuccess) {
    return "the kernels have widths of 8, 16, 32 and 64 columns";
  }
  if (launch.hidden == 0 || launch.hidden % (kDenseRanks * Fp8Page::kColumns) != 0 ||
      launch.hidden > kMaxDenseInput / 2) {
    return "the kernels of FP8 experts take a multiple of 1024 of at most 28,928 as hidden size";
  }
  if (launch.intermediate == 0 || launch.intermediate % kDenseTilePairs != 0) {
    return "the kernels take a multiple of 32 of the intermediate size on each rank";
  }
  if (chunk == 0 || launch.intermediate % chunk != 0) {
    return "the kernels take K-chunks that are equally long";
  }
  return nullptr;
}

cudaError_t set_fp8_expert_clusters(ExpertLaunch* launch) {
  return for_width(launch->columns, [&](auto width) {
    using GateUp = ExpertGateUpPlan<width>;
    using Down = ExpertDownPlan<width>;
    // As many on each multiprocessor: where one had a CTA more, its pages would come last.
    const cudaError_t error = count_clusters(
        dense_kernel<GateUp, ExpertSwiglu, Work::kProducts>, GateUp::kRanks, kStreamThreads,
        GateUp::kCtas * DenseShared<GateUp>::kBytes, &launch->gate_up_clusters);
    launch->gate_up_clusters *= GateUp::kCtas;
    if (error != cudaSuccess) return error;
    return count_clusters(dense_kernel<Down, DensePartials, Work::kProducts>, Down::kRanks,
                          kStreamThreads, DenseShared<Down>::kBytes, &launch->down_ctas);
  });
}

cudaError_t launch_fp8_expert_input(const ExpertLaunch& launch, const QuantizeData& data,
                                    cudaStream_t stream) {
  DensePrepare prepare;
  static_cast<ColumnGroup&>(prepare) = launch;
  prepare.k = launch.hidden;
  prepare.rows = data.rows;
  prepare.norm_weight = data.norm_weight;
  prepare.epsilon = data.norm_epsilon;
  prepare.operand = data.output;
  prepare.holds_next = true;
  return launch_dense_prepare(prepare, stream);
}

cudaError_t launch_fp8_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                      cudaStream_t stream) {
  if (data.bias != nullptr || data.clamp_limit != 0) return cudaErrorInvalidValue;
  const ExpertSwiglu swiglu = {launch.route,        launch.columns,       launch.first_column,
                               launch.intermediate, launch.chunk_columns, down_pages(launch),
                               data.output,         data.activation};
  return for_width(launch.columns, [&](auto width) {
    return launch_plan<ExpertGateUpPlan<width>>(stream_of(launch, data.weights, data.input),
                                                launch.gate_up_clusters * kDenseRanks, swiglu,
                                                stream);
  });
}

cudaError_t launch_fp8_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                                   cudaStream_t stream) {
  if (data.bias != nullptr) return cudaErrorInvalidValue;
  const uint32_t units =
      launch.hidden / kDenseTileRows * (launch.intermediate / launch.chunk_columns);
  const DensePartials partials = {data.partials, data.first_chunk};
  return for_width(launch.columns, [&](auto width) {
    return launch_plan<ExpertDownPlan<width>>(stream_of(launch, data.weights, data.input),
                                              std::min(launch.down_ctas, units), partials, stream);
  });
}

}  // namespace ultraspeed::cuda
