// Counters of phases (resident/phase.h).
#pragma once

#include <cstdint>

#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/counter.cuh"
#include "cuda/ptx/timer.cuh"
#include "cuda/resident/phase.h"

namespace ultraspeed::cuda {

// CTAs of `arrivals` that count at way `way`: those whose number is `way` modulo kPhaseWays.
US_HOST_DEVICE constexpr uint32_t arrivals_of_way(uint32_t arrivals, uint32_t way) {
  return (arrivals + kPhaseWays - 1 - way) / kPhaseWays;
}

// For one thread: waits until all CTAs of a phase have counted themselves in steps up to `epoch`.
// Partner: end_phase(). What they wrote is visible behind it, to bulk copies too.
__device__ __forceinline__ void await_phase(const uint32_t* counters, const PhaseWait& wait,
                                            uint32_t epoch) {
  const uint32_t* counter = counters + uint64_t{wait.phase} * kPhaseCounterWords;
  bool is_met = false;
  while (!is_met) {
    uint32_t have[kPhaseWays];
#pragma unroll
    for (uint32_t way = 0; way < kPhaseWays; ++way) {
      have[way] = ptx::load_relaxed(counter + way * kPhaseWayWords);
    }
    is_met = true;
#pragma unroll
    for (uint32_t way = 0; way < kPhaseWays; ++way) {
      const uint32_t need = arrivals_of_way(wait.arrivals, way) * (epoch - wait.steps_back);
      is_met = is_met && static_cast<int32_t>(have[way] - need) >= 0;
    }
  }
  ptx::fence_acq_rel();
  ptx::fence_proxy_async_all();
}

// For one thread: the same for what a phase needs. time_index: the CTA, in PhaseProgram::times.
__device__ __forceinline__ void begin_phase(const PhaseProgram& program, const Phase& phase,
                                            uint32_t epoch, uint32_t time_index) {
  if (phase.wait.phase != kNoPhase) await_phase(program.counters, phase.wait, epoch);
  if (program.times == nullptr) return;
  program.times[uint64_t{phase.index} * program.num_times + time_index].begin =
      ptx::global_nanoseconds();
}

// For one thread, behind a barrier of those that wrote: counts CTA `cta` of its kind at the phase.
// Who waits for it has the fence between what was written and bulk copies of that: one on the way
// is enough.
__device__ __forceinline__ void end_phase(const PhaseProgram& program, const Phase& phase,
                                          uint32_t cta, uint32_t time_index) {
  ptx::add_release(program.counters + uint64_t{phase.index} * kPhaseCounterWords +
                       cta % kPhaseWays * kPhaseWayWords,
                   1);
  if (program.times == nullptr) return;
  program.times[uint64_t{phase.index} * program.num_times + time_index].end =
      ptx::global_nanoseconds();
}

}  // namespace ultraspeed::cuda
