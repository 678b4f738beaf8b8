#include "cuda/resident/phase_runner.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <utility>

namespace ultraspeed::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartLimit(10);

Result<DeviceMemory> upload(std::span<const Phase> phases, bool streamed, PhaseList* list) {
  std::vector<Phase> of_kind;
  std::ranges::copy_if(phases, std::back_inserter(of_kind),
                       [&](const Phase& phase) { return is_streamed(phase.kind) == streamed; });
  US_ASSIGN(DeviceMemory memory, to_device(std::span<const Phase>(of_kind), "phases"));
  *list = {memory.as<const Phase>(), static_cast<uint32_t>(of_kind.size())};
  return memory;
}

}  // namespace

Result<PhaseRunner> PhaseRunner::make(std::span<const Phase> phases, const PhaseCtas& ctas,
                                      const MachineView& machine, const StepView* step) {
  PhaseRunner runner;
  runner.ctas_ = ctas;
  runner.num_phases_ = static_cast<uint32_t>(phases.size());
  PhaseProgram& program = runner.program_;
  US_ASSIGN(runner.streamed_, upload(phases, true, &program.streamed));
  US_ASSIGN(runner.of_units_, upload(phases, false, &program.of_units));
  // Behind the counters the one of CTAs that have started.
  const uint64_t words = phases.size() * kPhaseCounterWords;
  US_ASSIGN(runner.counters_, DeviceMemory::allocate((words + 1) * sizeof(uint32_t)));
  US_TRY(cuda_status(cudaMemset(runner.counters_.data(), 0, runner.counters_.size_bytes()),
                     "clearing counters"));
  US_ASSIGN(runner.has_started_, PinnedMemory::allocate(sizeof(uint32_t)));
  US_ASSIGN(runner.unit_stream_, make_stream());
  program.machine = machine;
  program.step = step;
  program.counters = runner.counters_.as<uint32_t>();
  program.num_times = ctas.all();
  program.has_started = runner.has_started_.as<uint32_t>();
  program.num_started = program.counters + words;
  return runner;
}

Status PhaseRunner::await_start(cudaStream_t stream) const {
  const std::atomic_ref<uint32_t> has_started(*has_started_.as<uint32_t>());
  const Clock::time_point limit = Clock::now() + kStartLimit;
  while (has_started.load(std::memory_order_acquire) == 0) {
    const cudaError_t error = cudaStreamQuery(stream);
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

Result<double> PhaseRunner::run(uint32_t num_steps, cudaStream_t stream) {
  program_.num_steps = num_steps;
  *has_started_.as<uint32_t>() = 0;
  US_ASSIGN(const Event begin, make_event());
  US_ASSIGN(const Event end_of_units, make_event());
  US_ASSIGN(const Event end, make_event());
  US_TRY(cuda_status(cudaMemsetAsync(program_.num_started, 0, sizeof(uint32_t), stream),
                     "clearing a counter"));
  US_TRY(cuda_status(cudaEventRecord(begin.get(), stream), "recording an event"));
  US_TRY(cuda_status(launch_phases(program_, ctas_, stream), "launching phases"));
  US_TRY(await_start(stream));
  US_TRY(cuda_status(launch_units(program_, ctas_, unit_stream_.get()), "launching units"));
  US_TRY(
      cuda_status(cudaEventRecord(end_of_units.get(), unit_stream_.get()), "recording an event"));
  US_TRY(cuda_status(cudaStreamWaitEvent(stream, end_of_units.get()), "waiting for an event"));
  US_TRY(cuda_status(cudaEventRecord(end.get(), stream), "recording an event"));
  US_TRY(cuda_status(cudaStreamSynchronize(stream), "running phases"));
  program_.first_epoch += num_steps;
  return microseconds_between(begin, end);
}

Result<std::vector<PhaseTime>> PhaseRunner::run_timed(cudaStream_t stream) {
  std::vector<PhaseTime> times(size_t{num_phases_} * ctas_.all());
  const uint64_t size_bytes = times.size() * sizeof(PhaseTime);
  US_ASSIGN(const DeviceMemory on_device, DeviceMemory::allocate(size_bytes));
  US_TRY(cuda_status(cudaMemset(on_device.data(), 0, size_bytes), "clearing times"));
  program_.times = on_device.as<PhaseTime>();
  const Result<double> us = run(2, stream);
  program_.times = nullptr;
  if (!us) return tl::unexpected(us.error());
  US_TRY(cuda_status(cudaMemcpy(times.data(), on_device.data(), size_bytes, cudaMemcpyDeviceToHost),
                     "reading times"));
  return times;
}

}  // namespace ultraspeed::cuda
