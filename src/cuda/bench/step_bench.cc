#include "cuda/bench/step_bench.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "cuda/bench/ceiling.h"
#include "cuda/bench/phase_bench.h"
#include "cuda/bench/step_machine.h"
#include "cuda/bench/synthetic.h"
#include "cuda/bench/timed_graph.h"
#include "cuda/device.h"
#include "cuda/executor.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint64_t kFlushBytes = uint64_t{300} << 20;  // six L2 caches
constexpr uint64_t kLittleBytes = uint64_t{1} << 20;
constexpr uint32_t kLeastRepetitions = 5;
constexpr double kMostUs = 2'000'000;    // of all repetitions, as far as those are more
constexpr uint32_t kLeastLaunches = 24;  // of stages that read little: their first one costs more

class StepMeasurement {
 public:
  StepMeasurement(const StepMachine& machine, const ShowProgress& progress, cudaStream_t stream)
      : machine_(machine), progress_(progress), stream_(stream) {}

  Status prepare(uint32_t num_multiprocessors) {
    num_multiprocessors_ = num_multiprocessors;
    US_ASSIGN(flush_, DeviceMemory::allocate(kFlushBytes + sizeof(uint32_t)));
    return cuda_status(
        fill_pages({flush_.data(), kFlushBytes, kDrainPageBytes, kDrainPageBytes}, stream_),
        "making synthetic weights");
  }

  // Successive steps: each finds what the one before left in the caches.
  Result<std::vector<double>> measure_step(const std::vector<uint32_t>& stages) const {
    const auto begin = [this](cudaStream_t stream) { return machine_.begin_step(stream); };
    return measure("step", {}, begin, stages, 1);
  }

  // Of the stages in front of those that verify.
  Result<std::vector<double>> measure_draft(const std::vector<uint32_t>& stages) const {
    std::vector<uint32_t> drafting;
    for (const uint32_t stage : stages) {
      if (machine_.program().stages[stage].name.starts_with("draft.")) drafting.push_back(stage);
    }
    return measure("draft", flush(), {}, drafting, 1);
  }

  Result<StageSamples> measure_group(const StageGroup& group) const {
    StageSamples samples;
    samples.name = group.name;
    samples.shape = group.shape;
    samples.opcode = machine_.program().stages[group.stages[0]].opcode();
    samples.count = static_cast<uint32_t>(group.stages.size());
    samples.bytes = group.bytes;
    samples.general_reason = group.general_reason;
    std::vector<uint32_t> stages = group.stages;
    while (group.bytes < kLittleBytes && stages.size() < kLeastLaunches) {
      stages.push_back(group.stages[stages.size() % group.stages.size()]);
    }
    samples.num_launches = static_cast<uint32_t>(stages.size());
    US_ASSIGN(samples.us, measure(group.name, flush(), {}, stages, samples.num_launches));
    return samples;
  }

 private:
  // Leaves nothing in the caches that stages read.
  StreamWork flush() const {
    return [this](cudaStream_t stream) {
      return launch_drain({flush_.data(), static_cast<uint32_t>(kFlushBytes / kDrainPageBytes),
                           reinterpret_cast<uint32_t*>(flush_.data() + kFlushBytes)},
                          num_multiprocessors_, stream);
    };
  }

  // Times of a graph of `first` and these stages / divisor.
  Result<std::vector<double>> measure(const std::string& what, const StreamWork& before,
                                      const StreamWork& first, const std::vector<uint32_t>& stages,
                                      double divisor) const {
    const auto launch_all = [&](cudaStream_t stream) {
      cudaError_t error = first ? first(stream) : cudaSuccess;
      for (size_t i = 0; i < stages.size() && error == cudaSuccess; ++i) {
        error = machine_.launch(stages[i], i > 0, stream);
      }
      return error;
    };
    US_ASSIGN(const TimedGraph graph, TimedGraph::record(before, launch_all, stream_));
    uint32_t repetitions = kRepetitions;
    for (double warm_us = 0; warm_us < kWarmUpUs;) {
      US_ASSIGN(const double us, graph.run(stream_));
      warm_us += std::max(us, 1.0);
      repetitions = static_cast<uint32_t>(
          std::clamp(kMostUs / us, double{kLeastRepetitions}, double{kRepetitions}));
    }
    std::vector<double> samples;
    for (uint32_t i = 0; i < repetitions; ++i) {
      if (progress_) progress_(fmt::format("{}: {} of {}", what, i + 1, repetitions));
      US_ASSIGN(const double us, graph.run(stream_));
      samples.push_back(us / divisor);
    }
    return samples;
  }

