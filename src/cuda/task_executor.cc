// The persistent executor in f32: one kernel that stays on the device (resident/) and runs the
// tasks of a program as verify() has proven them, with their counters. The host writes a step to a
// mailbox.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cuda/persistent_executors.h"
#include "cuda/resident/postbox.h"
#include "cuda/resident/resident.h"
#include "cuda/resident/resident_kernel.h"
#include "program/print.h"

namespace ultraspeed::cuda {
namespace {

StageOperands stage_operands(const program::Operands& operands) {
  return std::visit([](const auto& op) { return StageOperands::of(op); }, operands);
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
    US_ASSIGN(lists.tasks, to_device(std::span<const RankTask>(tasks), "tasks"));
    US_ASSIGN(lists.first_task, to_device(std::span<const uint32_t>(first_task), "task lists"));
    US_ASSIGN(lists.stages, to_device(std::span<const StageOperands>(stages), "stages"));
    US_ASSIGN(lists.counters, to_device(std::span<const uint32_t>(counters), "counters"));
    US_ASSIGN(lists.flags, to_device(std::span<const uint32_t>(flags), "flags"));
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

  // For the next launch in the stream. REQUIRES: no kernel stays.
  Status reset(cudaStream_t stream) {
    epoch = 0;
    for (const DeviceMemory* words : {&counters, &flags}) {
      US_TRY(cuda_status(cudaMemsetAsync(words->data(), 0, words->size_bytes(), stream),
                         "resetting counters"));
    }
    return {};
  }
};

class TaskExecutor final : public ResidentExecutor {
 public:
  explicit TaskExecutor(const PersistentOptions& options)
      : ResidentExecutor(program::Activations::kF32, program::KvCacheType::kF32),
        deadline_(std::chrono::milliseconds(options.wait_deadline_ms)),
        trace_(options.trace) {}

  ~TaskExecutor() override {
    const DeviceTurn turn;  // this one leaves, too
  }

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
    US_ASSIGN(views_, to_device(std::span<const ResidentProgram>(views), "programs"));
    US_ASSIGN(faults_, DeviceMemory::allocate(num_ctas_ * sizeof(ResidentFault)));
    US_ASSIGN(postbox_, Postbox::make());
    return cuda_status(cudaDeviceSynchronize(), "preparing to run");
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(check_run(index, input));
    const DeviceTurn turn(this);
    if (step_->lay_out(machine_.programs()[index], input)) US_TRY(stop());
    US_ASSIGN(const StepTransfer step, step_->prepare(input));
    if (lists_[index].epoch == ~0U) US_TRY(reset());  // a flag that was never set holds epoch 0
    US_TRY(start());
    postbox_.post({.program = index, .epoch = ++lists_[index].epoch, .step = step});
    US_TRY(await_answer(index));
    US_TRY(step_->read(input, output));
    output->is_resident = true;
    output->draft_s = postbox_.mailbox()->times.draft_seconds();
    return trace_ ? tell_trace(index) : Status();
  }

 private:
  // Whether the kernel has room for all programs, beyond what Machine::load() asks of stages.
  // REQUIRES: they have as many lists.
  Status check(std::span<const program::Program> programs) {
    num_ctas_ = static_cast<uint32_t>(programs[0].lists.size());
    uint32_t of_each = 0;
    US_TRY(cuda_status(count_resident_ctas(&of_each), "asking how many CTAs run at once"));
    US_ASSIGN(const uint32_t multiprocessors, count_multiprocessors());
    const uint32_t most = of_each * multiprocessors;
    for (const program::Program& program : programs) {
      US_CHECK(program.lists.size() == num_ctas_);
      if (num_ctas_ > most) {
        return make_error(ErrorCode::kUnsupported,
                          "program '{}' has {} workers; the GPU runs {} at the same time, one on "
                          "each multiprocessor",
                          program.name, num_ctas_, most);
      }
      for (const program::Stage& stage : program.stages) {
        const char* limit = resident_limit(stage.operands);
        if (limit == nullptr) continue;
        return make_error(ErrorCode::kUnsupported,
                          "the persistent executor cannot run '{}' of program '{}': {}; the graph "
                          "executor can",
                          stage.name, program.name, limit);
      }
    }
    return {};
  }

