#include "server/generation_request.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>

namespace ultraspeed::server {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

ApiStatus check_model(const Fields& fields, const RequestDefaults& defaults) {
  std::string model;
  US_TRY(fields.read("model", &model));
  if (model.empty()) {
    return invalid_field("model",
                         fmt::format("'model' is missing; this server has '{}'.", defaults.model));
  }
  return check_model_name(model, defaults);
}

ApiStatus read_choices(const Fields& fields, ChoiceOptions* choices) {
  int64_t num_choices = 1;
  US_TRY(fields.read_integer("n", 1, kMaxCandidates, &num_choices));
  int64_t num_candidates = num_choices;
  US_TRY(fields.read_integer("best_of", 1, kMaxCandidates, &num_candidates));
  if (num_candidates < num_choices) {
    return invalid_field("best_of", fmt::format("'best_of' is {} and 'n' is {}; it must be at "
                                                "least as large.",
                                                num_candidates, num_choices));
  }
  choices->num_choices = static_cast<uint32_t>(num_choices);
  choices->num_candidates = static_cast<uint32_t>(num_candidates);
  std::string mode = "logprob";
  US_TRY(fields.read("best_of_mode", &mode));
  if (mode != "logprob" && mode != "majority" && mode != "judge") {
    return invalid_field("best_of_mode", fmt::format("'best_of_mode' is '{}'; it must be "
                                                     "'logprob', 'majority' or 'judge'.",
                                                     mode));
  }
  if (mode == "majority") choices->selection = Selection::kMajority;
  if (mode != "judge") return {};
  choices->selection = Selection::kJudge;
  choices->judge_prompt = "Which of the following answers to the request above is the best?";
  if (num_choices != 1) {
    return invalid_field("n", "'n' must be 1 with 'best_of_mode' 'judge', which names one answer.");
  }
  US_TRY(fields.read("judge_prompt", &choices->judge_prompt));
  if (choices->judge_prompt.size() <= kMaxJudgePromptBytes) return {};
  return invalid_field("judge_prompt",
                       fmt::format("'judge_prompt' has {} bytes; expected at most "
                                   "{}.",
                                   choices->judge_prompt.size(), kMaxJudgePromptBytes));
}

ApiStatus read_milliseconds(const Fields& fields, std::string_view name,
                            std::optional<std::chrono::milliseconds>* out) {
  int64_t count = 0;
  US_TRY(fields.read_integer(name, 1, kMaxInt, &count));
  if (count > 0) *out = std::chrono::milliseconds(count);
  return {};
}

constexpr std::array<std::string_view, 6> kTiers = {"auto",  "default",  "flex",
                                                    "scale", "priority", "fast"};
constexpr std::array<std::string_view, 2> kSpeeds = {"standard", "fast"};

// OpenAI's service_tier, and Anthropic's speed. Where a model has two modes, the tier is one of
// them; what names none ("auto") leaves it to the model's name.
ApiStatus read_tier(const Fields& fields, const RequestDefaults& defaults,
                    GenerationRequest* request) {
  US_TRY(check_choice(fields, "service_tier", kTiers));
  US_TRY(check_choice(fields, "speed", kSpeeds));
  std::string tier;
  US_TRY(fields.read("service_tier", &tier));
  std::string speed;
  US_TRY(fields.read("speed", &speed));
  std::string model;
  US_TRY(fields.read("model", &model));
  const bool has_modes = !defaults.fast_model.empty();
  const bool names_none = tier.empty() || tier == "auto";
  const bool is_fast_model = has_modes && names_none && model == defaults.fast_model;
  if (tier == "priority" || tier == "fast" || speed == "fast" || is_fast_model) {
    request->tier = ServiceTier::kFast;
    request->service_tier = "priority";
  } else if (tier == "flex") {
    request->tier = ServiceTier::kFlex;
    request->service_tier = tier;
  } else if (has_modes || !tier.empty()) {
    request->service_tier = "default";
  }
  if (!speed.empty()) request->speed = request->tier == ServiceTier::kFast ? "fast" : "standard";
  if (has_modes) request->params.speculates = request->tier == ServiceTier::kFast;
  return {};
}

ApiStatus read_service(const Fields& fields, GenerationRequest* request) {
  US_TRY(read_milliseconds(fields, "deadline_ms", &request->deadline));
  US_TRY(read_milliseconds(fields, "budget_ms", &request->budget));
  int64_t priority = 0;
  US_TRY(fields.read_integer("priority", -kMaxInt, kMaxInt, &priority));
  request->priority = static_cast<int32_t>(priority);
  return {};
}

ApiStatus read_penalties(const Fields& fields, engine::SamplingParams* sampling) {
  US_TRY(fields.read_number("presence_penalty", -2, 2, &sampling->presence_penalty));
  US_TRY(fields.read_number("frequency_penalty", -2, 2, &sampling->frequency_penalty));
  return fields.read_number("repetition_penalty", 0.01, 100, &sampling->repetition_penalty);
}

ApiStatus read_logit_bias(const Fields& fields, uint32_t vocab_size,
                          engine::SamplingParams* sampling) {
  const Json* map = nullptr;
  US_TRY(fields.read_object("logit_bias", &map));
  if (map == nullptr) return {};
  const Fields entries(*map, "logit_bias");
  for (const auto& [key, value] : map->items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id >= vocab_size) {
      return invalid_field("logit_bias",
                           fmt::format("'logit_bias' has the key '{}'; keys are token "
                                       "ids from 0 to {}.",
                                       key, vocab_size - 1));
    }
    float bias = 0;
    US_TRY(entries.read_number(key, -100, 100, &bias));
    sampling->logit_bias.emplace_back(static_cast<int32_t>(id), bias);
  }
  return {};
}

