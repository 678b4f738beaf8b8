#include "cuda/bench/timed_graph.h"

namespace ultraspeed::cuda {

Result<TimedGraph> TimedGraph::record(const StreamWork& before, const StreamWork& work,
                                      cudaStream_t stream) {
  TimedGraph timed;
  US_ASSIGN(timed.begin_, make_event());
  US_ASSIGN(timed.end_, make_event());
  US_TRY(
      cuda_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording"));
  const auto mark = [stream](const Event& event) {
    return cudaEventRecordWithFlags(event.get(), stream, cudaEventRecordExternal);
  };
  cudaError_t launched = before ? before(stream) : cudaSuccess;
  if (launched == cudaSuccess) launched = mark(timed.begin_);
  if (launched == cudaSuccess) launched = work(stream);
  if (launched == cudaSuccess) launched = mark(timed.end_);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  const Graph owner(graph);
  US_TRY(cuda_status(launched, "recording a kernel"));
  US_TRY(cuda_status(ended, "recording a graph"));
  cudaGraphExec_t exec = nullptr;
  US_TRY(cuda_status(cudaGraphInstantiate(&exec, graph, 0), "preparing a graph"));
  timed.graph_ = GraphExec(exec);
  return timed;
}

Result<double> TimedGraph::run(cudaStream_t stream) const {
  US_TRY(cuda_status(cudaGraphLaunch(graph_.get(), stream), "starting a graph"));
  US_TRY(cuda_status(cudaStreamSynchronize(stream), "running a graph"));
  return microseconds_between(begin_, end_);
}

}  // namespace ultraspeed::cuda
