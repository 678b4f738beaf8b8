#include "access/meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

// Of two limits of which 0 is none.
uint32_t wider(uint32_t a, uint32_t b) {
  return a == 0 || b == 0 ? 0 : std::max(a, b);
}

}  // namespace

KeyLimits account_limits(const KeyLimits& offered, const KeyLimits& of_key) {
  KeyLimits limits;
  limits.requests_per_minute = wider(offered.requests_per_minute, of_key.requests_per_minute);
  limits.tokens_per_minute = wider(offered.tokens_per_minute, of_key.tokens_per_minute);
  limits.max_concurrent = wider(offered.max_concurrent, of_key.max_concurrent);
  const bool is_plan = of_key.allowance_tokens.has_value();  // which has no budget
  if (!is_plan && offered.budget && of_key.budget)
    limits.budget = std::max(*offered.budget, *of_key.budget);
  return limits;
}

// `things`: "requests" or "tokens".
Answer<void> Meter::check_minute(const MinuteWindow& window, UtcTime now, uint64_t amount,
                                 uint64_t limit, const char* things) const {
  if (limit == 0) return {};
  const auto wait = window.wait(now, amount, limit);
  if (!wait) {
    return refuse(
        413, "request_too_large",
        fmt::format("The input has more {} than the {} may use in a minute.", things, subject_));
  }
  if (wait->count() == 0) return {};
  return refuse(429, fmt::format("too_many_{}", things),
                fmt::format("The {} had as many {} in a minute as it may have.", subject_, things),
                static_cast<uint32_t>(wait->count()));
}

Answer<void> Meter::check_request(const KeyLimits& limits, UtcTime now) const {
  return check_minute(requests_, now, 1, limits.requests_per_minute, "requests");
}

Answer<void> Meter::check_tokens(const KeyLimits& limits, uint32_t num_tokens, UtcTime now) const {
  return check_minute(tokens_, now, num_tokens, limits.tokens_per_minute, "tokens");
}

Answer<void> Meter::check_answers(const KeyLimits& limits, uint32_t num_answers) const {
  if (limits.max_concurrent == 0) return {};
  if (num_answers > limits.max_concurrent) {
    return refuse(413, "request_too_large",
                  fmt::format("The request asks for {} answers, and the {} may have {} at once.",
                              num_answers, subject_, limits.max_concurrent));
  }
  if (num_under_way_ + num_answers <= limits.max_concurrent) return {};
  return refuse(429, "too_many_at_once",
                fmt::format("The {} may have {} answers under way, and has {}.", subject_,
                            limits.max_concurrent, num_under_way_),
                1);
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
      *why = {
          402, "budget_used_up",
          fmt::format("The {}'s budget is used up, or held by its running requests.", subject_)};
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

Answer<uint32_t> Meter::allowed_output(const KeyLimits& limits, const Rates& rates,
                                       const Hold& wanted, UtcTime now) const {
  US_TRY(check_answers(limits, wanted.num_answers));
  US_TRY(check_tokens(limits, wanted.input_tokens, now));
  Refusal why;
  const int64_t affordable = affordable_output(limits, rates, wanted.input_tokens, &why);
  if (affordable < 1) return tl::unexpected(std::move(why));
  const auto allowed = static_cast<uint32_t>(std::min<int64_t>(wanted.output_tokens, affordable));
  if (!held_.plus(rates.cost({0, wanted.input_tokens, allowed}))) {
    return refuse(402, "budget_used_up", "The running requests cost more than can be held.");
  }
  return allowed;
}

void Meter::begin(const Hold& hold, UtcTime now) {
  held_.units += hold.price.units;
  held_tokens_ += int64_t{hold.input_tokens} + hold.output_tokens;
  num_under_way_ += hold.num_answers;
  tokens_.add(now, hold.input_tokens);
}

void Meter::end(const Hold& hold, const TokenCounts& tokens, Money price) {
  US_CHECK(num_under_way_ >= hold.num_answers && tokens.output <= hold.output_tokens &&
               price <= hold.price,
           "{} tokens and {} of {} and {}", tokens.output, price.text(), hold.output_tokens,
           hold.price.text());
  num_under_way_ -= hold.num_answers;
  held_.units -= hold.price.units;
  held_tokens_ -= int64_t{hold.input_tokens} + hold.output_tokens;
  // Over 9 million of the currency, a budget (which is below) is used up for good.
  spent_ = spent_.plus(price).value_or(kMostMoney);
  used_tokens_ += int64_t{tokens.cached_input} + tokens.input + tokens.output;
}

}  // namespace ultraspeed::access
