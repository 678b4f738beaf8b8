// What a column's heads need in dense.h (dense_columns.h).
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/dense_columns.h"
#include "cuda/ops/rope.cuh"

namespace ultraspeed::cuda {

// For a warp: column t of a kind.
inline __device__ void make_dense_columns(const DenseColumnsLaunch& launch, uint32_t t,
                                          uint32_t of_kind) {
  const StepView& step = *launch.step;
  if (t >= step.num_columns) return;
  const DenseColumns kind = launch.kinds[of_kind];
  const uint32_t position = step.columns[t].position, half = kind.rotary_dim / 2;
  const uint32_t lane = threadIdx.x % kWarpThreads;
  for (uint32_t i = lane; i < half; i += kWarpThreads) {
    const RopeAngle angle = rope_angle(position, i, kind.rotary_dim, kind.rope);
    kind.rotations[t * half + i] = make_float2(angle.cosine, angle.sine);
  }
  if (lane == 0 && kind.cache_rows != nullptr) {
    kind.cache_rows[t] = static_cast<uint32_t>(
        cache_index(step, {kind.ring_positions, launch.kv_page_positions}, t, position));
  }
}

}  // namespace ultraspeed::cuda
