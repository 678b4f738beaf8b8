// Keys and values rounded as a KV cache of another type would keep them (program/arithmetic.h), in
// a cache of binary32: what the processor does in those modes.
#pragma once

#include <cuda_runtime.h>

#include "cuda/ops/stage.h"
#include "program/arithmetic.h"
#include "tensor/kv_rounding.h"

namespace ultraspeed::cuda {

// Of the kv heads of a stage on each rank, in device memory.
struct RankScales {
  const tensor::KvScales* of[kMaxRanks] = {};
};

struct CacheRounding {
  program::KvCacheType type = program::KvCacheType::kBf16;
  uint32_t width = 0;                      // columns, at most
  uint32_t first_rank = 0, num_ranks = 1;  // those held here
  RankScales scales;                       // of fp8
};

// After the stage of `op`, on these ranks: rounds the heads that its columns appended
// (tensor/kv_rounding.h). REQUIRES: type is not kF32 and op has k and v heads.
cudaError_t launch_round_cache(const program::QkvProjOperands& op, const CacheRounding& rounding,
                               const StageLaunch& launch);

}  // namespace ultraspeed::cuda
