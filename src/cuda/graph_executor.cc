#include <algorithm>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cuda/device.h"
#include "cuda/device_turn.h"
#include "cuda/executor.h"
#include "cuda/machine_executor.h"
#include "cuda/stage_launcher.h"
#include "cuda/stream_sink.h"

namespace ultraspeed::cuda {
namespace {

// A program's graph and what times its parts.
struct Recorded {
  GraphExec graph;
  Event begin, draft_end, heads_begin, end;
  std::optional<StageLauncher> launcher;
  bool has_draft = false, has_heads = false;
};

bool ends_draft(const program::Stage& stage) {
  const auto* propose = std::get_if<program::ProposeOperands>(&stage.operands);
  return propose != nullptr && propose->accepted == program::kNoId;
}

bool begins_heads(const program::Stage& stage) {
  const auto* follow = std::get_if<program::FollowOperands>(&stage.operands);
  return follow != nullptr && follow->distance == 1;
}

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
    for (uint32_t i = 0; i < machine_.programs().size(); ++i) {
      US_ASSIGN(Recorded recorded, record(i));
      recorded_.push_back(std::move(recorded));
    }
    // What was cleared on the way is so before the stream, which waits for no other, runs a step.
    return cuda_status(cudaDeviceSynchronize(), "preparing to run");
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(check_run(index, input));
    const DeviceTurn turn;
    US_TRY(step_->upload(machine_.programs()[index], input, stream_.get()));
    US_TRY(cuda_status(cudaGraphLaunch(recorded_[index].graph.get(), stream_.get()),
                       "starting a step"));
    US_TRY(step_->download(stream_.get()));
    US_TRY(cuda_status(cudaStreamSynchronize(stream_.get()), "running a step"));
    US_TRY(step_->read(input, output));
    US_ASSIGN(output->draft_s, draft_seconds(recorded_[index]));
    return {};
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    const DeviceTurn turn;
    return machine_.copy_cache(copy, stream_.get());
  }

 private:
  Result<Recorded> record(uint32_t index) {
    const program::Program& program = machine_.programs()[index];
    Recorded recorded;
    US_ASSIGN(recorded.launcher,
              StageLauncher::make(machine_, index, activations_, kv_cache_, step_->device_view()));
    for (Event* event :
         {&recorded.begin, &recorded.draft_end, &recorded.heads_begin, &recorded.end}) {
      US_ASSIGN(*event, make_event());
    }
    for (const program::Stage& stage : program.stages) {
      recorded.has_draft |= ends_draft(stage);
      recorded.has_heads |= begins_heads(stage);
    }
    US_TRY(cuda_status(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal),
                       "recording"));
    const Status launched = launch_stages(index, recorded);
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
    const Graph owner(graph);
    US_TRY(launched);
    US_TRY(cuda_status(ended, fmt::format("recording program '{}'", program.name)));
    cudaGraphExec_t exec = nullptr;
    US_TRY(cuda_status(cudaGraphInstantiate(&exec, graph, 0),
                       fmt::format("preparing program '{}'", program.name)));
    recorded.graph = GraphExec(exec);
    return recorded;
  }

  Status launch_stages(uint32_t index, const Recorded& recorded) {
    const program::Program& program = machine_.programs()[index];
    StreamSink sink(stream_.get());
    US_TRY(cuda_status(recorded.launcher->begin_step(sink), "recording a step's columns"));
    if (recorded.has_draft) US_TRY(mark(recorded.begin));
    for (uint32_t i = 0; i < program.stages.size(); ++i) {
      const program::Stage& stage = program.stages[i];
      const bool follows_stage =
          i > 0 && !begins_heads(stage) && !ends_draft(program.stages[i - 1]);
      if (begins_heads(stage)) US_TRY(mark(recorded.heads_begin));
      const cudaError_t error = recorded.launcher->launch(i, follows_stage, sink);
      US_TRY(cuda_status(error, fmt::format("recording stage '{}'", stage.name)));
      if (ends_draft(stage)) US_TRY(mark(recorded.draft_end));
    }
    if (recorded.has_heads) US_TRY(mark(recorded.end));
    return {};
  }

  // A node of the graph that records the time.
  Status mark(const Event& event) {
    return cuda_status(
        cudaEventRecordWithFlags(event.get(), stream_.get(), cudaEventRecordExternal),
        "recording an event");
  }

  static Result<double> draft_seconds(const Recorded& recorded) {
    double milliseconds = 0;
    const auto add = [&](const Event& begin, const Event& end) {
      float elapsed = 0;
      const cudaError_t error = cudaEventElapsedTime(&elapsed, begin.get(), end.get());
      milliseconds += elapsed;
      return cuda_status(error, "timing a step");
    };
    if (recorded.has_draft) US_TRY(add(recorded.begin, recorded.draft_end));
    if (recorded.has_heads) US_TRY(add(recorded.heads_begin, recorded.end));
    return milliseconds / 1000;
  }

  std::vector<Recorded> recorded_;  // [program]
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
