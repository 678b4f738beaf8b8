// The persistent executor in w4a8 arithmetic: programs as phases of kernels that stay on the device
// (resident/phase.h), which steps reach through a mailbox. What of a model has no phases runs as a
// graph, for which the kernels leave: programs of more columns, and long contexts.
#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/persistent_executors.h"
#include "cuda/program_graphs.h"
#include "cuda/resident/phase_recorder.h"
#include "cuda/resident/phase_runner.h"

namespace ultraspeed::cuda {
namespace {

// Of full attention: beyond, the few CTAs that it has here take longer than a graph's all.
constexpr uint32_t kMostPositions = 8192;

class PhaseExecutor final : public ResidentExecutor {
 public:
  explicit PhaseExecutor(const PersistentOptions& options)
      : ResidentExecutor(options.activations, options.kv_cache),
        options_{.deadline = std::chrono::milliseconds(options.wait_deadline_ms)} {}

  ~PhaseExecutor() override {
    const DeviceTurn turn;  // this one leaves, too
  }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    const DeviceTurn turn(this);
    US_TRY(load_machine(std::move(programs), limits, read_weight));
    US_ASSIGN(graphs_, ProgramGraphs::record(machine_, activations_, kv_cache_,
                                             step_->device_view(), stream_.get()));
    US_TRY(cuda_status(count_phase_ctas(other_ctas(machine_.programs()[0]), &ctas_),
                       "asking how many CTAs run at once"));
    std::vector<std::vector<Phase>> recorded;
    std::string why = "it has no program of at most 8 columns";
    for (uint32_t i = 0; i < machine_.programs().size(); ++i) {
      US_ASSIGN(auto phases, record(i, &why));
      if (phases) {
        phase_index_.push_back(static_cast<uint32_t>(recorded.size()));
        recorded.push_back(*std::move(phases));
      } else {
        phase_index_.push_back(std::nullopt);
      }
    }
    if (recorded.empty()) {
      return make_error(ErrorCode::kUnsupported,
                        "the persistent executor cannot run this model in w4a8 arithmetic: {}; the "
                        "graph executor can",
                        why);
    }
    US_ASSIGN(runner_, PhaseRunner::make(std::move(recorded), ctas_, machine_.view(),
                                         step_->device_view(), options_));
    return cuda_status(cudaDeviceSynchronize(), "preparing to run");
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(check_run(index, input));
    const DeviceTurn turn(this);
    if (!phase_index_[index] || is_long(index, input)) {
      US_TRY(stop());
      return graphs_.run(index, input, &*step_, stream_.get(), output);
    }
    if (step_->lay_out(machine_.programs()[index], input)) US_TRY(stop());
    US_ASSIGN(const StepTransfer step, step_->prepare(input));
    US_TRY(runner_->start());
    const Status ran = runner_->run(*phase_index_[index], 1, step);
    if (!ran) {
      US_TRY(reset());
      return ran;
    }
    US_TRY(step_->read(input, output));
    output->draft_s = runner_->times().draft_seconds();
    output->is_resident = true;
    return {};
  }

 private:
  // nullopt: the program, or a stage of it, has none, and `why` says what it is.
  Result<std::optional<std::vector<Phase>>> record(uint32_t index, std::string* why) const {
    const program::Program& program = machine_.programs()[index];
    if (program.width > kPhaseColumns) return std::nullopt;
    PhaseRecorder recorder(machine_, index, ctas_);
    const StageLauncher& launcher = graphs_.launcher(index);
    cudaError_t error = launcher.begin_step(recorder);
    for (uint32_t i = 0; i < program.stages.size() && error == cudaSuccess; ++i) {
      error = launcher.launch(i, false, recorder);
    }
    if (error == cudaErrorNotSupported) {
      *why = recorder.limit();
      return std::nullopt;
    }
    US_TRY(cuda_status(error, fmt::format("recording program '{}'", program.name)));
    return recorder.finish();
  }

  bool is_long(uint32_t index, const program::StepInput& input) const {
    const std::vector<Phase>& phases = runner_->phases(*phase_index_[index]);
    const auto attends_to_all = [](const Phase& phase) {
      return phase.kind == PhaseKind::kAttention;
    };
    const auto is_far = [](const program::Column& column) {
      return column.position >= kMostPositions;
    };
    return std::ranges::any_of(input.columns, is_far) &&
           std::ranges::any_of(phases, attends_to_all);
  }

  // After an error, when the kernels have returned.
  Status reset() const {
    for (uint32_t i = 0; i < machine_.programs().size(); ++i) {
      US_TRY(graphs_.launcher(i).reset(stream_.get()));
    }
    return cuda_status(cudaStreamSynchronize(stream_.get()), "resetting counters");
  }

  Status stop() override { return runner_ ? runner_->stop() : Status(); }

  const PhaseOptions options_;
  PhaseCtas ctas_;
  ProgramGraphs graphs_;
  std::vector<std::optional<uint32_t>> phase_index_;  // [program]; of the runner's
  std::optional<PhaseRunner> runner_;
};

}  // namespace

std::unique_ptr<program::Executor> make_phase_executor(const PersistentOptions& options) {
  return std::make_unique<PhaseExecutor>(options);
}

}  // namespace ultraspeed::cuda