ApiStatus read_min_p(const Fields& fields, float* min_p) {
  const Json* field = fields.find("min_p");
  if (field != nullptr && field->is_number()) {
    const double value = field->get<double>();
    const bool is_allowed = value >= 0 && value < 1 && static_cast<float>(value) < 1;
    if (!is_allowed) {
      return invalid_field(
          "min_p", fmt::format("'min_p' is {}; it must be at least 0 and below 1.", field->dump()));
    }
  }
  return fields.read_number("min_p", 0, 1, min_p);
}

ApiStatus read_sampling(const Fields& fields, const RequestDefaults& defaults,
                        GenerationRequest* request) {
  engine::SamplingParams& sampling = request->params.sampling;
  US_TRY(fields.read_number("temperature", 0, 2, &sampling.temperature));
  US_TRY(fields.read_number("top_p", 0, 1, &sampling.top_p));
  if (sampling.top_p <= 0) {
    return invalid_field("top_p",
                         "'top_p' is 0; it must be above 0. For greedy decoding set "
                         "'temperature' to 0.");
  }
  US_TRY(read_min_p(fields, &sampling.min_p));
  int64_t top_k = sampling.top_k;
  US_TRY(fields.read_integer("top_k", -1, kMaxInt, &top_k));
  sampling.top_k = top_k < 0 ? 0 : static_cast<uint32_t>(top_k);
  US_TRY(read_penalties(fields, &sampling));
  US_TRY(read_logit_bias(fields, defaults.vocab_size, &sampling));
  int64_t seed = 0;
  US_TRY(fields.read_integer("seed", std::numeric_limits<int64_t>::min(),
                             std::numeric_limits<int64_t>::max(), &seed));
  request->has_seed = fields.find("seed") != nullptr;
  sampling.seed = static_cast<uint64_t>(seed);
  return {};
}

ApiStatus read_max_tokens(const Fields& fields, engine::GenerationParams* params) {
  int64_t max_tokens = params->max_tokens;
  US_TRY(fields.read_integer("max_tokens", 1, kMaxInt, &max_tokens));
  US_TRY(fields.read_integer("max_completion_tokens", 1, kMaxInt, &max_tokens));
  params->max_tokens = static_cast<uint32_t>(max_tokens);
  return {};
}

