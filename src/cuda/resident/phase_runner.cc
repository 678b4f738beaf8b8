#include "cuda/resident/phase_runner.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace ultraspeed::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartLimit(10);

Result<DeviceMemory> upload(std::span<const Phase> phases, PhaseGroup group, PhaseList* list) {
  std::vector<Phase> of_group;
  std::ranges::copy_if(phases, std::back_inserter(of_group),
                       [&](const Phase& phase) { return group_of(phase.kind) == group; });
  if (of_group.empty()) return DeviceMemory();
  US_ASSIGN(DeviceMemory memory, to_device(std::span<const Phase>(of_group), "phases"));
  *list = {memory.as<const Phase>(), static_cast<uint32_t>(of_group.size())};
  return memory;
}

}  // namespace

std::string phase_name(const Phase& phase) {
  switch (phase.kind) {
    case PhaseKind::kDenseColumns:
      return "columns of a step";
    case PhaseKind::kRows:
      return phase.as<RowsPhase>().expert_operand != nullptr ? "rows of experts" : "rows";
    case PhaseKind::kStoreKv:
      return "keys and values";
    case PhaseKind::kStoreQueries:
      return "queries";
    case PhaseKind::kRoundRows:
      return "rounded rows";
    case PhaseKind::kRoundCache:
      return "rounded keys and values";
    case PhaseKind::kWindow:
      return "window";
    case PhaseKind::kAttention:
      return "full attention";
    case PhaseKind::kRoute:
    case PhaseKind::kStage:
      return std::string(program::opcode_name(phase.as<StagePhase>().operands.opcode));
    case PhaseKind::kLongRow:
      return "long rows";
    case PhaseKind::kJoinedRows:
      return "joined rows";
    case PhaseKind::kHeadRows:
      return "heads";
    case PhaseKind::kDenseStore:
      return "dense";
    case PhaseKind::kDensePartials:
      return "dense, partial sums";
    case PhaseKind::kDenseSwiglu:
      return "dense gate/up";
    case PhaseKind::kDenseQkv:
      return "qkv";
    case PhaseKind::kGateUp:
      return "expert gate/up";
    case PhaseKind::kDown:
      return "expert down";
    case PhaseKind::kF32Product:
      return "router";
  }
  return "";
}

Result<PhaseProgram> PhaseRunner::list(std::vector<Phase> phases, bool is_timed) {
  US_CHECK(!phases.empty());
  Listed of;
  PhaseProgram program;
  for (uint32_t group = 0; group < kPhaseGroups; ++group) {
    US_ASSIGN(of.groups[group],
              upload(phases, static_cast<PhaseGroup>(group), &program.lists[group]));
  }
  const uint64_t words = phases.size() * kPhaseCounterWords;
  US_ASSIGN(of.counters, DeviceMemory::allocate(words * sizeof(uint32_t)));
  program.counters = of.counters.as<uint32_t>();
  if (is_timed) {
    US_ASSIGN(of.times, DeviceMemory::allocate(phases.size() * ctas_.all() * sizeof(PhaseTime)));
    US_TRY(cuda_status(cudaMemset(of.times.data(), 0, of.times.size_bytes()), "clearing times"));
    program.times = of.times.as<PhaseTime>();
  }
  program.last = {phases.back().index, phases.back().arrivals, 0};
  of.phases = std::move(phases);
  programs_.push_back(std::move(of));
  return program;
}

