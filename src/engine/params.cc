#include "engine/params.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace ultraspeed::engine {
namespace {

// False for NaN too.
bool is_within(float value, float least, float most) {
  return value >= least && value <= most;
}

Status check_range(std::string_view field, float value, float least, float most) {
  if (is_within(value, least, most)) return {};
  return make_error(ErrorCode::kInvalidArgument, "{} is {}, expected a number from {} to {}", field,
                    value, least, most);
}

Status check_logit_bias(const std::vector<std::pair<int32_t, float>>& logit_bias,
                        uint32_t vocab_size) {
  std::vector<int32_t> ids;
  ids.reserve(logit_bias.size());
  for (const auto& [id, bias] : logit_bias) {
    if (id < 0 || static_cast<uint32_t>(id) >= vocab_size) {
      return make_error(ErrorCode::kInvalidArgument,
                        "logit_bias names token {}, expected an id from 0 to {}", id,
                        vocab_size - 1);
    }
    if (!is_within(bias, -kMaxLogitBias, kMaxLogitBias)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "logit_bias of token {} is {}, expected a number from {} to {}", id, bias,
                        -kMaxLogitBias, kMaxLogitBias);
    }
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "logit_bias names token {} twice, expected each token once", *twice);
}

}  // namespace

SamplingParams default_sampling(const model::GenerationConfig& generation) {
  SamplingParams sampling;
  sampling.temperature = generation.do_sample ? generation.temperature : 0.0F;
  sampling.top_k = generation.top_k;
  sampling.top_p = generation.top_p;
  sampling.min_p = generation.min_p;
  sampling.repetition_penalty = generation.repetition_penalty;
  return sampling;
}

Status check_params(const GenerationParams& params, uint32_t vocab_size) {
  const SamplingParams& sampling = params.sampling;
  US_TRY(check_range("temperature", sampling.temperature, 0, kMaxTemperature));
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "top_p is {}, expected a number above 0 and at most 1", sampling.top_p);
  }
  if (!(sampling.min_p >= 0 && sampling.min_p < 1)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "min_p is {}, expected a number from 0 to below 1", sampling.min_p);
  }
  US_TRY(check_range("repetition_penalty", sampling.repetition_penalty, kMinRepetitionPenalty,
                     kMaxRepetitionPenalty));
  US_TRY(check_range("presence_penalty", sampling.presence_penalty, -kMaxCountPenalty,
                     kMaxCountPenalty));
  US_TRY(check_range("frequency_penalty", sampling.frequency_penalty, -kMaxCountPenalty,
                     kMaxCountPenalty));
  US_TRY(check_logit_bias(sampling.logit_bias, vocab_size));
  if (sampling.num_logprobs > kMaxLogprobs) {
    return make_error(ErrorCode::kInvalidArgument, "num_logprobs is {}, expected 0 to {}",
                      sampling.num_logprobs, kMaxLogprobs);
  }
  return {};
}

Status check_token_ids(std::string_view what, std::span<const int32_t> token_ids,
                       uint32_t vocab_size) {
  if (token_ids.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{} is empty, expected at least one token",
                      what);
  }
  for (size_t i = 0; i < token_ids.size(); ++i) {
    if (token_ids[i] >= 0 && static_cast<uint32_t>(token_ids[i]) < vocab_size) continue;
    return make_error(ErrorCode::kInvalidArgument,
                      "token {} of {} is {}, expected an id from 0 to {}", i, what, token_ids[i],
                      vocab_size - 1);
  }
  return {};
}

}  // namespace ultraspeed::engine
