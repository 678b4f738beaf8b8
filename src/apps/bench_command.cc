#include "apps/bench_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "apps/bench_ablation.h"
#include "apps/bench_kernels.h"
#include "apps/bench_latency.h"
#include "apps/bench_prompts.h"
#include "apps/bench_result.h"
#include "apps/bench_serve.h"
#include "apps/bench_step.h"
#include "apps/bench_tiers.h"
#include "apps/bench_trace.h"
#include "apps/files.h"
#include "apps/generation.h"
#include "apps/loaded_model.h"
#include "apps/option_values.h"
#include "apps/terminal.h"
#include "engine/params.h"
#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

struct BenchOptions {
  ModelOptions model;
  std::vector<std::string> drafters = {"none", "suffix"};
  std::vector<uint32_t> blocks = {8};
  std::vector<uint32_t> streams = {1};
  std::optional<std::string> prompts_file, svg_file;
  uint32_t max_tokens = 128;
  float temperature = 0;
  uint64_t seed = 0;
  uint32_t repeat = 3;
  bool per_prompt = false;
  bool json = false;
};

// One drafter with an engine of its own.
struct Contender {
  std::unique_ptr<engine::Engine> engine;
  DecodeOptions options;
  BenchResult result;
};

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  constexpr std::string_view kKey = "model name";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(kKey)) return line.substr(std::min(line.size(), line.find(": ") + 2));
  }
  return "unknown processor";
}

Result<std::vector<BenchPrompt>> choose_prompts(const BenchOptions& options,
                                                const LoadedModel& model) {
  US_ASSIGN(auto prompts, options.prompts_file ? read_prompts(model, *options.prompts_file)
                                               : built_in_prompts(model));
  US_ASSIGN(const uint32_t max_context, model.max_context(options.model));
  for (const BenchPrompt& prompt : prompts) {
    GenerationRequest request;
    request.prompt = prompt.ids;
    request.stop = prompt.stop;
    const Status status =
        check_request(request, model.tokenizer(), model.config().vocab_size, max_context);
    if (status) continue;
    return make_error(status.error().code, "prompt '{}': {}", prompt.name, status.error().message);
  }
  return prompts;
}

// Room for the longest text, so that caches of many streams stay small.
uint32_t context_for(const BenchOptions& options, const std::vector<BenchPrompt>& prompts,
                     uint32_t max_context) {
  size_t longest = 0;
  for (const BenchPrompt& prompt : prompts) longest = std::max(longest, prompt.ids.size());
  return static_cast<uint32_t>(std::min<size_t>(max_context, longest + options.max_tokens));
}

// Reads no weights.
Result<Speculation> open_drafter(const std::string& name, uint32_t block,
                                 const LoadedModel& model) {
  US_ASSIGN(const DrafterChoice choice, parse_drafter(name));
  return Speculation::open({.drafter = choice, .block = block}, model.directory(),
                           model.checkpoint().contents().num_mtp_layers);
}

class Bench {
 public:
  Bench(const BenchOptions& options, const LoadedModel& model, BenchReport* report)
      : options_(options), model_(model), report_(*report) {}

  // Measures all drafters with one block and number of streams, turn by turn.
  Status measure(uint32_t streams, uint32_t block) {
    std::vector<Contender> contenders;
    for (const std::string& name : options_.drafters) {
      US_ASSIGN(Contender contender, open(name, streams, block));
      contenders.push_back(std::move(contender));
    }
    for (uint32_t round = 0; round <= options_.repeat; ++round) {  // the first one warms up
      for (Contender& contender : contenders) US_TRY(run(contender, round));
    }
    for (Contender& contender : contenders) report_.results.push_back(std::move(contender.result));
    return {};
  }

 private:
  Result<Contender> open(const std::string& drafter, uint32_t streams, uint32_t block) const {
    Contender contender;
    contender.options.streams = streams;
    engine::SamplingParams& sampling = contender.options.params.sampling;
    sampling.temperature = options_.temperature;
    sampling.seed = options_.seed;
    sampling.acceptance = options_.model.speculation.acceptance;
    contender.options.params.max_tokens = options_.max_tokens;
    contender.options.params.stop_ids = model_.stop_ids();
    US_ASSIGN(const uint32_t max_context, model_.max_context(options_.model));
    US_ASSIGN(const Speculation speculation, open_drafter(drafter, block, model_));
    contender.result = {.drafter = drafter, .block = block, .streams = streams, .passes = {}};
    ModelOptions model = options_.model;
    model.decode_width = std::min(plan::kMaxWidth, streams * block);
    model.context = context_for(options_, report_.prompts, max_context);
    US_ASSIGN(contender.engine, model_.open_engine(model, streams, speculation));
    report_.modes = model_.modes(model, *contender.engine);
    if (contender.engine->device() != kProcessor) {
      report_.processor = contender.engine->device();
      report_.threads = 0;
    }
    return contender;
  }

