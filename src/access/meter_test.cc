// Limits of keys: minutes, requests at the same time, budgets and allowances, to the unit.
#include "access/meter.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <deque>

#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

using std::chrono::seconds;

constexpr Rates kRates{25'000, 3'000'000, 6'000'000};  // the seed's
const UtcTime kNow = from_ms(1'750'000'000'000);

KeyLimits no_limits() {
  return {0, 0, 0, std::nullopt, std::nullopt};
}

Answer<Meter::Hold> begin(Meter& meter, const KeyLimits& limits, const Rates& rates, uint32_t input,
                          uint32_t max_output, UtcTime now, uint32_t num_answers = 1) {
  Meter::Hold hold{input, max_output, num_answers, {}};
  US_ASSIGN(hold.output_tokens, meter.allowed_output(limits, rates, hold, now));
  hold.price = rates.cost({0, input, hold.output_tokens});
  meter.begin(hold, now);
  return hold;
}

TEST(MinuteWindowTest, NoSpanOfAMinuteExceedsTheLimit) {
  rc::check([] {
    constexpr uint64_t kLimit = 20;
    MinuteWindow window;
    std::deque<std::pair<UtcTime, uint64_t>> log;  // what was allowed
    UtcTime now = kNow;
    for (int i = 0; i < 300; ++i) {
      now += milliseconds(*rc::gen::inRange(0, 4000));
      const auto amount = static_cast<uint64_t>(*rc::gen::inRange(0, 8));
      const auto wait = window.wait(now, amount, kLimit);
      RC_ASSERT(wait.has_value());
      if (wait->count() > 0) {
        RC_ASSERT(window.wait(now + *wait, amount, kLimit) == seconds(0));
        continue;
      }
      window.add(now, amount);
      log.emplace_back(now, amount);
      while (log.front().first <= now - seconds(60)) log.pop_front();
      uint64_t sum = 0;
      for (const auto& entry : log) sum += entry.second;
      RC_ASSERT(sum <= kLimit);
    }
  });
}

TEST(MinuteWindowTest, AMinuteLaterAllIsFree) {
  MinuteWindow window;
  window.add(kNow, 10);
  EXPECT_EQ(window.wait(kNow, 1, 10), seconds(61));
  EXPECT_EQ(window.wait(kNow + seconds(61), 10, 10), seconds(0));
  EXPECT_EQ(window.wait(kNow, 11, 10), std::nullopt);
  EXPECT_GT(window.sum(kNow - seconds(100)), 0U);  // a clock that was set back
}

TEST(MeterTest, RequestsAMinute) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.requests_per_minute = 2;
  const auto ask = [&](UtcTime now) {
    const auto answer = meter.check_request(limits, now);
    if (answer) meter.count_request(now);
    return answer;
  };
  EXPECT_EQ(outcome(ask(kNow)), "200");
  EXPECT_EQ(outcome(ask(kNow + seconds(10))), "200");
  const auto third = ask(kNow + seconds(20));
  EXPECT_EQ(outcome(third), "429 too_many_requests");
  EXPECT_EQ(third.error().retry_after_s, 41U);
  EXPECT_EQ(outcome(ask(kNow + seconds(61))), "200");
}

TEST(MeterTest, TokensAMinuteCountInputAtOnceAndOutputWhenDelivered) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.tokens_per_minute = 100;
  const Meter::Hold hold = value_of(begin(meter, limits, kRates, 60, 1000, kNow));
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 41, 1, kNow)), "429 too_many_tokens");
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 101, 1, kNow)), "413 request_too_large");
  meter.deliver(25, kNow + seconds(5));
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 16, 1, kNow + seconds(6))), "429 too_many_tokens");
  meter.deliver(15, kNow + seconds(8));
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow + seconds(60))), "429 too_many_tokens");
  const TokenCounts tokens{0, 60, 40};
  meter.end(hold, tokens, kRates.cost(tokens));  // counts nothing again
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 60, 1, kNow + seconds(61))), "200");
}

TEST(MeterTest, RequestsAtTheSameTime) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.max_concurrent = 2;
  const Meter::Hold hold = value_of(begin(meter, limits, kRates, 1, 1, kNow));
  value_of(begin(meter, limits, kRates, 1, 1, kNow));
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow)), "429 too_many_at_once");
  meter.end(hold, {}, {});
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow)), "200");
}

