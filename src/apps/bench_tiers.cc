#include "apps/bench_tiers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench_decode.h"
#include "apps/bench_prompts.h"
#include "apps/bench_result.h"
#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/served_offer.h"
#include "apps/terminal.h"
#include "apps/text_table.h"

namespace ultraspeed::apps {
namespace {

// What the seed system says of its own two modes.
constexpr double kClaimedRatio = 10;

struct TierBenchOptions {
  ModelOptions model;
  std::string standard_model;  // a folder; empty: the same
  std::optional<std::string> prompts_file;
  uint32_t max_tokens = 128;
  uint32_t repeat = 3;
};

// One way to decode, with an engine of its own.
struct Path {
  std::string mode;  // "standard", "fast"
  std::string name;  // "graph, no drafts"
  std::string weights;
  std::unique_ptr<engine::Engine> engine;
  std::vector<double> rates;  // tokens per second of each repeat
  engine::SpeculationStats speculation;

  double rate() const { return median(rates); }
};

// Those of the device that the fast mode runs on: the fastest counts, so that the standard mode is
// never a slowed one.
std::vector<ExecutorKind> standard_executors(std::string_view device) {
  if (device == kProcessor) return {ExecutorKind::kCpu};
  return {ExecutorKind::kGraph, ExecutorKind::kPersistent};
}

std::string_view kind_name(ExecutorKind kind) {
  switch (kind) {
    case ExecutorKind::kAuto:
      return "auto";
    case ExecutorKind::kCpu:
      return "cpu";
    case ExecutorKind::kGraph:
      return "graph";
    case ExecutorKind::kPersistent:
      return "persistent";
  }
  return {};
}

class TierBench {
 public:
  TierBench(const TierBenchOptions& options, const LoadedModel& fast, const LoadedModel& standard)
      : options_(options), fast_(fast), standard_(standard) {}

  Status run() {
    US_ASSIGN(prompts_, options_.prompts_file ? read_prompts(fast_, *options_.prompts_file)
                                              : built_in_prompts(fast_));
    US_TRY(open("fast", options_.model.executor.kind, fast_, /*drafts=*/true));
    for (const ExecutorKind kind : standard_executors(paths_[0].engine->device())) {
      US_TRY(open("standard", kind, standard_, /*drafts=*/false));
    }
    for (uint32_t round = 0; round <= options_.repeat; ++round) {  // the first one warms up
      for (Path& path : paths_) US_TRY(decode(path, round));
    }
    return write_all(STDOUT_FILENO, text());
  }

 private:
  Status open(std::string mode, ExecutorKind kind, const LoadedModel& model, bool drafts) {
    ModelOptions options = options_.model;
    options.executor.kind = kind;
    US_ASSIGN(const uint32_t max_context, model.max_context(options));
    size_t longest = 0;
    for (const BenchPrompt& prompt : prompts_) longest = std::max(longest, prompt.ids.size());
    options.context =
        static_cast<uint32_t>(std::min<size_t>(max_context, longest + options_.max_tokens));
    if (!drafts) options.decode_width = 0;
    SpeculationOptions speculation = options.speculation;
    if (!drafts) speculation = {.drafter = DrafterChoice{{engine::DrafterKind::kNone}, {}}};
    US_ASSIGN(const Speculation opened,
              Speculation::open(speculation, model.directory(),
                                model.checkpoint().contents().num_mtp_layers));
    US_ASSIGN(auto engine, model.open_engine(options, 1, opened));
    engine::SamplingParams greedy;
    greedy.temperature = 0;
    const std::string drafter = drafts ? opened.session_drafter(greedy) : "no drafts";
    const bool is_auto = kind == ExecutorKind::kAuto;
    const std::string where =
        is_auto ? std::string(engine->device()) : std::string(kind_name(kind));
    paths_.push_back({std::move(mode),
                      fmt::format("{}, {}", where, drafter),
                      weights_text(model),
                      std::move(engine),
                      {},
                      {}});
    return {};
  }

  Status decode(Path& path, uint32_t round) {
    DecodeOptions options;
    options.params.sampling.temperature = 0;
    options.params.max_tokens = options_.max_tokens;
    options.params.stop_ids = fast_.stop_ids();
    options.progress = [&](size_t done, size_t total) {
      progress_.show(fmt::format("{} ({}), {} of {}: {} of {} texts", path.mode, path.name, round,
                                 options_.repeat, done, total));
    };
    auto pass = decode_prompts(*path.engine, fast_.tokenizer(), prompts_, options);
    progress_.clear();
    if (!pass) return tl::unexpected(std::move(pass).error());
    if (round == 0) return {};
    path.rates.push_back(pass->rate.tokens_per_second());
    path.speculation = pass->speculation;
    return {};
  }

  std::string text() const {
    TextTable table;
    table.head = {"mode", "path", "weights", "tokens/s", "tokens a step", "of fastest standard"};
    table.num_names = 3;
    double fastest = 0;
    for (const Path& path : paths_) {
      if (path.mode == "standard") fastest = std::max(fastest, path.rate());
    }
    for (const Path& path : paths_) {
      table.rows.push_back({path.mode, path.name, path.weights, fmt::format("{:.1f}", path.rate()),
                            fmt::format("{:.2f}", path.speculation.accepted_length()),
                            fmt::format("{:.2f}", path.rate() / fastest)});
    }
    return fmt::format(
        "{} texts of at most {} tokens, greedy, one stream, medians of {} repeats that take turns, "
        "on {}\n\n{}\nfast / fastest standard: {:.2f} (the claim that it is measured against: "
        "{:.0f})\n",
        prompts_.size(), options_.max_tokens, options_.repeat, paths_[0].engine->device(),
        plain_table(table), paths_[0].rate() / fastest, kClaimedRatio);
  }

  const TierBenchOptions& options_;
  const LoadedModel& fast_;
  const LoadedModel& standard_;
  std::vector<BenchPrompt> prompts_;
  std::vector<Path> paths_;  // the fast one first
  PassingLine progress_;
};

Status bench_tiers(const TierBenchOptions& options) {
  US_ASSIGN(const LoadedModel fast, LoadedModel::open(options.model));
  if (options.standard_model.empty()) return TierBench(options, fast, fast).run();
  ModelOptions standard = options.model;
  standard.directory = options.standard_model;
  US_ASSIGN(const LoadedModel model, LoadedModel::open(standard));
  US_TRY(check_same_vocabulary(model, fast));
  return TierBench(options, fast, model).run();
}

}  // namespace

void add_bench_tiers_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<TierBenchOptions>();
  CLI::App& command = *bench.add_subcommand(
      "tiers", "How much faster the fast mode is than the fastest way to decode without drafts");
  add_model_options(command, &options->model);
  add_speculation_options(command, &options->model.speculation);
  command.add_option("--standard-model", options->standard_model,
                     "The standard mode's checkpoint, where it has one of its own");
  command.add_option("--prompts", options->prompts_file,
                     "As of 'bench decode' (default: built-in prompts)");
  command.add_option("-n,--max-tokens", options->max_tokens, "Tokens of a text at most")
      ->check(CLI::Range(2U, 1U << 20))
      ->capture_default_str();
  command.add_option("--repeat", options->repeat, "Measured passes of each mode")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  command.callback([options, exit_code] {
    const Status status = bench_tiers(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
