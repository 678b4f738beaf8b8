// What the heads of a step's columns need in dense.h: rotations and cache rows, made once a step
// for all QkvProj stages that share them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/view.h"
#include "tensor/rope.h"

namespace ultraspeed::cuda {

// For heads that rotate alike and caches in which positions lie alike.
struct DenseColumns {
  tensor::Rope rope;
  uint32_t rotary_dim = 0;
  uint32_t ring_positions = 0;     // of the cache; 0: paged
  float2* rotations = nullptr;     // [columns, rotary_dim / 2]: cos and sin of rope_angle()
  uint32_t* cache_rows = nullptr;  // [columns]: where the column's position lies; nullptr: nowhere
};

// The step's columns of each of `kinds` (device, [num_kinds]); width: the most that a step has.
struct DenseColumnsLaunch {
  const StepView* step = nullptr;  // device
  uint32_t width = 0;
  uint32_t kv_page_positions = 0;
  const DenseColumns* kinds = nullptr;
  uint32_t num_kinds = 0;
};
cudaError_t launch_dense_columns(const DenseColumnsLaunch& launch, cudaStream_t stream);

}  // namespace ultraspeed::cuda
