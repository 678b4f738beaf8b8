// A graph of launches between two nodes that record the time, so that the host's work to start it
// is not counted.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "cuda/device.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kRepetitions = 31;
// After a pause, as while weights are made, the first 10 ms were up to 15 % slower on an H100.
inline constexpr double kWarmUpUs = 40'000;

using StreamWork = std::function<cudaError_t(cudaStream_t stream)>;

class TimedGraph {
 public:
  // before: stands in the graph and is not timed; may be empty.
  static Result<TimedGraph> record(const StreamWork& before, const StreamWork& work,
                                   cudaStream_t stream);

  // Microseconds of the work, when it is done.
  Result<double> run(cudaStream_t stream) const;

 private:
  GraphExec graph_;
  Event begin_, end_;
};

}  // namespace ultraspeed::cuda
