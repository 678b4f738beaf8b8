#include "engine/session.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ultraspeed::engine {
namespace {

// Tokens that prompt and output may have together.
uint32_t token_limit(uint32_t prompt_size, uint32_t max_tokens, uint32_t max_context) {
  US_CHECK(prompt_size > 0 && prompt_size < max_context, "prompt of {} tokens, context of {}",
           prompt_size, max_context);
  const uint32_t room = max_context - prompt_size;
  return prompt_size + (max_tokens == 0 ? room : std::min(max_tokens, room));
}

}  // namespace

Session::Session(SessionId id, std::span<const int32_t> prompt, GenerationParams params,
                 uint32_t max_context, KvPageTable pages)
    : id_(id),
      params_(std::move(params)),
      tokens_(prompt.begin(), prompt.end()),
      prompt_size_(static_cast<uint32_t>(prompt.size())),
      max_tokens_(token_limit(prompt_size_, params_.max_tokens, max_context)),
      penalties_(params_.sampling, prompt),
      pages_(std::move(pages)) {}

void Session::append_columns(uint32_t count, uint32_t sequence,
                             std::vector<program::Column>* columns) const {
  US_CHECK(count > 0 && count <= num_pending(), "{} of {} pending tokens", count, num_pending());
  for (uint32_t position = num_cached_; position < num_cached_ + count; ++position) {
    program::Column& column = columns->emplace_back();
    column.token_id = tokens_[position];
    column.position = position;
    column.sequence = sequence;
  }
  if (count < num_pending()) return;
  program::Column& last = columns->back();
  last.wants_logits = true;
  last.sampling.temperature = params_.sampling.temperature;
  last.sampling.top_k = params_.sampling.top_k;
  last.sampling.top_p = params_.sampling.top_p;
  last.sampling.min_p = params_.sampling.min_p;
  last.sampling.seed = params_.sampling.seed;
  last.sampling.num_logprobs = params_.sampling.num_logprobs;
  last.sampling.adjustments = penalties_.adjustments();
}

std::optional<FinishReason> Session::add_token(int32_t token_id) {
  tokens_.push_back(token_id);
  penalties_.count_output(token_id);
  const auto& stop_ids = params_.stop_ids;
  if (!params_.ignore_eos &&
      std::find(stop_ids.begin(), stop_ids.end(), token_id) != stop_ids.end()) {
    return FinishReason::kStop;
  }
  if (tokens_.size() >= max_tokens_) return FinishReason::kLength;
  return std::nullopt;
}

}  // namespace ultraspeed::engine
