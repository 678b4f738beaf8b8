// The persistent executor: one kernel that stays on the device (resident/) and runs the tasks of a
// program as verify() has proven them, with their counters. The host writes a step to a mailbox.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cuda/device_turn.h"
#include "cuda/executor.h"
#include "cuda/machine_executor.h"
#include "cuda/resident/resident.h"
#include "cuda/resident/resident_kernel.h"
#include "program/print.h"

namespace ultraspeed::cuda {
namespace {

using Clock = std::chrono::steady_clock;

template <class T>
Result<DeviceMemory> to_device(std::span<const T> values) {
  US_ASSIGN(DeviceMemory memory, DeviceMemory::allocate(std::max<size_t>(values.size_bytes(), 16)));
  US_TRY(cuda_status(
      cudaMemcpy(memory.data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice),
      "copying a program"));
  return memory;
}

StageOperands stage_operands(const program::Operands& operands) {
  StageOperands stage;
  stage.opcode = program::opcode_of(operands);
  std::visit(
      [&](const auto& op) {
        static_assert(std::is_trivially_copyable_v<std::decay_t<decltype(op)>>);
        std::memcpy(stage.bytes, &op, sizeof(op));
      },
      operands);
  return stage;
}

// A program's lists and counters in device memory.
struct ProgramLists {
  DeviceMemory tasks, first_task, stages, counters, flags;
  DeviceMemory times;  // TaskTime of every task; empty: nobody asks
  uint32_t epoch = 0;  // steps since the counters were zero

  static Result<ProgramLists> make(const program::Program& program, bool is_timed) {
    std::vector<RankTask> tasks;
    std::vector<uint32_t> first_task = {0};
    for (size_t i = 0; i < program.lists.size(); ++i) {
      const auto rank = static_cast<uint32_t>(i) / program.num_workers;
      for (const program::Task& task : program.lists[i]) tasks.push_back({task, rank});
      first_task.push_back(static_cast<uint32_t>(tasks.size()));
    }
    std::vector<StageOperands> stages;
    for (const program::Stage& stage : program.stages) {
      stages.push_back(stage_operands(stage.operands));
    }
    const std::vector<uint32_t> counters(uint64_t{program.num_ranks} * program.num_counters);
    const std::vector<uint32_t> flags(uint64_t{program.num_ranks} * program.num_flags);
    ProgramLists lists;
    if (is_timed) {
      const uint64_t size_bytes = tasks.size() * sizeof(program::TaskTime);
      US_ASSIGN(lists.times, DeviceMemory::allocate(size_bytes));
    }
    US_ASSIGN(lists.tasks, to_device(std::span<const RankTask>(tasks)));
    US_ASSIGN(lists.first_task, to_device(std::span<const uint32_t>(first_task)));
    US_ASSIGN(lists.stages, to_device(std::span<const StageOperands>(stages)));
    US_ASSIGN(lists.counters, to_device(std::span<const uint32_t>(counters)));
    US_ASSIGN(lists.flags, to_device(std::span<const uint32_t>(flags)));
    return lists;
  }

  ResidentProgram view(const program::Program& program, const ProgramMemory& memory) const {
    return {.tasks = tasks.as<const RankTask>(),
            .first_task = first_task.as<const uint32_t>(),
            .stages = stages.as<const StageOperands>(),
            .buffer_offsets = memory.buffer_offsets.as<const uint64_t>(),
            .counters = counters.as<uint32_t>(),
            .flags = flags.as<uint32_t>(),
            .num_counters = program.num_counters,
            .num_flags = program.num_flags,
            .times = times.as<program::TaskTime>()};
  }

  // After a step that was not ended. REQUIRES: nothing runs.
  Status reset() {
    epoch = 0;
    US_TRY(cuda_status(cudaMemset(counters.data(), 0, counters.size_bytes()), "resetting"));
    return cuda_status(cudaMemset(flags.data(), 0, flags.size_bytes()), "resetting");
  }
};

class PersistentExecutor final : public MachineExecutor, public Occupant {
 public:
  explicit PersistentExecutor(const PersistentOptions& options)
      : MachineExecutor(program::Activations::kF32, program::KvCacheType::kF32),
        deadline_(std::chrono::milliseconds(options.wait_deadline_ms)),
        trace_(options.trace) {}

