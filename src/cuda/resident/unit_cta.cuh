// A CTA that runs units of phases without pages: how it comes from step to step and from phase to
// phase. What its units do is Work's, a class derived from this.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/resident/phase.h"
#include "cuda/resident/step_exchange.cuh"
#include "cuda/sync/phase_counter.cuh"

namespace ultraspeed::cuda {

template <KvFormat kFormat>
using PhaseTile = KvTile<kFormat, kFlashHeadDim, kFlashValueDim>;

// Static shared memory.
struct UnitCtaShared {
  uint64_t entry_full[2];
  ResidentCommand command;
  PhaseList list;  // of the command's program
  PhaseStep step;
  uint32_t num_columns;  // of the step, since the CTA has waited in it
  alignas(16) Phase entries[2];

  // By one thread.
  __device__ void init() {
    ptx::mbarrier_init(&entry_full[0], 1);
    ptx::mbarrier_init(&entry_full[1], 1);
  }
};

// For all threads of a task, together. Work has run_unit(unit).
template <class Work>
class UnitCta {
 public:
  // cta: its number among those of all kernels, that of the first which runs units being the one
  // that speaks with the host.
  __device__ __forceinline__ UnitCta(const ResidentPhases& resident, UnitCtaShared& shared,
                                     std::byte* scratch, PhaseGroup group, uint32_t cta)
      : scratch_(scratch),
        resident_(resident),
        cta_shared_(shared),
        group_(group),
        cta_(cta),
        exchange_(resident.mailbox, resident.board, resident.first_number, resident.num_ctas,
                  &shared.command, speaks_with_host()) {}

  __device__ __forceinline__ void run() {
    while (exchange_.begin_step() && run_command() && exchange_.end_step()) {
    }
    end_kernels();
  }

 protected:
  __device__ __forceinline__ const Phase& phase() const {
    return cta_shared_.entries[(num_entries_ - 1) % 2];
  }

  // Waits for what the phase needs. Nothing of a step is known before the first time in it, but
  // what is in phases. When the step was aborted the unit goes on: what it reads lies where it
  // always does.
  __device__ __forceinline__ void await() {
    if (is_awaited_) return;
    is_awaited_ = true;
    bool goes_on = true;
    if (threadIdx.x == 0) {
      goes_on = begin_phase(resident_, cta_shared_.step, phase(), cta_);
      if (!is_step_known_) cta_shared_.num_columns = resident_.step->num_columns;
    }
    goes_on_ = all_of_task(goes_on);
    is_step_known_ = true;
  }
  // False behind an await() of a step that was aborted.
  __device__ __forceinline__ bool goes_on() const { return goes_on_; }
  __device__ __forceinline__ bool is_step_known() const { return is_step_known_; }
  // That it has entered, this one included: a number for it.
  __device__ __forceinline__ uint32_t num_steps() const { return num_steps_; }
  __device__ __forceinline__ uint32_t num_columns() const { return cta_shared_.num_columns; }
  __device__ __forceinline__ const ResidentPhases& resident() const { return resident_; }
  __device__ __forceinline__ const StepExchange& exchange() const { return exchange_; }

  std::byte* const scratch_;  // what a unit works in

 private:
  __device__ __forceinline__ bool speaks_with_host() const {
    return blockIdx.x == 0 && group_ == PhaseGroup::kUnits;
  }

  // False when the step was aborted.
  __device__ __forceinline__ bool run_command() {
    const ResidentCommand& command = exchange_.command();
    if (threadIdx.x == 0) {
      const PhaseProgram& program = resident_.programs[command.program];
      PhaseTime* times = program.times == nullptr ? nullptr : program.times + cta_;
      cta_shared_.list = program.lists[static_cast<uint32_t>(group_)];
      cta_shared_.step = {program.counters, times, command.epoch - 1};
    }
    task_barrier();
    const uint32_t count = cta_shared_.list.count * command.num_steps;
    if (count > 0) fetch_entry(0);
    for (uint32_t i = 0; i < count; ++i) {
      if (i % cta_shared_.list.count == 0) enter_step();
      const uint32_t entry = num_entries_++;
      if (i + 1 < count) fetch_entry(i + 1);
      ptx::mbarrier_wait(&cta_shared_.entry_full[entry % 2], entry / 2 % 2);
      if (!run_phase()) return false;
    }
    return !speaks_with_host() || await_end(command);
  }