  Status run(Contender& contender, uint32_t round) {
    const BenchResult& result = contender.result;
    contender.options.progress = [&](size_t done, size_t total) {
      progress_.show(fmt::format("{}, block {}, {} streams: {}, {} of {} texts", result.drafter,
                                 result.block, result.streams,
                                 round == 0
                                     ? std::string("warm-up")
                                     : fmt::format("repeat {} of {}", round, options_.repeat),
                                 done, total));
    };
    if (expected_) contender.options.known_texts = expected_->texts;
    auto pass =
        decode_prompts(*contender.engine, model_.tokenizer(), report_.prompts, contender.options);
    progress_.clear();
    if (!pass) return tl::unexpected(std::move(pass).error());
    if (!expected_) {
      expected_ = *pass;
      expected_drafter_ = result.drafter;
    }
    if (contender.options.is_text_determined()) {
      US_TRY(
          check_same_texts(report_.prompts, *expected_, expected_drafter_, *pass, result.drafter));
    }
    if (round > 0) contender.result.passes.push_back(std::move(*pass));
    return {};
  }

  const BenchOptions& options_;
  const LoadedModel& model_;
  BenchReport& report_;
  PassingLine progress_;
  std::optional<DecodePass> expected_;  // the first pass, whose texts all others must have
  std::string expected_drafter_;
};

// What can be wrong with the flags together, before any weights are loaded.
Status check_drafters(const BenchOptions& options, const LoadedModel& model) {
  for (const std::string& name : options.drafters) {
    if (std::ranges::count(options.drafters, name) > 1) {
      return make_error(ErrorCode::kInvalidArgument, "--drafters: {} is named twice", name);
    }
    for (const uint32_t block : options.blocks) US_TRY(open_drafter(name, block, model));
  }
  return {};
}

Status bench_decode(const BenchOptions& options) {
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  US_TRY(check_drafters(options, model));
  US_TRY(check_writable(options.svg_file));
  BenchReport report{.made_by = provenance(),
                     .model = model.directory(),
                     .processor = processor_name(),
                     .threads = options.model.executor.threads,
                     .max_tokens = options.max_tokens,
                     .temperature = options.temperature,
                     .acceptance = options.model.speculation.acceptance,
                     .modes = {},
                     .prompts = {},
                     .results = {}};
  if (report.threads == 0) report.threads = default_threads();
  US_ASSIGN(report.prompts, choose_prompts(options, model));
  Bench bench(options, model, &report);
  for (const uint32_t streams : options.streams) {
    for (const uint32_t block : options.blocks) US_TRY(bench.measure(streams, block));
  }
  if (options.svg_file) US_TRY(write_file(*options.svg_file, bench_svg(report)));
  return write_all(STDOUT_FILENO,
                   options.json ? bench_json(report) : bench_tables(report, options.per_prompt));
}

void add_decode_options(CLI::App& command, BenchOptions* options) {
  command
      .add_option("--drafters", options->drafters,
                  "Drafters to compare, separated by commas; the first is the base")
      ->delimiter(',')
      ->check(error_of<parse_drafter>)
      ->capture_default_str();
  command.add_option("--block", options->blocks, "Block sizes to measure")
      ->delimiter(',')
      ->check(CLI::Range(1U, plan::kMaxWidth))
      ->capture_default_str();
  command.add_option("--streams", options->streams, "Numbers of sessions that decode at once")
      ->delimiter(',')
      ->check(CLI::Range(1U, 64U))
      ->capture_default_str();
  command.add_option("--prompts", options->prompts_file,
                     "JSON array or JSON lines of texts, messages, or objects with prompt, "
                     "messages or prompt_ids (-: standard input; default: built-in prompts)");
  command.add_option("-n,--max-tokens", options->max_tokens, "Tokens of a text at most")
      ->check(CLI::Range(2U, 1U << 20))
      ->capture_default_str();
  command
      .add_option("--temperature", options->temperature,
                  "Sample instead of taking the likeliest token: softmax temperature")
      ->check(real_range(0.0F, engine::kMaxTemperature))
      ->capture_default_str();
  command.add_option("--seed", options->seed, "Seed of sampling")->capture_default_str();
  command
      .add_option("--repeat", options->repeat,
                  "Measured passes of each drafter, which take turns; medians are printed")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  command.add_flag("--per-prompt", options->per_prompt,
                   "Print how much faster each prompt is, too (with one stream)");
  command.add_flag("--json", options->json, "Print one JSON object instead of tables");
  command.add_option("--svg", options->svg_file, "Draw the results into this file");
}

}  // namespace

void add_bench_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<BenchOptions>();
  options->model.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};  // --drafters
  CLI::App& bench = *app.add_subcommand("bench", "Measure the speed of decoding, or of a GPU");
  bench.require_subcommand(1);
  CLI::App& decode =
      *bench.add_subcommand("decode", "Compare drafters: speed, accepted length, time of a cycle");
  add_model_options(decode, &options->model);
  options->model.sessions_flag = "--streams";
  add_decode_options(decode, options.get());
  add_acceptance_option(decode, &options->model.speculation);
  add_bench_ablation_command(bench, exit_code);
  add_bench_kernels_command(bench, exit_code);
  add_bench_latency_command(bench, exit_code);
  add_bench_serve_command(bench, exit_code);
  add_bench_step_command(bench, exit_code);
  add_bench_tiers_command(bench, exit_code);
  add_bench_trace_command(bench, exit_code);
  decode.callback([options, exit_code] {
    const Status status = bench_decode(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
