// What every training run does from its first step to its last, or to the end of its time: steps,
// lines that say how it goes, evaluations, checkpoints.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "train/optimizers.h"
#include "train/run_options.h"

namespace ultraspeed::train {

using Log = std::function<void(const std::string& line)>;

// LibTorch throws: out of memory, a device that is not there. No exception leaves the module.
template <class Function>
auto guarded(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::exception& exception) {
    const std::string what = exception.what();
    return make_error(ErrorCode::kInternal, "LibTorch: {}", what.substr(0, what.find('\n')));
  }
}

// Where a run is. Its checkpoint is parameters and moments, and this.
class RunState {
 public:
  RunState() : begin_(std::chrono::steady_clock::now()) {}

  // Goes on from options.checkpoint if that exists, and says so. `run`: what the processes of a
  // run must agree on.
  Status resume(const RunOptions& options, const std::string& run, Optimizers* optimizers,
                const Log& log);
  Status save(const RunOptions& options, const std::string& run, Optimizers* optimizers) const;

  uint64_t num_steps_done() const { return num_steps_done_; }
  void count_step() { ++num_steps_done_; }
  double seconds() const;  // of all processes of the run

 private:
  uint64_t num_steps_done_ = 0;
  double seconds_before_ = 0;  // of the processes before this one
  std::chrono::steady_clock::time_point begin_;
};

struct StepLine {
  std::string text;  // what the step gave: "loss 6.1823  length 3.92"
  int64_t num_tokens = 0;
};

struct RunHooks {
  std::function<Result<StepLine>()> step;  // one, which counts itself
  std::function<Status()> evaluate;        // nullptr: nothing to evaluate with
  std::function<Status()> save;
};

// Until the last step or options.minutes, with a checkpoint and an evaluation at the end of either.
// True: the run is complete.
Result<bool> run_steps(const RunOptions& options, const RunState& state, const RunHooks& hooks,
                       const Log& log);

// "done after 6 of 6 steps, 0.1 min": the beginning of a run's last line.
std::string end_line(const RunOptions& options, const RunState& state);

}  // namespace ultraspeed::train
