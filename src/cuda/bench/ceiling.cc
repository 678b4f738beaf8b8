#include "cuda/bench/ceiling.h"

#include "base/progress.h"
#include "cuda/bench/nvml.h"
#include "cuda/bench/synthetic.h"
#include "cuda/bench/timed_graph.h"
#include "cuda/device.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kCeilingRepetitions = 15;

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

}  // namespace

Status check_free_memory(std::string_view what, uint64_t size_bytes, uint64_t usable_bytes,
                         std::string_view hint) {
  if (size_bytes <= usable_bytes) return {};
  return make_error(ErrorCode::kOutOfMemory,
                    "{} needs {} of GPU memory, and {} to spare; {} are free; end other programs "
                    "on the GPU{}",
                    what, format_bytes(static_cast<double>(size_bytes)),
                    format_bytes(static_cast<double>(kSpareBytes)),
                    format_bytes(static_cast<double>(usable_bytes + kSpareBytes)), hint);
}

Result<MeasuredGpu> measure_gpu(const ShowProgress& progress, cudaStream_t stream) {
  const Nvml nvml;
  MeasuredGpu measured;
  US_ASSIGN(measured.gpu, gpu_facts(nvml));
  measured.ceiling_bytes = kCeilingBytes;
  if (progress) progress("making 8 GB of synthetic weights");
  US_ASSIGN(const DeviceMemory pages, DeviceMemory::allocate(kCeilingBytes));
  US_ASSIGN(const DeviceMemory output, DeviceMemory::allocate(sizeof(uint32_t)));
  US_TRY(cuda_status(
      fill_pages({pages.data(), pages.size_bytes(), kDrainPageBytes, kDrainPageBytes}, stream),
      "making synthetic weights"));
  const Drain drain{pages.data(), static_cast<uint32_t>(kCeilingPages), output.as<uint32_t>()};
  const auto launch = [&] { return launch_drain(drain, measured.gpu.num_multiprocessors, stream); };
  if (progress) progress("draining 8 GB");
  // The clocks under load: they are read while these run.
  for (uint32_t i = 0; i < 8; ++i) US_TRY(cuda_status(launch(), "draining 8 GB"));
  measured.gpu.clocks = nvml.clocks();
  US_ASSIGN(const Event begin, make_event());
  US_ASSIGN(const Event end, make_event());
  for (uint32_t i = 0; i < kCeilingRepetitions; ++i) {
    US_TRY(cuda_status(cudaEventRecord(begin.get(), stream), "timing"));
    US_TRY(cuda_status(launch(), "draining 8 GB"));
    US_TRY(cuda_status(cudaEventRecord(end.get(), stream), "timing"));
    US_TRY(cuda_status(cudaEventSynchronize(end.get()), "draining 8 GB"));
    US_ASSIGN(const double us, microseconds_between(begin, end));
    measured.ceiling_us.push_back(us);
  }
  return measured;
}

}  // namespace ultraspeed::cuda
