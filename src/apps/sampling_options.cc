#include "apps/sampling_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <string_view>

#include "apps/loaded_model.h"
#include "apps/option_values.h"
#include "engine/params.h"

namespace ultraspeed::apps {
namespace {

// Every character of `text` must belong to the number.
template <class T>
bool parse_number(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

Result<std::pair<int32_t, float>> parse_logit_bias(std::string_view text) {
  const size_t equals = text.find_first_of("=:");
  std::pair<int32_t, float> bias;
  const bool is_valid = equals != std::string_view::npos &&
                        parse_number(text.substr(0, equals), &bias.first) &&
                        parse_number(text.substr(equals + 1), &bias.second);
  if (is_valid) return bias;
  return make_error(ErrorCode::kInvalidArgument,
                    "--logit-bias '{}': expected ID=BIAS, for instance 42=-5.5", text);
}

// A number above `least` up to `most`, or with `least` and below `most`: one end is not allowed.
CLI::Validator half_open_range(float least, float most, bool has_least) {
  const std::string description = has_least ? fmt::format("FLOAT from {} to below {}", least, most)
                                            : fmt::format("FLOAT above {} to {}", least, most);
  const auto check = [=](const std::string& text) -> std::string {
    float value = 0;
    const bool is_allowed = parse_number(text, &value) && value >= least && value <= most &&
                            value != (has_least ? most : least);
    return is_allowed ? "" : fmt::format("{} is no {}", text, description);
  };
  return {check, description, ""};
}

}  // namespace

void add_sampling_options(CLI::App& command, SamplingOptions* options) {
  CLI::App& app = *command.add_option_group("Sampling", "How tokens are chosen");
  const CLI::Range penalty(-engine::kMaxCountPenalty, engine::kMaxCountPenalty);
  CLI::Option* temperature =
      app.add_option("--temperature,--temp", options->temperature, "0: always the likeliest token")
          ->check(real_range(0.0F, engine::kMaxTemperature));
  app.add_flag("--greedy", options->greedy, "The same as --temperature 0")->excludes(temperature);
  app.add_option("--top-k", options->top_k, "Only the K likeliest tokens (0: all)");
  app.add_option("--top-p", options->top_p, "Only the likeliest tokens that sum to this")
      ->check(half_open_range(0, 1, false));
  app.add_option("--min-p", options->min_p, "Only tokens with this share of the best one's")
      ->check(half_open_range(0, 1, true));
  app.add_option("--repetition-penalty", options->repetition_penalty,
                 "Divides the logits of tokens seen in prompt and output (1: off)")
      ->check(CLI::Range(engine::kMinRepetitionPenalty, engine::kMaxRepetitionPenalty));
  app.add_option("--presence-penalty", options->presence_penalty,
                 "Subtracted from tokens seen in the output")
      ->check(penalty);
  app.add_option("--frequency-penalty", options->frequency_penalty, "The same, for each time seen")
      ->check(penalty);
  app.add_option("--logit-bias", options->logit_bias, "ID=BIAS, added to a logit (repeatable)")
      ->allow_extra_args(false);
  app.add_option("--seed", options->seed, "The same seed gives the same text");
  app.add_option("-n,--max-tokens", options->max_tokens,
                 "Tokens of output at most (0: to the context's end; 1024 where not said, no limit "
                 "in chat)");
  app.add_option("--stop", options->stop, "End before this string (repeatable)")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options->ignore_eos, "Do not end at the model's stop tokens");
}

Result<engine::GenerationParams> generation_params(const SamplingOptions& options,
                                                   const LoadedModel& model, uint64_t seed,
                                                   uint32_t max_tokens) {
  engine::GenerationParams params;
  engine::SamplingParams& sampling = params.sampling;
  sampling = engine::default_sampling(model.generation());
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  if (options.greedy) sampling.temperature = 0;
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.min_p = options.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = options.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = options.presence_penalty;
  sampling.frequency_penalty = options.frequency_penalty;
  for (const std::string& text : options.logit_bias) {
    US_ASSIGN(const auto bias, parse_logit_bias(text));
    sampling.logit_bias.push_back(bias);
  }
  sampling.seed = options.seed.value_or(seed);
  sampling.num_logprobs = options.num_logprobs;
  params.max_tokens = options.max_tokens.value_or(max_tokens);
  params.ignore_eos = options.ignore_eos;
  params.stop_ids = model.stop_ids();
  return params;
}

}  // namespace ultraspeed::apps
