// Keys and values rounded as a KV cache of another type would keep them (program/arithmetic.h), in
// a cache of binary32: what the processor does in those modes.
#pragma once

#include <cuda_runtime.h>

#include "cuda/ops/stage.h"
#include "program/arithmetic.h"

namespace ultraspeed::cuda {

// After the stage of `op`, on all ranks: rounds the heads that its columns appended.
// REQUIRES: type is not kF32 and op has k and v heads.
cudaError_t launch_round_cache(const program::QkvProjOperands& op, program::KvCacheType type,
                               uint32_t width, const StageLaunch& launch);

}  // namespace ultraspeed::cuda