  // Other CTAs' parts, too: the host is answered behind it.
  __device__ __forceinline__ bool await_end(const ResidentCommand& command) {
    bool goes_on = true;
    if (threadIdx.x == 0) {
      const PhaseProgram& program = resident_.programs[command.program];
      const PhaseStep step = {program.counters, nullptr, command.epoch + command.num_steps - 1};
      goes_on = await_phase(resident_, step, program.last, cta_);
    }
    return all_of_task(goes_on);
  }

  __device__ __forceinline__ void enter_step() {
    is_step_known_ = false;
    ++num_steps_;
    if (threadIdx.x == 0) ++cta_shared_.step.epoch;
  }

  // Phase i of the command, behind the one that has been read last; the one before is not read any
  // more.
  __device__ __forceinline__ void fetch_entry(uint32_t i) {
    if (threadIdx.x != 0) return;
    const uint32_t place = num_entries_ % 2;
    uint64_t& full = cta_shared_.entry_full[place];
    const Phase* phase = &cta_shared_.list.phases[i % cta_shared_.list.count];
    ptx::mbarrier_arrive_expect_tx(&full, sizeof(Phase));
    ptx::bulk_copy(&cta_shared_.entries[place], phase, sizeof(Phase), &full);
  }

  // False when the step was aborted.
  __device__ __forceinline__ bool run_phase() {
    is_awaited_ = false;
    goes_on_ = true;
    const Phase& phase = this->phase();
    if (blockIdx.x < phase.arrivals) {
      for (uint32_t unit = blockIdx.x; unit < phase.num_units; unit += phase.arrivals) {
        static_cast<Work*>(this)->run_unit(unit);
        ptx::fence_proxy_async();  // what it wrote to its scratch; next copies may write there
        task_barrier();
      }
      if (!goes_on_) return false;
      if (threadIdx.x == 0) end_phase(resident_, cta_shared_.step, phase, blockIdx.x);
    }
    task_barrier();  // nobody reads the entry any more
    return true;
  }

  // When a step was aborted one CTA sees to it that all kernels end: what a fault has left may have
  // warps wait for each other, whom nothing else would end.
  __device__ __forceinline__ void end_kernels() const {
    constexpr uint64_t kGraceNanoseconds = 2'000'000'000;
    Board* board = resident_.board;
    if (threadIdx.x != 0 || ptx::load_acquire(&board->aborted) == 0) return;
    ptx::add_release(&board->left, 1);
    if (!speaks_with_host()) return;
    const uint64_t begin = ptx::global_nanoseconds();
    while (ptx::load_acquire(&board->left) != resident_.num_ctas) {
      if (ptx::global_nanoseconds() - begin > kGraceNanoseconds) __trap();
    }
  }

  const ResidentPhases& resident_;
  UnitCtaShared& cta_shared_;
  const PhaseGroup group_;
  const uint32_t cta_;
  StepExchange exchange_;
  uint32_t num_entries_ = 0;  // that it has read
  uint32_t num_steps_ = 0;
  bool is_awaited_ = false;
  bool goes_on_ = true;         // false: the step was aborted
  bool is_step_known_ = false;  // it has waited in it
};

// A kernel of Work's CTAs, of which first_cta is the first among those of all kernels. shared:
// Work's, static.
template <class Work, class Shared>
__device__ __forceinline__ void run_unit_cta(const ResidentPhases& resident, Shared& shared,
                                             std::byte* scratch, uint32_t first_cta) {
  if (threadIdx.x == 0) {
    shared.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  Work(resident, shared, scratch, first_cta + blockIdx.x).run();
}

}  // namespace ultraspeed::cuda