ApiStatus read_stop(const Fields& fields, std::vector<std::string>* stop) {
  const Json* field = fields.find("stop");
  if (field == nullptr) return {};
  if (field->is_string()) {
    stop->push_back(field->get<std::string>());
  } else if (field->is_array()) {
    for (const Json& element : *field) {
      if (!element.is_string()) {
        return invalid_field("stop", "'stop' must be a string or an array of strings.");
      }
      stop->push_back(element.get<std::string>());
    }
  } else {
    return invalid_field("stop", "'stop' must be a string or an array of strings.");
  }
  if (stop->size() > kMaxStopStrings) {
    return invalid_field("stop", fmt::format("'stop' has {} strings; at most {} are allowed.",
                                             stop->size(), kMaxStopStrings));
  }
  for (const std::string& text : *stop) {
    if (text.empty()) return invalid_field("stop", "'stop' contains an empty string.");
  }
  return {};
}

ApiStatus read_cache_salt(const Fields& fields, std::string* salt) {
  US_TRY(fields.read("cache_salt", salt));
  if (salt->size() <= kMaxCacheSalt) return {};
  return invalid_field("cache_salt", fmt::format("'cache_salt' has {} bytes; at most {} are "
                                                 "allowed.",
                                                 salt->size(), kMaxCacheSalt));
}

ApiStatus read_delivery(const Fields& fields, GenerationRequest* request) {
  US_TRY(fields.read("stream", &request->stream));
  US_TRY(fields.read("ignore_eos", &request->params.ignore_eos));
  US_TRY(fields.read("skip_special_tokens", &request->skip_special_tokens));
  US_TRY(read_cache_salt(fields, &request->params.cache_domain));
  const Json* options = nullptr;
  US_TRY(fields.read_object("stream_options", &options));
  if (options == nullptr) return {};
  const Fields stream_options(*options, "stream_options");
  US_TRY(stream_options.read("include_usage", &request->include_usage));
  return stream_options.read("continuous_usage_stats", &request->has_continuous_usage);
}

}  // namespace

ApiStatus check_model_name(std::string_view model, const RequestDefaults& defaults) {
  const bool is_known =
      model == defaults.model || (!defaults.fast_model.empty() && model == defaults.fast_model);
  if (!is_known) return tl::unexpected(model_not_found(model));
  return {};
}

ApiResult<GenerationRequest> parse_generation_fields(const Fields& fields,
                                                     const RequestDefaults& defaults) {
  GenerationRequest request;
  request.params = defaults.params;
  US_TRY(check_model(fields, defaults));
  US_TRY(read_choices(fields, &request.choices));
  US_TRY(read_service(fields, &request));
  US_TRY(read_tier(fields, defaults, &request));
  US_TRY(read_sampling(fields, defaults, &request));
  US_TRY(read_max_tokens(fields, &request.params));
  US_TRY(read_stop(fields, &request.stop));
  US_ASSIGN(request.grammar, read_grammar(fields));
  US_TRY(read_delivery(fields, &request));
  if (request.stream && request.choices.num_candidates != request.choices.num_choices) {
    return invalid_field("best_of",
                         "'best_of' above 'n' cannot be streamed: which candidates are "
                         "best is known when all have ended.");
  }
  return request;
}

ApiStatus read_prompt_logprobs(const Fields& fields, GenerationRequest* request) {
  int64_t count = 0;
  US_TRY(fields.read_integer("prompt_logprobs", 0, kMaxTopLogprobs, &count));
  request->has_prompt_logprobs = fields.find("prompt_logprobs") != nullptr;
  if (!request->has_prompt_logprobs) return {};
  if (request->stream) {
    return unsupported_field("stream", "'stream' is not supported with 'prompt_logprobs'.");
  }
  request->params.num_prompt_logprobs = static_cast<uint32_t>(count);
  return {};
}

}  // namespace ultraspeed::server
