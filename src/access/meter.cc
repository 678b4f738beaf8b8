#include "access/meter.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

Answer<void> check_minute(const MinuteWindow& window, UtcTime now, uint64_t amount, uint64_t limit,
                          const char* code, const char* message) {
  if (limit == 0) return {};
  const auto wait = window.wait(now, amount, limit);
  if (!wait) {
    return refuse(413, "request_too_large",
                  "The input has more tokens than the key may use in a minute.");
  }
  if (wait->count() == 0) return {};
  return refuse(429, code, message, static_cast<uint32_t>(wait->count()));
}

}  // namespace

Answer<void> Meter::check_pace(const KeyLimits& limits, uint32_t input_tokens, UtcTime now) const {
  if (limits.max_concurrent != 0 && num_under_way_ >= limits.max_concurrent) {
    return refuse(429, "too_many_at_once", "The key has as many requests under way as it may have.",
                  1);
  }
  US_TRY(check_minute(requests_, now, 1, limits.requests_per_minute, "too_many_requests",
                      "The key had as many requests in a minute as it may have."));
  return check_minute(tokens_, now, input_tokens, limits.tokens_per_minute, "too_many_tokens",
                      "The key had as many tokens in a minute as it may have.");
}

// How many tokens of output can be paid beside the input; `why` says what ends first. Negative: not
// even the input.
int64_t Meter::affordable_output(const KeyLimits& limits, const Rates& rates, uint32_t input_tokens,
                                 Refusal* why) const {
  int64_t affordable = std::numeric_limits<int64_t>::max();
  if (limits.budget) {
    const int64_t left =
        limits.budget->units - spent_.units - held_.units - rates.cost({0, input_tokens, 0}).units;
    if (left < 0 || rates.output > 0) {
      affordable = left < 0 ? -1 : left / rates.output;
      *why = {402, "budget_used_up",
              "The key's budget is used up, or held by its running requests."};
    }
  }
  if (limits.allowance_tokens) {
    const int64_t left = *limits.allowance_tokens - used_tokens_ - held_tokens_ - input_tokens;
    if (left < affordable) {
      affordable = left;
      *why = {402, "allowance_used_up",
              "The Token Plan's allowance is used up, or held by its running requests."};
    }
  }
  return affordable;
}

Answer<Meter::Hold> Meter::begin(const KeyLimits& limits, const Rates& rates, uint32_t input_tokens,
                                 uint32_t max_output_tokens, UtcTime now) {
  US_TRY(check_pace(limits, input_tokens, now));
  Refusal why;
  const int64_t affordable = affordable_output(limits, rates, input_tokens, &why);
  if (affordable < 1) return tl::unexpected(std::move(why));
  Hold hold;
  hold.input_tokens = input_tokens;
  hold.output_tokens = static_cast<uint32_t>(std::min<int64_t>(max_output_tokens, affordable));
  hold.price = rates.cost({0, input_tokens, hold.output_tokens});
  const std::optional<Money> held = held_.plus(hold.price);
  if (!held)
    return refuse(402, "budget_used_up", "The running requests cost more than can be held.");
  held_ = *held;
  held_tokens_ += int64_t{hold.input_tokens} + hold.output_tokens;
  ++num_under_way_;
  requests_.add(now, 1);
  tokens_.add(now, input_tokens);
  return hold;
}

void Meter::end(const Hold& hold, const TokenCounts& tokens, Money price, UtcTime now) {
  US_CHECK(num_under_way_ > 0 && tokens.output <= hold.output_tokens && price <= hold.price,
           "{} tokens and {} of {} and {}", tokens.output, price.text(), hold.output_tokens,
           hold.price.text());
  --num_under_way_;
  held_.units -= hold.price.units;
  held_tokens_ -= int64_t{hold.input_tokens} + hold.output_tokens;
  // Over 9 million of the currency a key, its budget (which is below) is used up for good.
  spent_ = spent_.plus(price).value_or(Money{std::numeric_limits<int64_t>::max() / 2});
  used_tokens_ += int64_t{tokens.cached_input} + tokens.input + tokens.output;
  tokens_.add(now, tokens.output);
}

}  // namespace ultraspeed::access
