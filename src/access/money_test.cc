// Exact decimal money: what is read and written, and that prices of requests are never rounded.
#include "access/money.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <limits>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

Money money(std::string_view text) {
  const auto parsed = Money::parse(text);
  US_CHECK(parsed.has_value(), "{}", text);
  return *parsed;
}

TEST(MoneyTest, ReadsDecimals) {
  EXPECT_EQ(money("0").units, 0);
  EXPECT_EQ(money("0.025").units, 25'000'000'000);
  EXPECT_EQ(money("12.5").units, 12'500'000'000'000);
  EXPECT_EQ(money("0.000000000001").units, 1);
}

TEST(MoneyTest, RefusesWhatIsNoAmount) {
  for (const char* text : {"", ".", ".5", "1.", "-1", "+1", "1e3", "1,5", "0x1", " 1", "1 ",
                           "0.0000000000001", "9223372.1", "99999999999999999999", "1.2.3"}) {
    const auto parsed = Money::parse(text);
    EXPECT_FALSE(parsed.has_value()) << text;
  }
  EXPECT_NE(Money::parse("x").error().message.find("'x' is no amount"), std::string::npos);
}

TEST(MoneyTest, PrintsAllDecimalsThatCount) {
  EXPECT_EQ(money("0.000075").text(), "0.000075");
  EXPECT_EQ(money("3.10").text(), "3.1");
  EXPECT_EQ(money("100").text(), "100");
  EXPECT_EQ(Money{-1}.text(), "-0.000000000001");
  EXPECT_EQ(Money{std::numeric_limits<int64_t>::min()}.text(), "-9223372.036854775808");
}

TEST(MoneyTest, TextIsReadBackAsItIs) {
  rc::check([] {
    const int64_t units = *rc::gen::inRange<int64_t>(0, std::numeric_limits<int64_t>::max());
    RC_ASSERT(Money::parse(Money{units}.text())->units == units);
  });
}

TEST(MoneyTest, SumsAreChecked) {
  const Money most{std::numeric_limits<int64_t>::max()};
  EXPECT_EQ(most.plus({0}), most);
  EXPECT_FALSE(most.plus({1}).has_value());
  EXPECT_EQ(money("1.5").plus(money("0.25"))->text(), "1.75");
}

Prices seed_prices() {
  return {money("0.025"), money("3"), money("6")};
}

TEST(RatesTest, AreTheSeedsPrices) {
  const auto standard = Rates::of(seed_prices(), *Multiplier::parse("1"));
  const auto fast = Rates::of(seed_prices(), *Multiplier::parse("3"));
  EXPECT_EQ(standard->cost({1'000'000, 0, 0}).text(), "0.025");
  EXPECT_EQ(standard->cost({0, 1'000'000, 1'000'000}).text(), "9");
  EXPECT_EQ(fast->cost({1'000'000, 1'000'000, 1'000'000}).text(), "27.075");
  EXPECT_EQ(fast->cost({1, 1, 1}).text(), "0.000027075");
}

// 10^6 times a token's price is the price of a million: nothing was rounded on the way.
TEST(RatesTest, AreExactOrRefused) {
  rc::check([] {
    const int64_t price_millionths = *rc::gen::inRange<int64_t>(0, 100'000'000);
    const auto thousandths = static_cast<uint32_t>(*rc::gen::inRange(0, 10'000));
    const Money price{price_millionths * 1'000'000};
    const auto rates = Rates::of({price, price, price}, {thousandths});
    const bool is_whole = price_millionths * thousandths % 1000 == 0;
    RC_ASSERT(rates.has_value() ==
              (is_whole && price_millionths * thousandths / 1000 <= 1'000'000'000));
    if (!rates) return;
    RC_ASSERT(rates->cost({0, 1'000'000, 0}).units * 1000 == price.units * thousandths);
  });
}

TEST(RatesTest, CostsAddUp) {
  rc::check([] {
    const auto tokens = [] { return static_cast<uint32_t>(*rc::gen::inRange(0, 1'000'000)); };
    const TokenCounts a{tokens(), tokens(), tokens()}, b{tokens(), tokens(), tokens()};
    const auto rates = Rates::of(seed_prices(), {3000});
    const TokenCounts both{a.cached_input + b.cached_input, a.input + b.input, a.output + b.output};
    RC_ASSERT(rates->cost(a).plus(rates->cost(b)) == rates->cost(both));
  });
}

TEST(RatesTest, TheLargestRequestFits) {
  const Money thousand = money("1000");
  const auto rates = Rates::of({thousand, thousand, thousand}, {1000});
  const uint32_t most = 0x7fff'ffff;
  EXPECT_EQ(rates->cost({most, most, most}).text(), "6442450.941");
}

TEST(RatesTest, SaysWhatIsWrong) {
  const auto message = [](const char* cached, const char* input, uint32_t thousandths) {
    const auto rates = Rates::of({money(cached), money(input), money("1")}, {thousandths});
    return rates ? "" : rates.error().message;
  };
  EXPECT_NE(message("0", "0.0000001", 1000).find("more than 6 decimals"), std::string::npos);
  EXPECT_NE(message("0", "0.000001", 1500).find("input costs 0.000001 x 1.5"), std::string::npos);
  EXPECT_NE(message("0", "1001", 1000).find("at most 1000"), std::string::npos);
  EXPECT_NE(message("2", "1", 1000).find("more than other input"), std::string::npos);
}

TEST(MultiplierTest, ReadsThreeDecimals) {
  EXPECT_EQ(Multiplier::parse("1.25")->thousandths, 1250U);
  EXPECT_EQ(Multiplier::parse("3")->text(), "3");
  EXPECT_FALSE(Multiplier::parse("1.2345").has_value());
  EXPECT_FALSE(Multiplier::parse("1001").has_value());
}

}  // namespace
}  // namespace ultraspeed::access
