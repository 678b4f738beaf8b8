// A ring of stages in shared memory that one thread fills with bulk copies and warps empty. Both
// sides walk the same sequence of stages, each with a position of its own.
#pragma once

#include <cstdint>

#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda {

template <uint32_t kStages>
struct RingBarriers {
  uint64_t full[kStages];   // completes when a stage's bytes are there
  uint64_t empty[kStages];  // completes when all consumer warps have left a stage

  // Called by one thread; a CTA barrier and fence_mbarrier_init() follow. A stage is full when its
  // announced bytes and num_fillers arrivals, that of claim_stage() among them, are in.
  __device__ void init(uint32_t num_consumer_warps, uint32_t num_fillers = 1) {
    for (uint32_t i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&full[i], num_fillers);
      ptx::mbarrier_init(&empty[i], num_consumer_warps);
    }
  }
};

template <uint32_t kStages>
struct RingPosition {
  uint32_t stage = 0;
  uint32_t parity = 0;  // of the stage's current use

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __device__ void advance(uint32_t count) {
    stage += count;
    for (; stage >= kStages; stage -= kStages) parity ^= 1;
  }
};

// For the thread that fills: waits for the stage at `at` to be free and announces its bytes.
// Partner: leave_stage() of the previous use; the first use waits for nothing.
template <uint32_t kStages>
__device__ __forceinline__ void claim_stage(RingBarriers<kStages>& ring,
                                            const RingPosition<kStages>& at, uint32_t bytes) {
  ptx::mbarrier_wait(&ring.empty[at.stage], at.parity ^ 1);
  ptx::mbarrier_arrive_expect_tx(&ring.full[at.stage], bytes);
}

// For the thread that fills, before it claims a stage: waits until fewer than kLimit stages are
// requested that have not arrived. More only lengthen the memory's queue (docs/performance.md).
template <uint32_t kStages, uint32_t kLimit>
class Throttle {
 public:
  static_assert(kLimit <= kStages);  // the stage waited for is not filled anew by then

  __device__ void wait(RingBarriers<kStages>& ring) {
    if (requested_++ < kLimit) return;
    ptx::mbarrier_wait(&ring.full[oldest_.stage], oldest_.parity);
    oldest_.advance();
  }

 private:
  uint32_t requested_ = 0;
  RingPosition<kStages> oldest_;
};

// For every consumer warp: its reads of the stage are done.
template <uint32_t kStages>
__device__ __forceinline__ void leave_stage(RingBarriers<kStages>& ring, uint32_t stage) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&ring.empty[stage]);
}

}  // namespace ultraspeed::cuda
