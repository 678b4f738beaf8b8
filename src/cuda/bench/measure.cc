// Runs what the registry found: nodes of CUDA graphs, a kernel and its drain in turns.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/progress.h"
#include "cuda/bench/ceiling.h"
#include "cuda/bench/kernel_bench.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/matrix_peak.h"
#include "cuda/bench/timed_graph.h"
#include "cuda/device.h"
#include "cuda/executor.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kLeastNodes = 24;  // its first launch costs little beside so many

class Measurement {
 public:
  Measurement(const KernelBenchOptions& options, cudaStream_t stream)
      : progress_(options.progress), stream_(stream) {}

  Status measure_peak(KernelBench* bench) {
    show("multiplying large matrices");
    US_ASSIGN(bench->peak, measure_matrix_peak(stream_));
    return {};
  }

  Status measure_group(KernelGroup* group, std::vector<KernelSamples>* table) {
    if (group->refusal.empty()) {
      show(fmt::format("making {} of synthetic weights: {}",
                       format_bytes(static_cast<double>(group->memory_bytes)), group->data));
      US_TRY(group->prepare(stream_));
    }
    for (const BenchKernel& kernel : group->kernels) {
      KernelSamples samples;
      samples.name = kernel.name;
      samples.shape = kernel.shape;
      samples.refusal = group->refusal;
      if (group->refusal.empty()) {
        samples.data = group->data;
        samples.bytes = kernel.bytes;
        samples.flop = kernel.flop;
        samples.num_nodes = (kLeastNodes + group->num_sets - 1) / group->num_sets * group->num_sets;
        // What a process measures first was 5 to 13 % slower on an H100, a kernel and its drain
        // alike, whatever ran before: it is not understood, and dropped.
        if (!std::exchange(has_measured_, true)) {
          KernelSamples dropped = samples;
          US_TRY(measure_named(kernel, &dropped));
        }
        US_TRY(measure_named(kernel, &samples));
      }
      table->push_back(std::move(samples));
    }
    return {};
  }

 private:
  void show(const std::string& what) const {
    if (progress_) progress_(what);
  }

  Result<TimedGraph> record(const NodeLaunch& launch, uint32_t num_nodes) const {
    const auto all = [&](cudaStream_t stream) {
      cudaError_t error = cudaSuccess;
      for (uint32_t i = 0; i < num_nodes && error == cudaSuccess; ++i) error = launch(i, stream);
      return error;
    };
    return TimedGraph::record({}, all, stream_);
  }

  // An error says which kernel it was.
  Status measure_named(const BenchKernel& kernel, KernelSamples* samples) {
    Status status = measure(kernel, samples);
    if (status) return status;
    const Error& error = status.error();
    return make_error(error.code, "{}, {}: {}", kernel.name, kernel.shape, error.message);
  }

  // In turns, so that both see the same clocks.
  Status measure(const BenchKernel& kernel, KernelSamples* samples) {
    US_CHECK(kernel.work && kernel.drain, "{} is not prepared", kernel.name);
    US_ASSIGN(const TimedGraph work, record(kernel.work, samples->num_nodes));
    US_ASSIGN(const TimedGraph drain, record(kernel.drain, samples->num_nodes));
    for (double warm_us = 0; warm_us < kWarmUpUs;) {
      for (const TimedGraph* graph : {&work, &drain}) {
        US_ASSIGN(const double us, graph->run(stream_));
        warm_us += us;
      }
    }
    for (uint32_t i = 0; i < kRepetitions; ++i) {
      show(fmt::format("{}, {}: {} of {}", kernel.name, kernel.shape, i + 1, kRepetitions));
      US_ASSIGN(const double us, work.run(stream_));
      US_ASSIGN(const double drain_us, drain.run(stream_));
      samples->us.push_back(us / samples->num_nodes);
      samples->drain_us.push_back(drain_us / samples->num_nodes);
    }
    return {};
  }

  ShowProgress progress_;
  cudaStream_t stream_;
  bool has_measured_ = false;
};

bool has_flop(const KernelGroup& group) {
  return group.refusal.empty() &&
         std::ranges::any_of(group.kernels, [](const auto& kernel) { return kernel.flop > 0; });
}

// Groups have their memory one after the other.
Status check_memory(const KernelGroups& groups, uint64_t usable_bytes) {
  uint64_t most = kCeilingBytes;
  std::string what = "the drain of 8 GB";
  std::string hint;
  for (const auto& group : groups) {
    if (group->memory_bytes <= most) continue;
    most = group->memory_bytes;
    what = fmt::format("{} ({}, {})", group->kernels.front().name, group->kernels.front().shape,
                       group->data);
    hint = ", or take more ranks, fewer live experts or fewer kinds of kernels";
  }
  return check_free_memory(what, most, usable_bytes, hint);
}

}  // namespace

Result<KernelBench> measure_kernels(const program::Program& program,
                                    const KernelBenchOptions& options) {
  US_CHECK(options.rank < program.num_ranks && options.rows > 0 && options.rows <= program.width &&
               std::ranges::all_of(options.positions, [&](auto n) { return n >= options.rows; }),
           "rank {} of {}, {} rows of {}", options.rank, program.num_ranks, options.rows,
           program.width);
  US_ASSIGN(const program::DeviceLimits limits, device_limits(0));
  KernelGroups groups = find_kernel_groups(program, options);
  US_TRY(check_memory(groups, limits.memory_bytes));
  US_ASSIGN(const Stream stream, make_stream());
  KernelBench bench;
  US_ASSIGN(static_cast<MeasuredGpu&>(bench), measure_gpu(options.progress, stream.get()));
  Measurement measurement(options, stream.get());
  if (std::ranges::any_of(groups, [](const auto& group) { return has_flop(*group); })) {
    US_TRY(measurement.measure_peak(&bench));
  }
  for (auto& group : groups) {
    US_TRY(measurement.measure_group(group.get(), &bench.kernels));
    group.reset();  // its memory is for the next
  }
  return bench;
}

}  // namespace ultraspeed::cuda
