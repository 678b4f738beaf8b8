// Runs what the registry found: nodes of CUDA graphs, a kernel and its drain in turns.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/progress.h"
#include "cuda/bench/drain.h"
#include "cuda/bench/kernel_bench.h"
#include "cuda/bench/kernel_group.h"
#include "cuda/bench/matrix_peak.h"
#include "cuda/bench/nvml.h"
#include "cuda/bench/synthetic.h"
#include "cuda/device.h"
#include "cuda/executor.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kLeastNodes = 24;  // its first launch costs little beside so many
constexpr uint32_t kRepetitions = 31;
// After a pause, as while weights are made, the first 10 ms were up to 15 % slower on an H100.
constexpr double kWarmUpUs = 40'000;
constexpr uint32_t kCeilingRepetitions = 15;
constexpr uint64_t kCeilingPages = (uint64_t{8} << 30) / kDrainPageBytes;
constexpr uint64_t kSpareBytes = uint64_t{256} << 20;  // for CUDA's own needs

Result<double> microseconds_between(const Event& begin, const Event& end) {
  float milliseconds = 0;
  US_TRY(cuda_status(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "timing"));
  return 1000.0 * static_cast<double>(milliseconds);
}

// A graph of launches between two nodes that record the time, so that the host's work to start it
// is not counted.
struct TimedGraph {
  GraphExec graph;
  Event begin, end;
};

Result<GpuFacts> gpu_facts(const Nvml& nvml) {
  cudaDeviceProp properties;
  US_TRY(cuda_status(cudaGetDeviceProperties(&properties, 0), "asking for the GPU's properties"));
  int driver = 0;
  int runtime = 0;
  US_TRY(cuda_status(cudaDriverGetVersion(&driver), "asking for CUDA's version"));
  US_TRY(cuda_status(cudaRuntimeGetVersion(&runtime), "asking for CUDA's version"));
  GpuFacts facts;
  facts.name = properties.name;
  facts.num_multiprocessors = static_cast<uint32_t>(properties.multiProcessorCount);
  facts.memory_bytes = properties.totalGlobalMem;
  facts.l2_bytes = static_cast<uint64_t>(properties.l2CacheSize);
  facts.cuda_driver = static_cast<uint32_t>(driver);
  facts.cuda_runtime = static_cast<uint32_t>(runtime);
  facts.driver = nvml.driver_version();
  return facts;
}

class Measurement {
 public:
  static Result<Measurement> begin(const KernelBenchOptions& options) {
    Measurement measurement;
    measurement.progress_ = options.progress;
    US_ASSIGN(measurement.stream_, make_stream());
    return measurement;
  }

  Status measure_ceiling(const Nvml& nvml, KernelBench* bench) {
    show("making 8 GB of synthetic weights");
    bench->ceiling_bytes = kCeilingPages * kDrainPageBytes;
    US_ASSIGN(const DeviceMemory pages, DeviceMemory::allocate(bench->ceiling_bytes));
    US_ASSIGN(const DeviceMemory output, DeviceMemory::allocate(sizeof(uint32_t)));
    cudaStream_t stream = stream_.get();
    US_TRY(cuda_status(
        fill_pages({pages.data(), pages.size_bytes(), kDrainPageBytes, kDrainPageBytes}, stream),
        "making synthetic weights"));
    const Drain drain{pages.data(), static_cast<uint32_t>(kCeilingPages), output.as<uint32_t>()};
    const auto launch = [&] { return launch_drain(drain, bench->gpu.num_multiprocessors, stream); };
    show("draining 8 GB");
    // The clocks under load: they are read while these run.
    for (uint32_t i = 0; i < 8; ++i) US_TRY(cuda_status(launch(), "draining 8 GB"));
    bench->gpu.clocks = nvml.clocks();
    US_ASSIGN(const Event begin, make_event());
    US_ASSIGN(const Event end, make_event());
    for (uint32_t i = 0; i < kCeilingRepetitions; ++i) {
      US_TRY(cuda_status(cudaEventRecord(begin.get(), stream), "timing"));
      US_TRY(cuda_status(launch(), "draining 8 GB"));
      US_TRY(cuda_status(cudaEventRecord(end.get(), stream), "timing"));
      US_TRY(cuda_status(cudaEventSynchronize(end.get()), "draining 8 GB"));
      US_ASSIGN(const double us, microseconds_between(begin, end));
      bench->ceiling_us.push_back(us);
    }
    return {};
  }

  Status measure_peak(KernelBench* bench) {
    show("multiplying large matrices");
    US_ASSIGN(bench->peak, measure_matrix_peak(stream_.get()));
    return {};
  }

