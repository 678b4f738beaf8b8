#include "apps/run_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/answer_printer.h"
#include "apps/generation.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "apps/samples.h"
#include "apps/sampling_options.h"
#include "apps/terminal.h"
#include "engine/params.h"
#include "server/chat_parser.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr uint32_t kDefaultMaxTokens = 1024;

struct RunOptions {
  ModelOptions model;
  PromptOptions prompt;
  SamplingOptions sampling;
  bool show_special = false;
  bool json = false;
  bool list_samples = false;
};

ordered_json logprobs_json(const std::vector<engine::Token>& tokens) {
  ordered_json positions = ordered_json::array();
  for (const engine::Token& token : tokens) {
    ordered_json ids = ordered_json::array();
    ordered_json values = ordered_json::array();
    for (const auto& [id, value] : token.top_logprobs) {
      ids.push_back(id);
      values.push_back(value);
    }
    positions.push_back({{"ids", std::move(ids)}, {"values", std::move(values)}});
  }
  return positions;
}

ordered_json speculation_json(const GenerationResult& result, const std::string& drafter) {
  return {{"drafter", drafter},
          {"cycles", result.speculation.num_cycles()},
          {"resident_cycles", result.speculation.num_resident()},
          {"accepted_length", result.speculation.accepted_length()},
          {"per_position", result.speculation.acceptance()}};
}

std::string result_json(const GenerationRequest& request, const GenerationResult& result,
                        const std::string& drafter, std::string_view device,
                        const ArithmeticModes& modes) {
  ordered_json ids = ordered_json::array();
  for (const engine::Token& token : result.tokens) ids.push_back(token.id);
  const bool has_logprobs = request.params.sampling.num_logprobs > 0;
  const ordered_json json = {
      {"prompt_ids", request.prompt},
      {"ids", std::move(ids)},
      {"text", result.text},
      {"finish_reason", generation_end_name(result.end)},
      {"logprobs", has_logprobs ? logprobs_json(result.tokens) : ordered_json::array()},
      {"timing",
       {{"prefill_ms", result.times.prefill_ms},
        {"decode_ms", result.times.decode_ms},
        {"tokens_per_second", result.tokens_per_second()}}},
      {"device", device},
      {"activations", program::activations_name(modes.activations)},
      {"kv_cache", program::kv_cache_type_name(modes.kv_cache)},
      {"dense_dtype", model::dense_dtype_name(modes.dense_dtype)},
      {"speculation", speculation_json(result, drafter)}};
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string sample_list() {
  std::string text;
  for (const Sample& sample : samples()) {
    text += fmt::format("{:<10} {}\n", sample.name, sample.description);
  }
  return text;
}

// Streams the text as it is; on a terminal, a chat answer's reasoning is dimmed and loses its
// markers. `form`: of a chat answer, else absent.
Result<GenerationResult> generate_to_output(engine::Engine& engine,
                                            const text::Tokenizer* tokenizer,
                                            const GenerationRequest& request,
                                            std::optional<server::ChatParserOptions> form) {
  const auto write = [](std::string_view text) { return write_all(STDOUT_FILENO, text); };
  const Terminal terminal = describe_terminal(STDOUT_FILENO);
  GenerationObserver observer;
  observer.on_text = write;
  if (!terminal.is_terminal || !form) {
    return generate(engine, tokenizer, request, observer);
  }
  AnswerPrinter printer(terminal, write);
  server::ChatParser parser(*std::move(form));
  const auto show = [&printer](const std::vector<server::ChatEvent>& events) -> Status {
    for (const server::ChatEvent& event : events) {
      const bool is_reasoning = event.kind == server::ChatEvent::Kind::kReasoning;
      US_TRY(is_reasoning ? printer.show_reasoning(event.text) : printer.show_content(event.text));
    }
    return {};
  };
  observer.on_text = [&](std::string_view text) { return show(parser.push(text)); };
  auto result = generate(engine, tokenizer, request, observer);
  US_TRY(show(parser.finish(false)));
  return result;
}

Status run(const RunOptions& options) {
  if (options.list_samples) return write_all(STDOUT_FILENO, sample_list());
  US_ASSIGN(const LoadedModel model, LoadedModel::open(options.model));
  GenerationRequest request;
  US_ASSIGN(request.params, generation_params(options.sampling, model, 0, kDefaultMaxTokens));
  request.params.sampling.acceptance = options.model.speculation.acceptance;
  request.stop = options.sampling.stop;
  request.show_special = options.show_special;
  US_ASSIGN(Prompt prompt, make_prompt(options.prompt, model));
  request.prompt = std::move(prompt.ids);
  if (request.stop.empty()) request.stop = prompt.stop;
  if (prompt.is_sample && !options.sampling.temperature) request.params.sampling.temperature = 0;
  US_ASSIGN(const uint32_t max_context, model.max_context(options.model));
  US_TRY(check_request(request, model.tokenizer(), model.config().vocab_size, max_context));
  US_ASSIGN(const auto engine, model.open_engine(options.model, 1));
  const Speculation& speculation = model.speculation();
  const engine::SamplingParams& sampling = request.params.sampling;
  if (speculation.drafter().kind == engine::DrafterKind::kReplay) {
    US_ASSIGN(const GenerationResult known, generate(*engine, model.tokenizer(), request, {}));
    for (const auto& token : known.tokens) request.params.expected_output.push_back(token.id);
  }
  write_to_stderr(prompt.shown);
  warn(speculation.describe_stand_in(sampling));

  std::optional<server::ChatParserOptions> form;
  if (prompt.is_chat) form = answer_form(model, request.prompt);
  if (form) request.syntax = form->syntax;
  US_ASSIGN(const GenerationResult result,
            options.json
                ? generate(*engine, model.tokenizer(), request, {})
                : generate_to_output(*engine, model.tokenizer(), request, std::move(form)));
  const ArithmeticModes modes = model.modes(options.model, *engine);
  if (options.json) {
    const std::string drafter = speculation.session_drafter(sampling);
    US_TRY(
        write_all(STDOUT_FILENO, result_json(request, result, drafter, engine->device(), modes)));
  } else {
    US_TRY(print_summary(result.text, fmt::format("{}, {}: {}", engine->device(), mode_text(modes),
                                                  describe_speed(result, request.prompt.size()))));
  }
  warn(speculation.describe_low_acceptance(sampling, result.speculation));
  return {};
}

}  // namespace

void add_run_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& command = *app.add_subcommand("run", "Answer one prompt");
  add_prompt_options(command, &options->prompt);
  add_model_options(command, &options->model);
  add_speculation_options(command, &options->model.speculation);
  add_acceptance_option(command, &options->model.speculation);
  add_sampling_options(command, &options->sampling);
  CLI::Option* json =
      command.add_flag("--json", options->json, "Print one JSON object instead of the text");
  command
      .add_option("--logprobs", options->sampling.num_logprobs,
                  "With --json: the N likeliest tokens at each position, by log-softmax of the "
                  "raw logits")
      ->check(CLI::Range(uint32_t{0}, engine::kMaxLogprobs))
      ->needs(json);
  command.add_flag("--special", options->show_special, "Show special tokens in the text");
  command.add_flag("--list-samples", options->list_samples, "List the sample prompts");
  command.callback([options, exit_code] {
    const Status status = run(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
