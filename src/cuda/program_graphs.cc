#include "cuda/program_graphs.h"

#include <utility>
#include <variant>

#include "cuda/stream_sink.h"

namespace ultraspeed::cuda {
namespace {

bool ends_draft(const program::Stage& stage) {
  const auto* propose = std::get_if<program::ProposeOperands>(&stage.operands);
  return propose != nullptr && propose->ends_draft();
}

bool begins_heads(const program::Stage& stage) {
  const auto* follow = std::get_if<program::FollowOperands>(&stage.operands);
  return follow != nullptr && follow->begins_heads();
}

// A node of the graph that records the time.
Status mark(const Event& event, cudaStream_t stream) {
  return cuda_status(cudaEventRecordWithFlags(event.get(), stream, cudaEventRecordExternal),
                     "recording an event");
}

}  // namespace

Result<ProgramGraphs> ProgramGraphs::record(const Machine& machine,
                                            program::Activations activations,
                                            program::KvCacheType kv_cache, const StepView* step,
                                            cudaStream_t stream) {
  ProgramGraphs graphs;
  graphs.machine_ = &machine;
  for (uint32_t i = 0; i < machine.programs().size(); ++i) {
    US_ASSIGN(StageLauncher launcher, StageLauncher::make(machine, i, activations, kv_cache, step));
    US_ASSIGN(Recorded recorded,
              record_program(machine.programs()[i], std::move(launcher), stream));
    graphs.recorded_.push_back(std::move(recorded));
  }
  return graphs;
}

Result<ProgramGraphs::Recorded> ProgramGraphs::record_program(const program::Program& program,
                                                              StageLauncher launcher,
                                                              cudaStream_t stream) {
  Recorded recorded;
  recorded.launcher = std::move(launcher);
  for (Event* event :
       {&recorded.begin, &recorded.draft_end, &recorded.heads_begin, &recorded.end}) {
    US_ASSIGN(*event, make_event());
  }
  for (const program::Stage& stage : program.stages) {
    recorded.has_draft |= ends_draft(stage);
    recorded.has_heads |= begins_heads(stage);
  }
  US_TRY(
      cuda_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording"));
  const Status launched = launch_stages(program, recorded, stream);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  const Graph owner(graph);
  US_TRY(launched);
  US_TRY(cuda_status(ended, fmt::format("recording program '{}'", program.name)));
  cudaGraphExec_t exec = nullptr;
  US_TRY(cuda_status(cudaGraphInstantiate(&exec, graph, 0),
                     fmt::format("preparing program '{}'", program.name)));
  recorded.graph = GraphExec(exec);
  return recorded;
}

Status ProgramGraphs::launch_stages(const program::Program& program, const Recorded& recorded,
                                    cudaStream_t stream) {
  StreamSink sink(stream);
  US_TRY(cuda_status(recorded.launcher->begin_step(sink), "recording a step's columns"));
  if (recorded.has_draft) US_TRY(mark(recorded.begin, stream));
  for (uint32_t i = 0; i < program.stages.size(); ++i) {
    const program::Stage& stage = program.stages[i];
    const bool follows_stage = i > 0 && !begins_heads(stage) && !ends_draft(program.stages[i - 1]);
    if (begins_heads(stage)) US_TRY(mark(recorded.heads_begin, stream));
    const cudaError_t error = recorded.launcher->launch(i, follows_stage, sink);
    US_TRY(cuda_status(error, fmt::format("recording stage '{}'", stage.name)));
    if (ends_draft(stage)) US_TRY(mark(recorded.draft_end, stream));
  }
  if (recorded.has_heads) US_TRY(mark(recorded.end, stream));
  return {};
}

Status ProgramGraphs::run(uint32_t program, const program::StepInput& input, StepImage* image,
                          cudaStream_t stream, program::StepOutput* output) const {
  US_TRY(image->upload(machine_->programs()[program], input, stream));
  US_TRY(cuda_status(cudaGraphLaunch(recorded_[program].graph.get(), stream), "starting a step"));
  US_TRY(image->download(stream));
  US_TRY(cuda_status(cudaStreamSynchronize(stream), "running a step"));
  US_TRY(image->read(input, output));
  US_ASSIGN(output->draft_s, draft_seconds(program));
  return {};
}

Result<double> ProgramGraphs::draft_seconds(uint32_t program) const {
  const Recorded& recorded = recorded_[program];
  double microseconds = 0;
  const auto add = [&](const Event& begin, const Event& end) -> Status {
    US_ASSIGN(const double elapsed, microseconds_between(begin, end));
    microseconds += elapsed;
    return {};
  };
  if (recorded.has_draft) US_TRY(add(recorded.begin, recorded.draft_end));
  if (recorded.has_heads) US_TRY(add(recorded.heads_begin, recorded.end));
  return microseconds * 1e-6;
}

}  // namespace ultraspeed::cuda
