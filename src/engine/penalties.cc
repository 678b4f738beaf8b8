#include "engine/penalties.h"

#include <algorithm>

namespace ultraspeed::engine {

Penalties::Penalties(const SamplingParams& params, std::span<const int32_t> prompt)
    : repetition_(params.repetition_penalty),
      presence_(params.presence_penalty),
      frequency_(params.frequency_penalty) {
  for (const auto& [token_id, bias] : params.logit_bias) {
    adjustments_.push_back({.token_id = token_id, .bias = bias});
  }
  if (repetition_ != 1) {
    for (const int32_t token_id : prompt) adjustments_.push_back({.token_id = token_id});
  }
  const auto by_id = [](const auto& a, const auto& b) { return a.token_id < b.token_id; };
  // Stable, so that of a token's entries the one with its bias comes first and stays.
  std::stable_sort(adjustments_.begin(), adjustments_.end(), by_id);
  const auto same = [](const auto& a, const auto& b) { return a.token_id == b.token_id; };
  adjustments_.erase(std::unique(adjustments_.begin(), adjustments_.end(), same),
                     adjustments_.end());
  for (const auto& adjustment : adjustments_) entries_.push_back({.logit_bias = adjustment.bias});
  if (repetition_ == 1) return;
  for (const int32_t token_id : prompt) {
    adjustments_[find_or_insert(token_id)].repetition = repetition_;
  }
}

void Penalties::count_output(int32_t token_id) {
  if (!depend_on_output()) return;
  const size_t index = find_or_insert(token_id);
  Entry& entry = entries_[index];
  ++entry.output_count;
  adjustments_[index].repetition = repetition_;
  adjustments_[index].bias =
      entry.logit_bias - presence_ - frequency_ * static_cast<float>(entry.output_count);
}

size_t Penalties::find_or_insert(int32_t token_id) {
  const auto at =
      std::lower_bound(adjustments_.begin(), adjustments_.end(), token_id,
                       [](const auto& adjustment, int32_t id) { return adjustment.token_id < id; });
  const auto index = at - adjustments_.begin();
  if (at == adjustments_.end() || at->token_id != token_id) {
    adjustments_.insert(at, {.token_id = token_id});
    entries_.insert(entries_.begin() + index, Entry());
  }
  return static_cast<size_t>(index);
}

}  // namespace ultraspeed::engine
