#include "cuda/resident/resident_kernel.h"

#include <algorithm>
#include <variant>

#include "cuda/ops/launch.cuh"
#include "cuda/resident/run_opcode.cuh"
#include "cuda/resident/step_exchange.cuh"
#include "cuda/sync/wait.cuh"

namespace ultraspeed::cuda {
namespace {

// Dynamic, of a CTA; the rest is for static arrays.
constexpr uint32_t kResidentSharedBytes = 200 * 1024;

// Units of a task in this step: more than one where it loops over live experts (cpu/ops/ops.h).
// REQUIRES: the route table has been written then.
__device__ uint32_t unit_count(const OpContext& context, const StageOperands& stage) {
  if (stage.opcode == program::Opcode::kExpertGateUp) {
    const auto& op = stage.as<program::ExpertGateUpOperands>();
    const uint32_t units = context.words(op.route)[0] * op.row_groups;
    const uint32_t first = context.task.row_begin, stride = context.task.part;
    return first < units ? (units - first + stride - 1) / stride : 0;
  }
  if (stage.opcode == program::Opcode::kExpertDown) {
    return context.words(stage.as<program::ExpertDownOperands>().route)[0];
  }
  return 1;
}

// A CTA's work. All threads call its functions together.
class ResidentCta {
 public:
  __device__ ResidentCta(const Resident& resident, std::byte* shared, ResidentCommand* command)
      : resident_(resident),
        board_(resident.board),
        shared_(shared),
        exchange_(resident.mailbox, resident.board, resident.first_number, gridDim.x, command,
                  blockIdx.x == 0) {}

  __device__ void run() {
    while (exchange_.begin_step() && run_list() && exchange_.end_step()) {
    }
  }

 private:
  // False when the step was aborted.
  __device__ bool run_list() {
    const ResidentProgram& program = resident_.programs[exchange_.command().program];
    const Epoch epoch = {program.counters,
                         program.flags,
                         program.num_counters,
                         program.num_flags,
                         resident_.machine.num_ranks,
                         exchange_.command().epoch};
    const uint32_t begin = program.first_task[blockIdx.x];
    const uint32_t end = program.first_task[blockIdx.x + 1];
    for (uint32_t index = begin; index < end; ++index) {
      const RankTask of_list = program.tasks[index];
      const OpContext context(resident_.machine, program.buffer_offsets, *resident_.step,
                              of_list.task, of_list.rank, shared_);
      const StageOperands& stage = program.stages[of_list.task.stage];
      // Who is timed, and by whom.
      program::TaskTime* time = threadIdx.x == 0 ? program.times : nullptr;
      if (time != nullptr) time += index;
      if (!run_task(context, stage, epoch, index - begin, time)) return false;
    }
    return true;
  }

  __device__ bool run_task(const OpContext& context, const StageOperands& stage, const Epoch& epoch,
                           uint32_t index, program::TaskTime* time) {
    const program::Task& task = context.task;
    if (time != nullptr) time->wait_ns = ptx::global_nanoseconds();
    if (!wait_counters(context, epoch, index)) return false;
    const uint32_t units = unit_count(context, stage);
    if (!wait_slots(context, epoch, index, units)) return false;
    if (time != nullptr) time->begin_ns = ptx::global_nanoseconds();
    if (threadIdx.x == 0) exchange_.note_heads(stage);
    run_opcode<true>(context, stage);
    task_barrier();  // all threads have written
    if (time != nullptr) time->end_ns = ptx::global_nanoseconds();
    if (threadIdx.x == 0) exchange_.note_draft(stage);
    if (task.signal.kind == program::SignalKind::kSlot) {
      signal_units(epoch, context.rank(), task.signal, task.row_begin, task.part, units);
    } else if (task.signal.kind == program::SignalKind::kCounter && threadIdx.x == 0) {
      signal_counter(epoch, context.rank(), task.signal);
    }
    return true;
  }