  Status measure_group(KernelGroup* group, std::vector<KernelSamples>* table) {
    if (group->refusal.empty()) {
      show(fmt::format("making {} of synthetic weights: {}",
                       format_bytes(static_cast<double>(group->memory_bytes)), group->data));
      US_TRY(group->prepare(stream_.get()));
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
          US_TRY(measure(kernel, &dropped));
        }
        US_TRY(measure(kernel, &samples));
      }
      table->push_back(std::move(samples));
    }
    return {};
  }

 private:
  void show(const std::string& what) const {
    if (progress_) progress_(what);
  }

  Result<TimedGraph> record(const NodeLaunch& launch, uint32_t num_nodes) {
    TimedGraph timed;
    US_ASSIGN(timed.begin, make_event());
    US_ASSIGN(timed.end, make_event());
    US_TRY(cuda_status(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal),
                       "recording"));
    const auto mark = [this](const Event& event) {
      return cudaEventRecordWithFlags(event.get(), stream_.get(), cudaEventRecordExternal);
    };
    cudaError_t launched = mark(timed.begin);
    for (uint32_t i = 0; i < num_nodes && launched == cudaSuccess; ++i) {
      launched = launch(i, stream_.get());
    }
    if (launched == cudaSuccess) launched = mark(timed.end);
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
    const Graph owner(graph);
    US_TRY(cuda_status(launched, "recording a kernel"));
    US_TRY(cuda_status(ended, "recording a graph"));
    cudaGraphExec_t exec = nullptr;
    US_TRY(cuda_status(cudaGraphInstantiate(&exec, graph, 0), "preparing a graph"));
    timed.graph = GraphExec(exec);
    return timed;
  }

  Result<double> run(const TimedGraph& timed) {
    US_TRY(cuda_status(cudaGraphLaunch(timed.graph.get(), stream_.get()), "starting a graph"));
    US_TRY(cuda_status(cudaStreamSynchronize(stream_.get()), "running a graph"));
    return microseconds_between(timed.begin, timed.end);
  }

  // In turns, so that both see the same clocks.
  Status measure(const BenchKernel& kernel, KernelSamples* samples) {
    US_CHECK(kernel.work && kernel.drain, "{} is not prepared", kernel.name);
    US_ASSIGN(const TimedGraph work, record(kernel.work, samples->num_nodes));
    US_ASSIGN(const TimedGraph drain, record(kernel.drain, samples->num_nodes));
    for (double warm_us = 0; warm_us < kWarmUpUs;) {
      for (const TimedGraph* graph : {&work, &drain}) {
        US_ASSIGN(const double us, run(*graph));
        warm_us += us;
      }
    }
    for (uint32_t i = 0; i < kRepetitions; ++i) {
      show(fmt::format("{}, {}: {} of {}", kernel.name, kernel.shape, i + 1, kRepetitions));
      US_ASSIGN(const double us, run(work));
      US_ASSIGN(const double drain_us, run(drain));
      samples->us.push_back(us / samples->num_nodes);
      samples->drain_us.push_back(drain_us / samples->num_nodes);
    }
    return {};
  }

  std::function<void(std::string_view)> progress_;
  Stream stream_;
  bool has_measured_ = false;
};

bool has_flop(const KernelGroup& group) {
  return group.refusal.empty() &&
         std::ranges::any_of(group.kernels, [](const auto& kernel) { return kernel.flop > 0; });
}

// Groups have their memory one after the other.
Status check_memory(const KernelGroups& groups, uint64_t free_bytes) {
  uint64_t most = kCeilingPages * kDrainPageBytes;
  std::string what = "the drain of 8 GB";
  std::string hint;
  for (const auto& group : groups) {
    if (group->memory_bytes <= most) continue;
    most = group->memory_bytes;
    what = fmt::format("{} ({}, {})", group->kernels.front().name, group->kernels.front().shape,
                       group->data);
    hint = ", or take more ranks, fewer live experts or fewer kinds of kernels";
  }
  if (most + kSpareBytes <= free_bytes) return {};
  return make_error(ErrorCode::kOutOfMemory,
                    "{} needs {} of GPU memory, and {} to spare; {} are free; end other programs "
                    "on the GPU{}",
                    what, format_bytes(static_cast<double>(most)),
                    format_bytes(static_cast<double>(kSpareBytes)),
                    format_bytes(static_cast<double>(free_bytes)), hint);
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
  const Nvml nvml;
  KernelBench bench;
  US_ASSIGN(bench.gpu, gpu_facts(nvml));
  US_ASSIGN(Measurement measurement, Measurement::begin(options));
  US_TRY(measurement.measure_ceiling(nvml, &bench));
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