  ~PersistentExecutor() override {
    const DeviceTurn turn;  // this one leaves, too
  }

  // Nobody could be told what goes wrong; the next step finds it.
  void leave() override { static_cast<void>(stop()); }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    const DeviceTurn turn(this);
    US_TRY(check(programs));
    US_TRY(load_machine(std::move(programs), limits, read_weight));
    std::vector<ResidentProgram> views;
    for (uint32_t i = 0; i < machine_.programs().size(); ++i) {
      const program::Program& program = machine_.programs()[i];
      US_ASSIGN(ProgramLists lists, ProgramLists::make(program, static_cast<bool>(trace_)));
      views.push_back(lists.view(program, machine_.memory(i)));
      lists_.push_back(std::move(lists));
    }
    US_ASSIGN(copy_stream_, make_stream());
    US_ASSIGN(views_, to_device(std::span<const ResidentProgram>(views)));
    US_ASSIGN(board_, DeviceMemory::allocate(sizeof(Board)));
    US_ASSIGN(mailbox_memory_, PinnedMemory::allocate(sizeof(Mailbox)));
    mailbox_ = new (mailbox_memory_.data()) Mailbox();
    return cuda_status(cudaDeviceSynchronize(), "preparing to run");
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(check_run(index, input));
    const DeviceTurn turn(this);
    if (step_->lay_out(machine_.programs()[index], input)) US_TRY(stop());
    US_ASSIGN(const StepTransfer step, step_->prepare(input));
    US_TRY(start());
    US_TRY(post({index, ++lists_[index].epoch, step}));
    US_TRY(await_answer(index));
    US_TRY(step_->read(input, output));
    output->draft_s = draft_seconds(mailbox_->times);
    return trace_ ? tell_trace(index) : Status();
  }

  // The runtime copies with kernels, which need room.
  Status copy_cache(const program::CacheCopy& copy) override {
    const DeviceTurn turn(this);
    US_TRY(stop());
    US_TRY(machine_.copy_cache(copy, stream_.get()));
    return cuda_status(cudaStreamSynchronize(stream_.get()), "copying a KV cache");
  }

 private:
  // Whether the kernel has room for all programs.
  Status check(std::span<const program::Program> programs) {
    uint32_t most = 0;
    US_TRY(cuda_status(count_resident_ctas(&most), "asking how many CTAs run at once"));
    for (const program::Program& program : programs) {
      num_ctas_ = static_cast<uint32_t>(program.lists.size());
      if (num_ctas_ > most) {
        return make_error(ErrorCode::kUnsupported,
                          "program '{}' has {} workers; the GPU runs {} at the same time, one on "
                          "each multiprocessor",
                          program.name, num_ctas_, most);
      }
      for (const program::Stage& stage : program.stages) {
        const char* what = resident_limit(stage.operands, program.width);
        if (what == nullptr) continue;
        return make_error(ErrorCode::kUnsupported,
                          "stage '{}' of program '{}' has {}, for which there is no kernel",
                          stage.name, program.name, what);
      }
    }
    return {};
  }

  // Unless the kernel runs.
  Status start() {
    if (is_running_) return {};
    US_TRY(cuda_status(cudaMemsetAsync(board_.data(), 0, sizeof(Board), stream_.get()),
                       "starting the kernel"));
    Resident resident;
    resident.machine = machine_.view();
    resident.programs = views_.as<const ResidentProgram>();
    resident.step = step_->device_view();
    resident.mailbox = mailbox_;
    resident.board = board_.as<Board>();
    resident.first_number = mailbox_->number + 1;
    resident.deadline_ns = static_cast<uint64_t>(std::chrono::nanoseconds(deadline_).count());
    US_TRY(cuda_status(launch_resident(resident, num_ctas_, stream_.get()), "starting the kernel"));
    is_running_ = true;
    return {};
  }

  // Waits until the kernel has returned.
  Status stop() {
    if (!is_running_) return {};
    US_TRY(post({}));
    return join("stopping the kernel");
  }

