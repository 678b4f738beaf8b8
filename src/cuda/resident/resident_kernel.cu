#include "cuda/resident/resident_kernel.h"

#include <algorithm>
#include <variant>

#include "cuda/ops/accept.cuh"
#include "cuda/ops/attention.cuh"
#include "cuda/ops/attention_merge.cuh"
#include "cuda/ops/embed.cuh"
#include "cuda/ops/expert_down.cuh"
#include "cuda/ops/expert_gate_up.cuh"
#include "cuda/ops/follow.cuh"
#include "cuda/ops/gate_up.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/linear.cuh"
#include "cuda/ops/out_proj.cuh"
#include "cuda/ops/propose.cuh"
#include "cuda/ops/qkv_proj.cuh"
#include "cuda/ops/reduce.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/sample.cuh"
#include "cuda/sync/wait.cuh"

namespace ultraspeed::cuda {
namespace {

// Dynamic, of a CTA; the rest is for static arrays.
constexpr uint32_t kResidentSharedBytes = 200 * 1024;

// Route has no run_op() of its own: here a rank's columns are one CTA's.
template <uint32_t kOfLane>
__device__ void route(const OpContext& context, const program::RouteOperands& op) {
  __shared__ uint32_t totals[kTaskWarps];
  __shared__ __align__(16) ColumnShared of_warps[kTaskWarps];
  RouteCta<kOfLane, 1, kTaskWarps> cta(context, op, 1);
  cta.prepare();
  cta.run(context.num_columns(), totals, of_warps);
}

__device__ void run_op(const OpContext& context, const program::RouteOperands& op) {
  constexpr uint32_t kFew = 16;  // experts of a lane
  if (op.num_experts <= kFew * kWarpThreads) {
    route<kFew>(context, op);
  } else {
    route<kMaxRouteExperts / kWarpThreads>(context, op);
  }
}

template <class Op>
__device__ __noinline__ void run_stage(const OpContext& context, const StageOperands& stage) {
  const Op op = stage.as<Op>();
  run_op(context, op);
}

__device__ void run_opcode(const OpContext& context, const StageOperands& stage) {
  switch (stage.opcode) {
#define US_CASE(name)            \
  case program::Opcode::k##name: \
    return run_stage<program::name##Operands>(context, stage);
    US_OPCODES(US_CASE)
#undef US_CASE
  }
}

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

// Reads the host's memory anew.
template <class T>
__device__ T load_anew(const T* from) {
  return __ldcv(from);
}

// By all threads of a CTA: whole words of 4 bytes.
__device__ void copy_words(void* to, const void* from, uint32_t size_bytes) {
  for (uint32_t i = threadIdx.x; i < size_bytes / 4; i += blockDim.x) {
    static_cast<uint32_t*>(to)[i] = load_anew(static_cast<const uint32_t*>(from) + i);
  }
}

// The same, of 16 bytes, loads ahead. REQUIRES: multiples of 16.
__device__ void copy_quads(std::byte* to, const std::byte* from, uint64_t size_bytes) {
  constexpr uint32_t kAhead = 4;
  const uint64_t count = size_bytes / 16;
  for (uint64_t begin = threadIdx.x; begin < count; begin += kAhead * blockDim.x) {
    uint4 quads[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint64_t at = begin + i * blockDim.x;
      if (at < count) quads[i] = load_anew(reinterpret_cast<const uint4*>(from) + at);
    }
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint64_t at = begin + i * blockDim.x;
      if (at < count) reinterpret_cast<uint4*>(to)[at] = quads[i];
    }
  }
}

static_assert(sizeof(ResidentCommand) % 4 == 0 && sizeof(StepView) % 4 == 0);

// A CTA's work. All threads call its functions together.
class ResidentCta {
 public:
  __device__ ResidentCta(const Resident& resident, std::byte* shared, ResidentCommand* command)
      : resident_(resident), board_(resident.board), shared_(shared), command_(command) {}

  __device__ void run() {
    for (uint32_t number = resident_.first_number;; ++number) {
      if (blockIdx.x == 0 ? !fetch_step(number) : !await_step(number)) return;
      if (command_->program == kStopProgram) return;
      if (!run_list()) return;
      if (!end_step(number)) return;
    }
  }

 private:
  __device__ bool is_aborted() const { return ptx::load_acquire(&board_->aborted) != 0; }

