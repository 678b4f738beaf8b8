// What a key, or all keys of an account together, have under way and have had in the last minute,
// against limits. What a request may cost at most is held back when it begins, so that requests at
// the same time cannot together exceed a budget or an allowance, to the unit.
#pragma once

#include <cstdint>
#include <string_view>

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
    uint32_t num_answers = 1;    // at the same time
    Money price;
  };

  // `subject`: "key" or "account", as refusals name it; a literal. `spent`, `used_tokens`: what the
  // ledger has of it.
  Meter(std::string_view subject, Money spent, int64_t used_tokens)
      : subject_(subject), spent_(spent), used_tokens_(used_tokens) {}

  // How many tokens of output a request may have now, of those that `wanted` has; holds nothing.
  // Refuses: 429 "too_many_tokens", "too_many_at_once"; 413 for an input that is larger than a
  // minute's tokens, and for more answers than there may be at once; 402 "budget_used_up",
  // "allowance_used_up" where not even one token of output can be paid.
  Answer<uint32_t> allowed_output(const KeyLimits& limits, const Rates& rates, const Hold& wanted,
                                  UtcTime now) const;
  // REQUIRES: allowed_output() has just allowed it.
  void begin(const Hold& hold, UtcTime now);
  // Tokens that count in the minute: delivered output, and what a judge reads.
  void deliver(uint32_t num_tokens, UtcTime now) { tokens_.add(now, num_tokens); }
  // REQUIRES: a hold of begin(); `tokens` within it, the output delivered.
  void end(const Hold& hold, const TokenCounts& tokens, Money price);

  // A request as it comes, whatever becomes of it. Refuses: 429 "too_many_requests".
  Answer<void> check_request(const KeyLimits& limits, UtcTime now) const;
  // 429 "too_many_tokens", 413.
  Answer<void> check_tokens(const KeyLimits& limits, uint32_t num_tokens, UtcTime now) const;
  void count_request(UtcTime now) { requests_.add(now, 1); }

 private:
  Answer<void> check_minute(const MinuteWindow& window, UtcTime now, uint64_t amount,
                            uint64_t limit, const char* things) const;
  Answer<void> check_answers(const KeyLimits& limits, uint32_t num_answers) const;
  int64_t affordable_output(const KeyLimits& limits, const Rates& rates, uint32_t input_tokens,
                            Refusal* why) const;

  std::string_view subject_;
  MinuteWindow requests_, tokens_;
  uint32_t num_under_way_ = 0;  // answers
  Money spent_, held_;
  int64_t used_tokens_ = 0, held_tokens_ = 0;
};

// What all keys of an account may together, when one with `of_key` asks: what is offered to an
// account, or what that key may if it is more.
KeyLimits account_limits(const KeyLimits& offered, const KeyLimits& of_key);

}  // namespace ultraspeed::access