  Status join(std::string_view what) {
    is_running_ = false;
    return cuda_status(cudaStreamSynchronize(stream_.get()), what);
  }

  // Release: partner ResidentCta::fetch_step().
  Status post(const ResidentCommand& command) {
    mailbox_->command = command;
    std::atomic_ref(mailbox_->number).fetch_add(1, std::memory_order_release);
    return {};
  }

  // Acquire: the step's results are in the image. A kernel that does not answer although no wait of
  // it passed its deadline has stopped in an operation.
  Status await_answer(uint32_t index) {
    constexpr uint32_t kSpins = 1 << 16;
    const auto is_answered = [&] {
      return std::atomic_ref(mailbox_->answer).load(std::memory_order_acquire) == mailbox_->number;
    };
    for (;;) {
      for (uint32_t i = 0; i < kSpins; ++i) {
        if (is_answered()) return {};
      }
      if (std::atomic_ref(mailbox_->has_fault).load(std::memory_order_acquire) != 0) {
        return recover(index);
      }
      const cudaError_t state = cudaStreamQuery(stream_.get());
      if (state != cudaErrorNotReady && !is_answered()) {
        is_running_ = false;
        if (state == cudaSuccess) return recover(index);
        return cuda_status(state, "running a step");
      }
    }
  }

  // The kernel has told a fault and returns; the next step starts it again.
  Status recover(uint32_t index) {
    US_TRY(join("stopping the kernel after a fault"));
    const ResidentFault fault = mailbox_->fault;
    const program::Program& program = machine_.programs()[index];
    const bool is_counter = fault.wait.kind == program::WaitKind::kCounter;
    const uint32_t need = is_counter ? fault.wait.need : lists_[index].epoch;
    mailbox_->has_fault = 0;
    for (ProgramLists& lists : lists_) US_TRY(lists.reset());
    return make_error(
        ErrorCode::kInternal, "program '{}' stuck: {} waited {} ms for {} {}: needs {}, has {}",
        program.name,
        program::task_location(program, fault.cta / program.num_workers,
                               fault.cta % program.num_workers, fault.task),
        deadline_.count(), is_counter ? "counter" : "flag", fault.id, need, fault.have);
  }

  Status tell_trace(uint32_t index) {
    const program::Program& program = machine_.programs()[index];
    const ProgramLists& lists = lists_[index];
    std::vector<program::TaskTime> times(program.num_tasks());
    // In a stream of its own: the kernel's is busy as long as it stays.
    US_TRY(cuda_status(cudaMemcpyAsync(times.data(), lists.times.data(), lists.times.size_bytes(),
                                       cudaMemcpyDeviceToHost, copy_stream_.get()),
                       "copying a trace"));
    US_TRY(cuda_status(cudaStreamSynchronize(copy_stream_.get()), "copying a trace"));
    program::StepTrace trace{mailbox_->times.begin, mailbox_->times.end, {}};
    auto next = times.begin();
    for (const auto& list : program.lists) {
      const auto end = next + static_cast<ptrdiff_t>(list.size());
      trace.lists.emplace_back(next, end);
      next = end;
    }
    trace_(program, trace);
    return {};
  }

  static double draft_seconds(const StepTimes& times) {
    const uint64_t heads = times.heads_begin == 0 ? 0 : times.end - times.heads_begin;
    return static_cast<double>(times.draft_end - times.begin + heads) * 1e-9;
  }

  const std::chrono::milliseconds deadline_;
  const program::TraceSink trace_;
  Stream copy_stream_;
  std::vector<ProgramLists> lists_;  // [program]
  DeviceMemory views_;               // ResidentProgram [program]
  DeviceMemory board_;               // Board
  PinnedMemory mailbox_memory_;
  Mailbox* mailbox_ = nullptr;
  uint32_t num_ctas_ = 0;
  bool is_running_ = false;
};

}  // namespace

std::unique_ptr<program::Executor> make_persistent_executor(const PersistentOptions& options) {
  return std::make_unique<PersistentExecutor>(options);
}

}  // namespace ultraspeed::cuda
