#include "apps/bench_serve.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/files.h"
#include "apps/load_report.h"
#include "apps/named_option.h"
#include "apps/option_values.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8000";
  LoadOptions load;
  std::optional<uint32_t> concurrency;
  uint32_t timeout_s = 600;
  std::optional<std::string> prompts_file, json_file, svg_file;
};

Result<LoadRun> run_with_progress(LoadOptions options,
                                  const std::vector<nlohmann::ordered_json>& prompts) {
  ProgressOptions how = loading_progress("Requests");
  how.format_amount = [](double count) { return fmt::format("{:.3g} requests", count); };
  uint64_t num_events = 0;
  how.note = [&num_events] { return fmt::format(", {} events", num_events); };
  Progress progress(std::move(how));
  options.progress = [&](size_t num_done, uint64_t events) {
    num_events = events;
    progress.update(num_done, options.num_requests);
  };
  US_ASSIGN(LoadRun run, run_load(options, prompts));
  progress.finish();
  return run;
}

// What no request could do is an error, not a table of nothing.
Status check_any_succeeded(const LoadReport& report) {
  if (report.figures.num_succeeded > 0) return {};
  const auto& [kind, failure] = *report.figures.failures.begin();
  return make_error(ErrorCode::kIo, "{}: all {} requests failed; {} of them: {}: {}", report.url,
                    report.run.requests.size(), failure.count, kind, failure.text);
}

Status bench_serve(BenchServeOptions options) {
  US_TRY(check_writable(options.json_file));
  US_TRY(check_writable(options.svg_file));
  LoadReport report;
  report.made_by = provenance();
  report.made_by.command = without_api_key(std::move(report.made_by.command));
  report.url = options.url;
  report.options = std::move(options.load);
  LoadOptions& load = report.options;
  US_ASSIGN(load.url, net::parse_http_url(options.url));
  load.concurrency = options.concurrency.value_or(load.rate > 0 ? 0 : 1);
  load.client.timeout = std::chrono::seconds(options.timeout_s);
  US_ASSIGN(const auto prompts, load_prompts(options.prompts_file, load.endpoint));
  report.num_prompts = prompts.size();
  if (load.model.empty()) {
    US_ASSIGN(const ListedModel listed, first_model(load));
    load.model = listed.name;
  }
  US_ASSIGN(report.run, run_with_progress(load, prompts));
  report.figures = load_figures(report.run);
  if (options.json_file) US_TRY(write_json_file(*options.json_file, load_json(report)));
  US_TRY(check_any_succeeded(report));
  if (options.svg_file) US_TRY(write_file(*options.svg_file, load_svg(report)));
  return write_all(STDOUT_FILENO, load_text(report));
}

void add_target_options(CLI::App& command, BenchServeOptions* options) {
  const CLI::Validator visible_ascii(
      [](const std::string& text) {
        const bool is_visible =
            std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7F; });
        return is_visible ? "" : "a key has no spaces, line breaks or other than ASCII characters";
      },
      "");
  const CLI::Validator some_url(
      [](const std::string& text) {
        const auto url = net::parse_http_url(text);
        return url ? "" : url.error().message;
      },
      "");
  command.add_option("--url", options->url, "The server, http://HOST:PORT, with or without /v1")
      ->check(some_url)
      ->capture_default_str();
  command.add_option("--model", options->load.model,
                     "What the server calls the model (default: the first that it lists)");
  command.add_option("--api-key", options->load.api_key, "Sent as a bearer token")
      ->check(visible_ascii)
      ->envname("ULTRASPEED_API_KEY");
  add_named_option(command, "--endpoint", "chat or completions (default: chat)", kAllEndpoints,
                   endpoint_name, &options->load.endpoint);
  command.add_option("--timeout", options->timeout_s, "Seconds of silence that end a request")
      ->check(CLI::Range(1U, 86400U))
      ->capture_default_str();
}

void add_load_options(CLI::App& command, BenchServeOptions* options) {
  LoadOptions& load = options->load;
  command.add_option("--prompts", options->prompts_file,
                     "JSON array or JSON lines of texts, messages, or objects with prompt, "
                     "messages or prompt_ids (-: standard input; default: the samples of run)");
  command.add_option("--requests,--num-prompts", load.num_requests, "How many; prompts take turns")
      ->check(CLI::Range(1U, 10'000'000U))
      ->capture_default_str();
  command
      .add_option("--concurrency,--max-concurrency", options->concurrency,
                  "Requests under way at most (default: 1, or with --rate any number)")
      ->check(CLI::Range(1U, 100'000U));
  command
      .add_option("--rate,--request-rate", load.rate,
                  "Arrivals a second, of a Poisson process (default: the next request is sent when "
                  "one ends)")
      ->check(real_range(0.001, 1e6));
  command.add_option("-n,--max-tokens", load.max_tokens, "Tokens of an answer at most")
      ->check(CLI::Range(1U, 1U << 20))
      ->capture_default_str();
  command.add_option("--temperature", load.temperature, "Softmax temperature; 0: the likeliest")
      ->check(real_range(0.0, 2.0))
      ->capture_default_str();
  command
      .add_option("--seed", load.seed,
                  "Of the arrivals; request i samples with this seed plus i, from 0 up")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 53))
      ->capture_default_str();
  command.add_flag("--ignore-eos", load.ignore_eos,
                   "Ask for --max-tokens tokens whatever the model says (servers of vLLM's kind)");
}

}  // namespace

void add_bench_serve_command(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<BenchServeOptions>();
  CLI::App& command = *bench.add_subcommand(
      "serve", "Load on a server of the OpenAI API: times to tokens, not to chunks");
  add_target_options(command, options.get());
  add_load_options(command, options.get());
  command.add_option("--json", options->json_file, "Write every time and figure into this file");
  command.add_option("--plot,--svg", options->svg_file, "Draw the percentiles into this file");
  command.callback([options, exit_code] {
    const Status status = bench_serve(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