Result<PhaseRunner> PhaseRunner::make(std::vector<std::vector<Phase>> programs,
                                      const PhaseCtas& ctas, const MachineView& machine,
                                      const StepView* step, const PhaseOptions& options) {
  PhaseRunner runner;
  runner.ctas_ = ctas;
  std::vector<PhaseProgram> table;
  for (std::vector<Phase>& phases : programs) {
    US_ASSIGN(table.emplace_back(), runner.list(std::move(phases), options.is_timed));
  }
  US_ASSIGN(runner.table_, to_device(std::span<const PhaseProgram>(table), "programs"));
  US_ASSIGN(runner.faults_, DeviceMemory::allocate(ctas.all() * sizeof(PhaseFault)));
  US_ASSIGN(runner.num_started_, DeviceMemory::allocate(sizeof(uint32_t)));
  US_ASSIGN(runner.has_started_, PinnedMemory::allocate(sizeof(uint32_t)));
  US_ASSIGN(runner.postbox_, Postbox::make());
  for (Stream* stream :
       {&runner.stream_, &runner.unit_stream_, &runner.stage_stream_, &runner.copy_stream_}) {
    US_ASSIGN(*stream, make_stream());
  }
  runner.resident_ = {.machine = machine,
                      .programs = runner.table_.as<const PhaseProgram>(),
                      .step = step,
                      .mailbox = runner.postbox_.mailbox(),
                      .board = runner.postbox_.board(),
                      .faults = runner.faults_.as<PhaseFault>(),
                      .num_ctas = ctas.all(),
                      .num_stage_ctas = ctas.of_stages,
                      .has_started = runner.has_started_.as<uint32_t>(),
                      .num_started = runner.num_started_.as<uint32_t>()};
  const std::chrono::nanoseconds deadline = options.deadline;
  runner.resident_.deadline_ns = static_cast<uint64_t>(deadline.count());
  US_TRY(runner.reset());
  return runner;
}

// REQUIRES: no kernel stays.
Status PhaseRunner::reset() {
  for (Listed& of : programs_) {
    of.epoch = 0;
    US_TRY(
        cuda_status(cudaMemsetAsync(of.counters.data(), 0, of.counters.size_bytes(), stream_.get()),
                    "resetting counters"));
  }
  return {};
}

Status PhaseRunner::start() {
  if (running_.is_true) return {};
  *has_started_.as<uint32_t>() = 0;
  for (const DeviceMemory* memory : {&num_started_, &faults_}) {
    US_TRY(cuda_status(cudaMemsetAsync(memory->data(), 0, memory->size_bytes(), stream_.get()),
                       "starting the kernels"));
  }
  US_ASSIGN(resident_.first_number, postbox_.open(stream_.get()));
  // So that nothing of this comes behind what abort_start() writes.
  US_TRY(cuda_status(cudaStreamSynchronize(stream_.get()), "starting the kernels"));
  const Status launched = launch();
  if (!launched) abort_start();
  running_.is_true = launched.has_value();
  return launched;
}

Status PhaseRunner::launch() {
  US_TRY(cuda_status(launch_phases(resident_, ctas_, stream_.get()), "starting the kernels"));
  US_TRY(await_start());
  US_TRY(cuda_status(launch_units(resident_, ctas_, unit_stream_.get()), "starting the kernels"));
  return cuda_status(launch_stages(resident_, ctas_, stage_stream_.get()), "starting the kernels");
}

// Acquire: partner count_started() of phase_kernel.cu.
Status PhaseRunner::await_start() const {
  const std::atomic_ref<uint32_t> has_started(*has_started_.as<uint32_t>());
  const Clock::time_point limit = Clock::now() + kStartLimit;
  while (has_started.load(std::memory_order_acquire) == 0) {
    const cudaError_t error = cudaStreamQuery(stream_.get());
    if (error != cudaErrorNotReady && error != cudaSuccess) {
      return cuda_status(error, "starting the kernel that streams");
    }
    if (Clock::now() > limit) {
      return make_error(ErrorCode::kInternal,
                        "the kernel that streams did not get its multiprocessors; does something "
                        "else run on the GPU?");
    }
  }
  return {};
}

// Ends what has been launched: those that have no place yet leave as soon as they get one. The
// error that led here is the one to tell.
void PhaseRunner::abort_start() {
  const uint32_t aborted = 1;
  static_cast<void>(cudaMemcpyAsync(&postbox_.board()->aborted, &aborted, sizeof(aborted),
                                    cudaMemcpyHostToDevice, copy_stream_.get()));
  static_cast<void>(cudaStreamSynchronize(copy_stream_.get()));
  static_cast<void>(join());
}