  // Waits for the host, longer and longer from poll to poll; shows the step to the other CTAs.
  // False when the kernel was aborted.
  __device__ bool fetch_step(uint32_t number) {
    const Mailbox* mailbox = resident_.mailbox;
    bool goes_on = true;
    if (threadIdx.x == 0) {
      uint32_t pause_ns = 20;
      // Partner: PersistentExecutor::post().
      while (ptx::load_acquire_system(&mailbox->number) != number) {
        goes_on = !is_aborted();
        if (!goes_on) break;
        __nanosleep(pause_ns);
        pause_ns = min(pause_ns + pause_ns / 16, 4000u);
      }
    }
    if (!__syncthreads_and(goes_on)) return false;
    copy_words(command_, &mailbox->command, sizeof(ResidentCommand));
    __syncthreads();
    // All CTAs have copied the one before: they counted themselves done, or there was no answer.
    copy_words(&board_->command, &mailbox->command, sizeof(ResidentCommand));
    const StepTransfer& step = command_->step;
    if (command_->program != kStopProgram) {
      copy_words(step.device_view, step.host_view, sizeof(StepView));
      copy_quads(step.device, step.host, step.upload_end);
      if (threadIdx.x == 0) {
        const uint64_t now = ptx::global_nanoseconds();
        board_->times = {.begin = now, .draft_end = now, .heads_begin = 0, .end = 0};
      }
    }
    __syncthreads();
    // Partner: await_step().
    if (threadIdx.x == 0) ptx::store_release(&board_->number, number);
    return true;
  }

  __device__ bool await_step(uint32_t number) {
    bool goes_on = true;
    if (threadIdx.x == 0) {
      // Partner: fetch_step().
      while (ptx::load_acquire(&board_->number) != number) {
        goes_on = !is_aborted();
        if (!goes_on) break;
        __nanosleep(100);
      }
    }
    if (!__syncthreads_and(goes_on)) return false;
    copy_words(command_, &board_->command, sizeof(ResidentCommand));
    __syncthreads();
    return true;
  }

  // False when the step was aborted.
  __device__ bool run_list() {
    const ResidentProgram& program = resident_.programs[command_->program];
    const Epoch epoch = {program.counters,
                         program.flags,
                         program.num_counters,
                         program.num_flags,
                         resident_.machine.num_ranks,
                         command_->epoch};
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
    note_heads(stage);
    run_opcode(context, stage);
    __syncthreads();  // all threads have written
    if (time != nullptr) time->end_ns = ptx::global_nanoseconds();
    note_draft(stage);
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
    return __syncthreads_and(is_met) != 0;
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
    return !has_waited || __syncthreads_and(is_met) != 0;
  }

  // Notes what the CTA waits for, and ends all waits. The host reads the notes when the kernel has
  // returned, and tells that of the earliest stage: it is nearest to the cause.
  __device__ void report(uint32_t index, const program::Wait& wait, uint32_t id, uint32_t have) {
    resident_.faults[blockIdx.x] = {1, index, wait, id, have};
    if (atomicExch(&board_->aborted, 1u) != 0) return;  // partner: is_aborted(), Deadline
    // Partner: PersistentExecutor::await_answer().
    ptx::store_release_system(&resident_.mailbox->has_fault, 1);
  }

  __device__ void note_heads(const StageOperands& stage) {
    if (stage.opcode != program::Opcode::kFollow || threadIdx.x != 0) return;
    if (stage.as<program::FollowOperands>().distance != 1) return;
    board_->times.heads_begin = ptx::global_nanoseconds();
  }

  // The latest of the tasks that propose ends the draft part.
  __device__ void note_draft(const StageOperands& stage) {
    if (stage.opcode != program::Opcode::kPropose || threadIdx.x != 0) return;
    if (stage.as<program::ProposeOperands>().accepted != program::kNoId) return;
    atomicMax(&board_->times.draft_end, static_cast<unsigned long long>(ptx::global_nanoseconds()));
  }

  // CTA 0 answers when all have ended their lists. A CTA that waits for nothing comes to its end:
  // there is no deadline here.
  __device__ bool end_step(uint32_t number) {
    __syncthreads();
    if (threadIdx.x == 0) ptx::add_release(&board_->done, 1);  // partner: CTA 0, below
    if (blockIdx.x != 0) return true;
    bool is_met = true;
    if (threadIdx.x == 0) {
      const uint32_t all = gridDim.x * (number - resident_.first_number + 1);
      while (ptx::load_acquire(&board_->done) != all && is_met) is_met = !is_aborted();
    }
    if (!__syncthreads_and(is_met)) return false;
    Mailbox* mailbox = resident_.mailbox;
    const StepTransfer& step = command_->step;
    copy_quads(step.host + step.results_begin, step.device + step.results_begin,
               step.end - step.results_begin);
    if (threadIdx.x == 0) {
      mailbox->times = {.begin = board_->times.begin,
                        .draft_end = board_->times.draft_end,
                        .heads_begin = board_->times.heads_begin,
                        .end = ptx::global_nanoseconds()};
    }
    __syncthreads();
    // Partner: PersistentExecutor::await_answer().
    if (threadIdx.x == 0) ptx::store_release_system(&mailbox->answer, number);
    return true;
  }

  const Resident& resident_;
  Board* const board_;
  std::byte* const shared_;
  ResidentCommand* const command_;  // shared
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
