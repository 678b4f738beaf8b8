#include "apps/bench_latency.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "apps/latency_run.h"
#include "apps/loaded_model.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct BenchLatencyOptions {
  ModelOptions model;
  LatencyOptions latency{.prompt_tokens = {256, 1024}, .progress = {}, .now_ms = {}};
};

Status bench_latency(BenchLatencyOptions options) {
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  LatencyOptions& latency = options.latency;
  latency.vocab_size = model.config().vocab_size;
  latency.block_size = std::max(latency.block_size, model.speculation().block());
  const uint32_t context = latency_context(latency);
  if (context > model.config().max_position_embeddings) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--prompt-tokens {}, --steps {}: need {} positions, the model has {}",
                      std::ranges::max(latency.prompt_tokens), latency.alone_steps, context,
                      model.config().max_position_embeddings);
  }
  options.model.context = context;
  US_ASSIGN(const auto engine, model.open_engine(options.model, 2));
  PassingLine progress;
  latency.progress = [&progress](const std::string& text) { progress.show(text); };
  auto samples = measure_latency(*engine, latency);
  progress.clear();
  if (!samples) return tl::unexpected(std::move(samples).error());
  return write_all(
      STDOUT_FILENO,
      fmt::format(
          "{}, {}, {}, prefill steps of {} tokens; {} prompts of each length, a stream's {} gaps "
          "alone\n\n{}\nFrom a session's start to its first token, medians: alone, and beside a "
          "stream that decodes. A gap lies between two steps\nthat give the stream tokens: while "
          "the prompt waits for its first token, and without it.\n",
          model.directory(), engine->device(), mode_text(model.modes(options.model, *engine)),
          engine->programs().back().width, latency.repeat, latency.alone_steps,
          plain_table(latency_table(*samples))));
}

}  // namespace

void add_bench_latency_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<BenchLatencyOptions>();
  CLI::App& command = *bench.add_subcommand(
      "latency", "Time to a prompt's first token, and what it does to a stream beside it");
  add_model_options(command, &options->model);
  add_speculation_options(command, &options->model.speculation);
  command
      .add_option("--prompt-tokens", options->latency.prompt_tokens,
                  "Lengths of prompts of random tokens, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(1U, 1U << 20))
      ->capture_default_str();
  command.add_option("--repeat", options->latency.repeat, "Prompts of each length")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  command
      .add_option("--steps", options->latency.alone_steps,
                  "Steps of the stream that are measured without a prompt")
      ->check(CLI::Range(1U, 100000U))
      ->capture_default_str();
  command.callback([options, exit_code] {
    const Status status = bench_latency(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