  __device__ bool wait_counters(const OpContext& context, const Epoch& epoch, uint32_t index) {
    bool is_met = true;
    if (threadIdx.x < 2) {  // one a wait
      const program::Wait& wait = context.task.waits[threadIdx.x];
      if (wait.kind == program::WaitKind::kCounter) {
        Deadline deadline(resident_.deadline_ns, &board_->aborted);
        uint32_t have = epoch.arrived(context.rank(), wait);
        for (; have < wait.need && is_met; have = epoch.arrived(context.rank(), wait)) {
          is_met = deadline.goes_on();
        }
        is_met = have >= wait.need;
        if (!is_met) report(index, wait, wait.id, have);
      }
    }
    return all_of_task(is_met);
  }

  // Waits for the slots of all units; each thread for some flags.
  __device__ bool wait_slots(const OpContext& context, const Epoch& epoch, uint32_t index,
                             uint32_t units) {
    bool is_met = true, has_waited = false;
    for (const program::Wait& wait : context.task.waits) {
      if (wait.kind != program::WaitKind::kSlot) continue;
      has_waited = true;
      Deadline deadline(resident_.deadline_ns, &board_->aborted);
      for (uint32_t i = threadIdx.x; i < units * wait.need && is_met; i += blockDim.x) {
        uint32_t have = epoch.flag(context.rank(), wait.id + i);
        for (; have != epoch.number && is_met; have = epoch.flag(context.rank(), wait.id + i)) {
          is_met = deadline.goes_on();
        }
        is_met = have == epoch.number;
        if (!is_met) report(index, wait, wait.id + i, have);
      }
    }
    return !has_waited || all_of_task(is_met);
  }

  // Notes what the CTA waits for, and ends all waits. The host reads the notes when the kernel has
  // returned, and tells that of the earliest stage: it is nearest to the cause.
  __device__ void report(uint32_t index, const program::Wait& wait, uint32_t id, uint32_t have) {
    resident_.faults[blockIdx.x] = {1, index, wait, id, have};
    if (atomicExch(&board_->aborted, 1u) != 0) return;  // partner: StepExchange, Deadline
    // Partner: Postbox::await().
    ptx::store_release_system(&resident_.mailbox->has_fault, 1);
  }

  const Resident& resident_;
  Board* const board_;
  std::byte* const shared_;
  StepExchange exchange_;
};

__global__ void __launch_bounds__(kTaskThreads, 1)
    resident_kernel(const __grid_constant__ Resident resident) {
  extern __shared__ __align__(16) std::byte shared[];
  __shared__ ResidentCommand command;
  ResidentCta(resident, shared, &command).run();
}

template <class Op>
constexpr bool kHasRoom = kSharedBytes<Op> <= kResidentSharedBytes;

}  // namespace

const char* resident_limit(const program::Operands& operands) {
  return std::visit(
      [](const auto& op) -> const char* {
        using Op = std::decay_t<decltype(op)>;
        static_assert(kHasRoom<Op>);
        if constexpr (std::is_same_v<Op, program::RouteOperands>) {
          if (route_shared_bytes<1>(op) > kResidentSharedBytes) {
            return "more experts, or experts a column, than one CTA routes";
          }
        }
        return nullptr;
      },
      operands);
}

cudaError_t count_resident_ctas(uint32_t* ctas) {
  const cudaError_t allowed =
      allow_shared_bytes(reinterpret_cast<const void*>(resident_kernel), kResidentSharedBytes);
  if (allowed != cudaSuccess) return allowed;
  int count = 0;
  const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &count, resident_kernel, kTaskThreads, kResidentSharedBytes);
  *ctas = static_cast<uint32_t>(count);
  return error;
}

cudaError_t launch_resident(const Resident& resident, uint32_t num_ctas, cudaStream_t stream) {
  const LaunchSize size = {dim3(num_ctas), kTaskThreads, kResidentSharedBytes};
  return launch_with(resident_kernel, size, {is_cooperative()}, stream, resident);
}

}  // namespace ultraspeed::cuda
