// What a key has under way and has had in the last minute, against its limits. What a request may
// cost at most is held back when it begins, so that requests at the same time cannot together
// exceed a budget or an allowance, to the unit.
#pragma once

#include <cstdint>

#include "access/keys.h"
#include "access/minute_window.h"
#include "access/money.h"
#include "access/refusal.h"

namespace ultraspeed::access {

// One thread at a time.
class Meter {
 public:
  // What was held back for a request.
  struct Hold {
    uint32_t input_tokens = 0;
    uint32_t output_tokens = 0;  // as many as it may have: what was asked for, or what can be paid
    Money price;
  };

  // `spent`, `used_tokens`: what the ledger has of the key.
  Meter(Money spent, int64_t used_tokens) : spent_(spent), used_tokens_(used_tokens) {}

  // Refuses: 429 "too_many_requests", "too_many_tokens", "too_many_at_once"; 413 for an input that
  // is larger than a minute's tokens; 402 "budget_used_up", "allowance_used_up" where not even one
  // token of output can be paid.
  Answer<Hold> begin(const KeyLimits& limits, const Rates& rates, uint32_t input_tokens,
                     uint32_t max_output_tokens, UtcTime now);
  // REQUIRES: a hold of begin(); `tokens` within it.
  void end(const Hold& hold, const TokenCounts& tokens, Money price, UtcTime now);

 private:
  Answer<void> check_pace(const KeyLimits& limits, uint32_t input_tokens, UtcTime now) const;
  int64_t affordable_output(const KeyLimits& limits, const Rates& rates, uint32_t input_tokens,
                            Refusal* why) const;

  MinuteWindow requests_, tokens_;
  uint32_t num_under_way_ = 0;
  Money spent_, held_;
  int64_t used_tokens_ = 0, held_tokens_ = 0;
};

}  // namespace ultraspeed::access
