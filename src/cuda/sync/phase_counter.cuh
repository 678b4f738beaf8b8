// Waits for phases and arrivals at them (resident/phase.h). The twin of sync/wait.cuh.
#pragma once

#include <cstdint>

#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/counter.cuh"
#include "cuda/ptx/timer.cuh"
#include "cuda/resident/phase.h"
#include "cuda/sync/wait.cuh"

namespace ultraspeed::cuda {

// What a CTA has to know of the step that it runs.
struct PhaseStep {
  uint32_t* counters = nullptr;
  PhaseTime* times = nullptr;  // of the CTA, in the first phase; nullptr: nobody asks
  uint32_t epoch = 0;          // 0: no step, the kernel returns
};

// CTAs of `arrivals` that count at way `way`: those whose number is `way` modulo kPhaseWays.
US_HOST_DEVICE constexpr uint32_t arrivals_of_way(uint32_t arrivals, uint32_t way) {
  return (arrivals + kPhaseWays - 1 - way) / kPhaseWays;
}

// How many of the arrivals that `wait` needs there are in a step; all that it needs is
// wait.arrivals.
__device__ __forceinline__ uint32_t count_arrivals(const PhaseStep& step, const PhaseWait& wait) {
  const uint32_t* counter = step.counters + uint64_t{wait.phase} * kPhaseCounterWords;
  const uint32_t before = step.epoch - wait.steps_back - 1;
  uint32_t have[kPhaseWays];
#pragma unroll
  for (uint32_t way = 0; way < kPhaseWays; ++way) {
    have[way] = ptx::load_relaxed(counter + way * kPhaseWayWords);
  }
  uint32_t count = 0;
#pragma unroll
  for (uint32_t way = 0; way < kPhaseWays; ++way) {
    const uint32_t need = arrivals_of_way(wait.arrivals, way);
    const auto of_step = static_cast<int32_t>(have[way] - need * before);
    count += static_cast<uint32_t>(min(max(of_step, 0), static_cast<int32_t>(need)));
  }
  return count;
}

// For one thread: notes what CTA `cta` of all kernels waited for first, and ends all waits.
__device__ __forceinline__ void report_fault(const ResidentPhases& resident, uint32_t cta,
                                             const PhaseWait& wait, uint32_t have) {
  PhaseFault& fault = resident.faults[cta];
  if (atomicCAS(&fault.is_set, 0, 1) == 0) {
    fault.phase = wait.phase;
    fault.need = wait.arrivals;
    fault.have = have;
  }
  if (atomicExch(&resident.board->aborted, 1u) != 0) return;  // partner: StepExchange, Deadline
  // Partner: Postbox::await().
  ptx::store_release_system(&resident.mailbox->has_fault, 1);
}

// For one thread: waits until all CTAs of a phase have counted themselves. Partner: end_phase().
// What they wrote is visible behind it, to bulk copies too. False: the step was aborted. Who cannot
// stop on the spot goes on as if all were there, with numbers that nobody will see, after as long
// as a unit takes: by then what is written at that moment has been, and all read the same of it.
__device__ __forceinline__ bool await_phase(const ResidentPhases& resident, const PhaseStep& step,
                                            const PhaseWait& wait, uint32_t cta) {
  constexpr uint32_t kUnitNanoseconds = 200'000;
  Deadline deadline(resident.deadline_ns, &resident.board->aborted);
  uint32_t have = count_arrivals(step, wait);
  bool goes_on = true;
  for (; have != wait.arrivals && goes_on; have = count_arrivals(step, wait)) {
    goes_on = deadline.goes_on();
  }
  ptx::fence_acq_rel();
  ptx::fence_proxy_async_all();
  if (goes_on) return true;
  report_fault(resident, cta, wait, have);
  __nanosleep(kUnitNanoseconds);
  return false;
}

// For one thread: the same for what a phase needs.
__device__ __forceinline__ bool begin_phase(const ResidentPhases& resident, const PhaseStep& step,
                                            const Phase& phase, uint32_t cta) {
  const bool goes_on = phase.wait.phase == kNoPhase || await_phase(resident, step, phase.wait, cta);
  if (step.times == nullptr) return goes_on;
  step.times[uint64_t{phase.index} * resident.num_ctas].begin = ptx::global_nanoseconds();
  return goes_on;
}

// For one thread, behind a barrier of those that wrote: counts CTA `of_group` of its group at the
// phase. Who waits for it has the fence between what was written and bulk copies of that: one on
// the way is enough.
__device__ __forceinline__ void end_phase(const ResidentPhases& resident, const PhaseStep& step,
                                          const Phase& phase, uint32_t of_group) {
  ptx::add_release(step.counters + uint64_t{phase.index} * kPhaseCounterWords +
                       of_group % kPhaseWays * kPhaseWayWords,
                   1);
  if (step.times == nullptr) return;
  step.times[uint64_t{phase.index} * resident.num_ctas].end = ptx::global_nanoseconds();
}

}  // namespace ultraspeed::cuda
