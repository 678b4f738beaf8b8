// The launches of expert_w4a8.h for FP8 weights (expert_fp8.cu), which it calls by the format.
#pragma once

#include <cuda_runtime.h>

#include "cuda/ops/expert_w4a8.h"

namespace ultraspeed::cuda {

const char* fp8_expert_limit(const ExpertLaunch& launch);
cudaError_t set_fp8_expert_clusters(ExpertLaunch* launch);
cudaError_t launch_fp8_expert_input(const ExpertLaunch& launch, const QuantizeData& data,
                                    cudaStream_t stream);
cudaError_t launch_fp8_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                      cudaStream_t stream);
cudaError_t launch_fp8_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                                   cudaStream_t stream);

}  // namespace ultraspeed::cuda