Status PhaseRunner::stop() {
  if (!running_.is_true) return {};
  postbox_.post({});
  return join();
}

Status PhaseRunner::join() {
  running_.is_true = false;
  for (const Stream* stream : {&unit_stream_, &stage_stream_, &stream_}) {
    US_TRY(cuda_status(cudaStreamSynchronize(stream->get()), "stopping the kernels"));
  }
  return {};
}

// An error of one, or cudaErrorNotReady while one runs.
cudaError_t PhaseRunner::state() const {
  cudaError_t state = cudaSuccess;
  for (const Stream* stream : {&unit_stream_, &stage_stream_, &stream_}) {
    const cudaError_t of_stream = cudaStreamQuery(stream->get());
    if (of_stream != cudaSuccess) state = of_stream;
    if (of_stream != cudaSuccess && of_stream != cudaErrorNotReady) return of_stream;
  }
  return state;
}

Status PhaseRunner::run(uint32_t program, uint32_t num_steps, const StepTransfer& step) {
  US_CHECK(running_.is_true && num_steps > 0);
  Listed& of = programs_[program];
  if (of.epoch > ~0U - num_steps) {  // 0 is no step's
    US_TRY(stop());
    US_TRY(reset());
    US_TRY(start());
  }
  postbox_.post({.program = program, .epoch = of.epoch + 1, .num_steps = num_steps, .step = step});
  of.epoch += num_steps;
  const auto answer = postbox_.await([this] { return state(); });
  if (answer == Postbox::Answer::kDone) return {};
  if (answer == Postbox::Answer::kFault) return recover(program);
  running_.is_true = false;
  US_TRY(answer);
  return make_error(ErrorCode::kInternal, "the GPU's kernels returned within a step");
}

// A wait has been too long, and the kernels return. Of those that waited, who waited for the
// earliest phase is nearest to the cause.
Status PhaseRunner::recover(uint32_t program) {
  US_TRY(join());
  std::vector<PhaseFault> faults(ctas_.all());
  US_TRY(cuda_status(
      cudaMemcpy(faults.data(), faults_.data(), faults_.size_bytes(), cudaMemcpyDeviceToHost),
      "reading a fault"));
  US_TRY(reset());
  const auto end = std::remove_if(faults.begin(), faults.end(),
                                  [](const PhaseFault& fault) { return fault.is_set == 0; });
  const auto first = std::ranges::min_element(faults.begin(), end, {}, &PhaseFault::phase);
  US_CHECK(first != end, "a fault that nobody reported");
  const std::vector<Phase>& phases = programs_[program].phases;
  const std::string name = phase_name(phases[first->phase]);
  return make_error(
      ErrorCode::kInternal,
      "resident kernels stuck: a wait of {} ms has ended with {} of {} CTAs waiting, the "
      "earliest for phase {} of {} ({}): it needs {} arrivals, has {}",
      resident_.deadline_ns / 1'000'000, end - faults.begin(), ctas_.all(), first->phase,
      phases.size(), name, first->need, first->have);
}

Result<std::vector<PhaseTime>> PhaseRunner::phase_times(uint32_t program) const {
  const DeviceMemory& memory = programs_[program].times;
  std::vector<PhaseTime> times(memory.size_bytes() / sizeof(PhaseTime));
  // In a stream of its own: the kernels' are busy as long as they stay.
  US_TRY(cuda_status(cudaMemcpyAsync(times.data(), memory.data(), memory.size_bytes(),
                                     cudaMemcpyDeviceToHost, copy_stream_.get()),
                     "reading times"));
  US_TRY(cuda_status(cudaStreamSynchronize(copy_stream_.get()), "reading times"));
  return times;
}

}  // namespace ultraspeed::cuda