  // Unless the kernel runs.
  Status start() {
    if (is_running_) return {};
    US_TRY(cuda_status(cudaMemsetAsync(faults_.data(), 0, faults_.size_bytes(), stream_.get()),
                       "starting the kernel"));
    Resident resident;
    US_ASSIGN(resident.first_number, postbox_.open(stream_.get()));
    resident.machine = machine_.view();
    resident.programs = views_.as<const ResidentProgram>();
    resident.step = step_->device_view();
    resident.mailbox = postbox_.mailbox();
    resident.board = postbox_.board();
    resident.faults = faults_.as<ResidentFault>();
    resident.deadline_ns = static_cast<uint64_t>(std::chrono::nanoseconds(deadline_).count());
    US_TRY(cuda_status(launch_resident(resident, num_ctas_, stream_.get()), "starting the kernel"));
    is_running_ = true;
    return {};
  }

  Status stop() override {
    if (!is_running_) return {};
    postbox_.post({});
    return join("stopping the kernel");
  }

  Status join(std::string_view what) {
    is_running_ = false;
    return cuda_status(cudaStreamSynchronize(stream_.get()), what);
  }

  Status reset() {
    US_TRY(stop());
    for (ProgramLists& lists : lists_) US_TRY(lists.reset(stream_.get()));
    return {};
  }

  Status await_answer(uint32_t index) {
    const auto answer = postbox_.await([this] { return cudaStreamQuery(stream_.get()); });
    if (answer == Postbox::Answer::kDone) return {};
    if (answer == Postbox::Answer::kFault) return recover(index);
    is_running_ = false;
    US_TRY(answer);
    return make_error(ErrorCode::kInternal, "the GPU's kernel returned within a step");
  }

  // The kernel has told of a fault and returns; the next step starts it again.
  Status recover(uint32_t index) {
    US_TRY(join("stopping the kernel after a fault"));
    std::vector<ResidentFault> faults(num_ctas_);
    US_TRY(cuda_status(
        cudaMemcpy(faults.data(), faults_.data(), faults_.size_bytes(), cudaMemcpyDeviceToHost),
        "reading a fault"));
    const uint32_t epoch = lists_[index].epoch;
    US_TRY(reset());
    return fault_error(machine_.programs()[index], faults, epoch);
  }

  // Of those that waited, who is at the earliest stage is nearest to the cause.
  Status fault_error(const program::Program& program, std::span<const ResidentFault> faults,
                     uint32_t epoch) const {
    uint32_t first = 0;
    for (uint32_t cta = 0; cta < faults.size(); ++cta) {
      const auto stage = [&](uint32_t of) { return program.lists[of][faults[of].task].stage; };
      if (faults[cta].is_set == 0) continue;
      if (faults[first].is_set == 0 || stage(cta) < stage(first)) first = cta;
    }
    const ResidentFault& fault = faults[first];
    const std::string who =
        fmt::format("program '{}' stuck: {} waited {} ms for", program.name,
                    program::task_location(program, first / program.num_workers,
                                           first % program.num_workers, fault.task),
                    deadline_.count());
    if (fault.wait.kind == program::WaitKind::kCounter) {
      return make_error(ErrorCode::kInternal, "{} counter {}: needs {}, has {}", who, fault.id,
                        fault.wait.need, fault.have);
    }
    return make_error(ErrorCode::kInternal, "{} flag {} of step {}: it was last set in step {}",
                      who, fault.id, epoch, fault.have);
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
    const StepTimes& step = postbox_.mailbox()->times;
    program::StepTrace trace{step.begin, step.end, {}};
    auto next = times.begin();
    for (const auto& list : program.lists) {
      const auto end = next + static_cast<ptrdiff_t>(list.size());
      trace.lists.emplace_back(next, end);
      next = end;
    }
    trace_(program, trace);
    return {};
  }

  const std::chrono::milliseconds deadline_;
  const program::TraceSink trace_;
  Stream copy_stream_;
  std::vector<ProgramLists> lists_;  // [program]
  DeviceMemory views_;               // ResidentProgram [program]
  DeviceMemory faults_;              // ResidentFault [CTA]
  Postbox postbox_;
  uint32_t num_ctas_ = 0;
  bool is_running_ = false;
};

}  // namespace

std::unique_ptr<program::Executor> make_task_executor(const PersistentOptions& options) {
  return std::make_unique<TaskExecutor>(options);
}

}  // namespace ultraspeed::cuda
