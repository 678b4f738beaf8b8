#include "apps/bench_trace.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench_prompts.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/terminal.h"
#include "apps/trace_summary.h"

namespace ultraspeed::apps {
namespace {

struct TraceOptions {
  ModelOptions model;
  uint32_t num_tokens = 64;
  std::optional<std::string> file;
};

// The decode steps of a text.
class Recorder {
 public:
  program::TraceSink sink() {
    return [this](const program::Program& program, const program::StepTrace& trace) {
      if (program.name != "decode") return;
      if (!program_) program_ = program;
      steps_.push_back(trace);
    };
  }

  const std::vector<program::StepTrace>& steps() const { return steps_; }
  const program::Program& program() const { return *program_; }

  // REQUIRES: there are steps.
  const program::StepTrace& median() {
    const auto middle = steps_.begin() + static_cast<ptrdiff_t>(steps_.size() / 2);
    std::ranges::nth_element(steps_, middle, {}, &Recorder::length_ns);
    return *middle;
  }

 private:
  static uint64_t length_ns(const program::StepTrace& step) { return step.end_ns - step.begin_ns; }

  std::optional<program::Program> program_;
  std::vector<program::StepTrace> steps_;
};

// The first of the built-in prompts, or a token where there is no tokenizer.
Result<BenchPrompt> prompt_for(const LoadedModel& model) {
  if (model.tokenizer() == nullptr) return BenchPrompt{.name = "token 0", .ids = {0}, .stop = {}};
  US_ASSIGN(std::vector<BenchPrompt> prompts, built_in_prompts(model));
  return std::move(prompts.front());
}

Status bench_trace(TraceOptions options) {
  if (options.model.executor.kind == ExecutorKind::kGraph) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--executor graph has no tasks to time; 'bench step' times its kernels, and "
                      "cpu and persistent, in f32, can be traced");
  }
  ExecutorOptions& executor = options.model.executor;
  if (executor.kind == ExecutorKind::kPersistent) {  // in w4a8 it has no tasks
    using program::Activations;
    if (executor.activations.value_or(Activations::kF32) != Activations::kF32) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--executor persistent has tasks to time in f32 alone; leave out "
                        "--activations {}",
                        program::activations_name(*executor.activations));
    }
    executor.activations = Activations::kF32;
  }
  US_TRY(check_writable(options.file));
  Recorder recorder;
  options.model.executor.trace = recorder.sink();
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_ASSIGN(const BenchPrompt prompt, prompt_for(model));
  US_ASSIGN(const auto engine, model.open_engine(options.model, 1));
  DecodeOptions decode;
  decode.params.max_tokens = options.num_tokens;
  decode.params.sampling.temperature = 0;
  US_TRY(decode_prompts(*engine, model.tokenizer(), {&prompt, 1}, decode));
  if (recorder.steps().empty()) {
    return make_error(ErrorCode::kUnsupported,
                      "{} timed no step: cpu can be traced, and persistent with --activations f32",
                      engine->device());
  }
  const size_t num_steps = recorder.steps().size();
  const program::Program& program = recorder.program();
  const program::StepTrace& step = recorder.median();
  const double step_us = static_cast<double>(step.end_ns - step.begin_ns) / 1000;
  const std::vector<StageTime> stages = stage_times(program, step);
  if (options.file) US_TRY(write_file(*options.file, perfetto_json(program, step)));
  const std::string text = fmt::format(
      "{}, {}, {}: the median of {} decode steps, {:.1f} us, {} workers a rank, width {}\n\n{}\n"
      "hand-off: from the end of what a stage waits for to its first task's begin; spread: from "
      "there to its last one's;\ntask: the longest; span: from ready to its end; means of a stage. "
      "busy: workers at work in the span\n\nslowest hand-offs\n{}",
      model.directory(), engine->device(), mode_text(model.modes(options.model, *engine)),
      num_steps, step_us, program.num_workers, program.width,
      plain_table(operation_table(program, stages, step_us)),
      plain_table(hand_off_table(program, stages, 8)));
  return write_all(STDOUT_FILENO, text);
}

}  // namespace

void add_bench_trace_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<TraceOptions>();
  CLI::App& command = *bench.add_subcommand(
      "trace", "What a decode step waits for, task by task: cpu executor, or persistent in f32");
  add_model_options(command, &options->model);
  add_decode_width_option(command, &options->model.decode_width);
  command.add_option("-n,--max-tokens", options->num_tokens, "Tokens of the text at most")
      ->check(CLI::Range(2U, 4096U))
      ->capture_default_str();
  command.add_option("--out", options->file,
                     "Write the median step into this file, for ui.perfetto.dev");
  command.callback([options, exit_code] {
    const Status status = bench_trace(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