TEST(MeterTest, AnswersOfARequestCountEach) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.max_concurrent = 8;
  const Meter::Hold hold = value_of(begin(meter, limits, kRates, 1, 1, kNow, 7));
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow, 2)), "429 too_many_at_once");
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow, 9)), "413 request_too_large");
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow, 1)), "200");
  meter.end(hold, {}, {});
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 1, 1, kNow, 7)), "200");
}

TEST(MeterTest, ABudgetBoundsTheAnswer) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.budget = Money{10 * kRates.input + 5 * kRates.output + 1};
  const Meter::Hold hold = value_of(begin(meter, limits, kRates, 10, 1000, kNow));
  EXPECT_EQ(hold.output_tokens, 5U);
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 0, 1, kNow)), "402 budget_used_up");
  meter.end(hold, {0, 10, 2}, kRates.cost({0, 10, 2}));
  EXPECT_EQ(value_of(begin(meter, limits, kRates, 0, 1000, kNow)).output_tokens, 3U);
}

TEST(MeterTest, AnAllowanceBoundsTheAnswer) {
  Meter meter("key", {}, 90);
  KeyLimits limits = no_limits();
  limits.allowance_tokens = 100;
  EXPECT_EQ(outcome(begin(meter, limits, kRates, 10, 1, kNow)), "402 allowance_used_up");
  EXPECT_EQ(value_of(begin(meter, limits, kRates, 7, 1000, kNow)).output_tokens, 3U);
}

TEST(MeterTest, WhatIsFreeNeedsNoBudget) {
  Meter meter("key", {}, 0);
  KeyLimits limits = no_limits();
  limits.budget = Money{0};
  EXPECT_EQ(value_of(begin(meter, limits, Rates(), 10, 1000, kNow)).output_tokens, 1000U);
}

TEST(MeterTest, AnAccountMayWhatIsOfferedOrWhatItsKeyMay) {
  const KeyLimits offered{10, 1000, 4, Money{50}, std::nullopt};
  const KeyLimits of_key{20, 500, 0, std::nullopt, 77};
  const KeyLimits both = account_limits(offered, of_key);
  EXPECT_EQ(both.requests_per_minute, 20U);
  EXPECT_EQ(both.tokens_per_minute, 1000U);
  EXPECT_EQ(both.max_concurrent, 0U);  // none
  EXPECT_EQ(both.budget, std::nullopt);
  EXPECT_EQ(both.allowance_tokens, std::nullopt);
  EXPECT_EQ(account_limits(offered, offered).budget, Money{50});
  const KeyLimits plan{10, 1000, 4, Money{50}, 77};
  EXPECT_EQ(account_limits(offered, plan).budget, std::nullopt);
}

// Whatever runs at the same time, however it ends: nothing beyond the budget and the allowance.
TEST(MeterTest, BudgetsHoldToTheUnit) {
  rc::check([] {
    KeyLimits limits = no_limits();
    limits.budget = Money{*rc::gen::inRange<int64_t>(0, 3'000'000'000)};
    limits.allowance_tokens = *rc::gen::inRange<int64_t>(0, 2000);
    Meter meter("key", {}, 0);
    std::vector<Meter::Hold> running;
    Money spent;
    int64_t used = 0;
    for (int i = 0; i < 100; ++i) {
      if (*rc::gen::inRange(0, 2) == 0) {
        const auto input = static_cast<uint32_t>(*rc::gen::inRange(0, 100));
        const auto output = static_cast<uint32_t>(*rc::gen::inRange(1, 200));
        const auto hold = begin(meter, limits, kRates, input, output, kNow);
        if (!hold) continue;
        RC_ASSERT(hold->output_tokens >= 1 && hold->output_tokens <= output);
        running.push_back(*hold);
      } else if (!running.empty()) {
        const Meter::Hold hold = running.back();
        running.pop_back();
        const auto cached =
            static_cast<uint32_t>(*rc::gen::inRange<int64_t>(0, int64_t{hold.input_tokens} + 1));
        const auto output =
            static_cast<uint32_t>(*rc::gen::inRange<int64_t>(0, int64_t{hold.output_tokens} + 1));
        const TokenCounts tokens{cached, hold.input_tokens - cached, output};
        meter.end(hold, tokens, kRates.cost(tokens));
        spent = *spent.plus(kRates.cost(tokens));
        used += int64_t{hold.input_tokens} + output;
        RC_ASSERT(spent <= *limits.budget && used <= *limits.allowance_tokens);
      }
    }
  });
}

}  // namespace
}  // namespace ultraspeed::access
