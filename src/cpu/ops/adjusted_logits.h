// Logits as a column's parameters change them before temperature, of a whole vocabulary or a share.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cpu/ops/candidates.h"
#include "program/step.h"

namespace ultraspeed::cpu {

tl::unexpected<Error> bad_logit(std::string_view what, uint32_t position, size_t token_id,
                                float value);

// Errors unless the mask, if there is one, allows a token.
Status check_mask(program::TokenMask allowed, uint32_t position, size_t vocab_size);

// Applies ColumnSampling's adjustments and mask.
class AdjustedLogits {
 public:
  // REQUIRES: check_sampling() accepts them for a vocabulary that has the tokens; no ids of their
  // own. `tokens` outlive this where nothing is to be changed.
  AdjustedLogits(const TokenValues& tokens, const program::ColumnSampling& sampling);

  // Tokens that the mask forbids have -infinity. REQUIRES: no bad_id().
  std::span<const float> values() const { return values_; }
  // The first token whose adjusted logit is not below infinity, or kNoId, and that logit.
  uint32_t bad_id() const { return bad_id_; }
  float bad_value() const { return bad_value_; }

 private:
  std::vector<float> changed_;
  std::span<const float> values_;
  uint32_t bad_id_ = program::kNoId;
  float bad_value_ = 0;
};

}  // namespace ultraspeed::cpu
