#include "cpu/ops/adjusted_logits.h"

namespace ultraspeed::cpu {

tl::unexpected<Error> bad_logit(std::string_view what, uint32_t position, size_t token_id,
                                float value) {
  return make_error(ErrorCode::kInvalidData,
                    "sampling after position {}: the {} of token {} is {}, expected a finite "
                    "number; a weight of the checkpoint or an operation before is at fault",
                    position, what, token_id, value);
}

Status check_mask(program::TokenMask allowed, uint32_t position, size_t vocab_size) {
  bool is_any = allowed.empty();
  for (size_t id = 0; id < vocab_size && !is_any; ++id) is_any = program::contains(allowed, id);
  if (is_any) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "sampling after position {}: the constraint allows no token", position);
}

AdjustedLogits::AdjustedLogits(const TokenValues& tokens, const program::ColumnSampling& sampling)
    : values_(tokens.values) {
  if (sampling.adjustments.empty() && sampling.allowed.empty()) return;
  changed_.assign(tokens.values.begin(), tokens.values.end());
  values_ = changed_;
  for (const auto& adjustment : sampling.adjustments) {
    const auto id = static_cast<uint32_t>(adjustment.token_id);
    if (id < tokens.first_id || id - tokens.first_id >= changed_.size()) continue;
    float& value = changed_[id - tokens.first_id];
    const float scaled = value > 0 ? value / adjustment.repetition : value * adjustment.repetition;
    value = scaled + adjustment.bias;
    if (value < std::numeric_limits<float>::infinity()) continue;
    bad_id_ = id;
    bad_value_ = value;
    return;
  }
  if (sampling.allowed.empty()) return;
  for (size_t place = 0; place < changed_.size(); ++place) {
    if (program::contains(sampling.allowed, tokens.first_id + place)) continue;
    changed_[place] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace ultraspeed::cpu