  const StepMachine& machine_;
  const ShowProgress& progress_;
  cudaStream_t stream_;
  uint32_t num_multiprocessors_ = 0;
  DeviceMemory flush_;
};

void check_options(const program::Program& program, const StepBenchOptions& options) {
  US_CHECK(options.rank < program.num_ranks && options.rows > 0 && options.rows <= program.width,
           "rank {} of {}, {} rows of {}", options.rank, program.num_ranks, options.rows,
           program.width);
  US_CHECK(options.activations != program::Activations::kInt8);
  US_CHECK(program.num_mtp_heads() == 0);
}

Status check_step_memory(const StepMachine& machine, bool has_own_routes, uint64_t usable_bytes) {
  US_TRY(check_free_memory("the drain of 8 GB", kCeilingBytes, usable_bytes, ""));
  return check_free_memory(fmt::format("the step ({})", machine.rotation().text()),
                           machine.memory_bytes() + kFlushBytes, usable_bytes,
                           has_own_routes
                               ? ", or take more ranks, fewer positions or routes made in advance"
                               : ", or take more ranks, fewer live experts or fewer positions");
}

// In the order of the step.
std::vector<uint32_t> all_stages(const std::vector<StageGroup>& groups) {
  std::vector<uint32_t> stages;
  for (const StageGroup& group : groups) {
    stages.insert(stages.end(), group.stages.begin(), group.stages.end());
  }
  std::ranges::sort(stages);
  return stages;
}

}  // namespace

Result<StepBench> measure_step(program::Program program, const StepBenchOptions& options) {
  check_options(program, options);
  US_ASSIGN(const program::DeviceLimits limits, device_limits(0));
  StepMachine machine(
      std::move(program),
      {options.rows, options.positions, options.live_experts, options.has_own_routes},
      {options.activations, options.kv_cache, options.rank, options.peer_delay_ns});
  US_TRY(check_step_memory(machine, options.has_own_routes, limits.memory_bytes));
  US_ASSIGN(const Stream stream, make_stream());
  StepBench bench;
  US_ASSIGN(static_cast<MeasuredGpu&>(bench), measure_gpu(options.progress, stream.get()));
  bench.data = machine.rotation().text();
  if (options.progress) options.progress(fmt::format("making synthetic weights: {}", bench.data));
  US_TRY(machine.load(stream.get()));
  StepMeasurement measurement(machine, options.progress, stream.get());
  US_TRY(measurement.prepare(bench.gpu.num_multiprocessors));
  US_ASSIGN(bench.step_us, measurement.measure_step(all_stages(machine.groups())));
  if (machine.program().is_drafting()) {
    US_ASSIGN(bench.draft_us, measurement.measure_draft(all_stages(machine.groups())));
  }
  US_TRY(machine.check_results(stream.get()));
  if (options.has_own_routes) {
    US_ASSIGN(bench.live, machine.live_counts(stream.get()));
    machine.set_live_experts(static_cast<uint32_t>(std::lround(bench.mean_live())));
  }
  const std::vector<StageGroup> groups = machine.groups();
  if (options.has_resident) {
    if (options.progress) options.progress("the resident kernels");
    US_ASSIGN(bench.resident, measure_phases(machine, all_stages(groups), stream.get()));
  }
  if (!options.has_stages) return bench;
  for (const StageGroup& group : groups) {
    US_ASSIGN(StageSamples samples, measurement.measure_group(group));
    bench.stages.push_back(std::move(samples));
  }
  return bench;
}

}  // namespace ultraspeed::cuda
