#include <algorithm>

#include "base/check.h"
#include "cuda/device.h"
#include "cuda/device_turn.h"
#include "cuda/executor.h"
#include "cuda/machine_executor.h"
#include "cuda/program_graphs.h"

namespace ultraspeed::cuda {
namespace {

class GraphExecutor final : public MachineExecutor {
 public:
  GraphExecutor(program::Activations activations, program::KvCacheType kv_cache)
      : MachineExecutor(activations, kv_cache) {}

  // Memory is given back when no kernel stays.
  ~GraphExecutor() override { const DeviceTurn turn; }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    const DeviceTurn turn;
    US_TRY(load_machine(std::move(programs), limits, read_weight));
    US_ASSIGN(graphs_, ProgramGraphs::record(machine_, activations_, kv_cache_,
                                             step_->device_view(), stream_.get()));
    // What was cleared on the way is so before the stream, which waits for no other, runs a step.
    return cuda_status(cudaDeviceSynchronize(), "preparing to run");
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(check_run(index, input));
    const DeviceTurn turn;
    return graphs_.run(index, input, &*step_, stream_.get(), output);
  }

  Status read_buffer(uint32_t index, program::BufferId id, std::span<float> out) override {
    const program::BufferDecl& decl = machine_.programs()[index].buffers[id];
    US_CHECK(out.size_bytes() == decl.size_bytes, "{} bytes of {}", out.size_bytes(), decl.name);
    const DeviceTurn turn;
    US_TRY(cuda_status(cudaMemcpyAsync(out.data(), machine_.buffer(0, index, id), out.size_bytes(),
                                       cudaMemcpyDeviceToHost, stream_.get()),
                       "reading residuals"));
    return cuda_status(cudaStreamSynchronize(stream_.get()), "reading residuals");
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    const DeviceTurn turn;
    return machine_.copy_cache(copy, stream_.get());
  }

 private:
  ProgramGraphs graphs_;
};

}  // namespace

std::unique_ptr<program::Executor> make_graph_executor(program::Activations activations,
                                                       program::KvCacheType kv_cache) {
  US_CHECK(activations != program::Activations::kInt8);
  return std::make_unique<GraphExecutor>(activations, kv_cache);
}

Result<program::DeviceLimits> device_limits(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count <= index) {
    return make_error(ErrorCode::kNotFound,
                      "GPU {} is needed, {} found ({}); is the NVIDIA driver loaded, and does "
                      "CUDA_VISIBLE_DEVICES show the GPU?",
                      index, error == cudaSuccess ? count : 0, cudaGetErrorString(error));
  }
  cudaDeviceProp properties;
  US_TRY(cuda_status(cudaGetDeviceProperties(&properties, index), "asking for the GPU's limits"));
  if (properties.major != 9 || properties.minor != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "GPU {} ({}) has compute capability {}.{}; this build needs 9.0 (H100, H200)",
                      index, properties.name, properties.major, properties.minor);
  }
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  US_TRY(cuda_status(cudaSetDevice(index), "choosing the GPU"));
  US_TRY(cuda_status(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for free memory"));
  program::DeviceLimits limits;
  limits.name = properties.name;
  limits.num_workers = static_cast<uint32_t>(properties.multiProcessorCount);
  limits.weight_page_bytes = 17'408;
  limits.ring_pages = 12;
  limits.memory_bytes = free_bytes - std::min<uint64_t>(free_bytes, kSpareBytes);
  return limits;
}

}  // namespace ultraspeed::cuda
