#include "access/money.h"

#include <fmt/format.h>

#include <limits>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

constexpr int64_t kMaxRate = 1'000'000'000;
constexpr uint32_t kMaxTokens = 0x7fff'ffff;
constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kMaxMultiplier = 1'000'000;  // thousandths

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// text * 10^num_decimals; nullopt: no decimal number, too many decimals or too large.
std::optional<int64_t> scaled_decimal(std::string_view text, int num_decimals) {
  int64_t value = 0;
  int decimals_left = -1;  // before the point
  size_t num_digits = 0;
  const auto append = [&value](int digit) {
    return !__builtin_mul_overflow(value, 10, &value) &&
           !__builtin_add_overflow(value, digit, &value);
  };
  for (const char c : text) {
    if (c == '.' && decimals_left < 0 && num_digits > 0) {
      decimals_left = num_decimals;
    } else if (!is_digit(c) || decimals_left == 0 || !append(c - '0')) {
      return std::nullopt;
    } else {
      ++num_digits;
      if (decimals_left > 0) --decimals_left;
    }
  }
  if (num_digits == 0 || text.back() == '.') return std::nullopt;
  for (int i = decimals_left < 0 ? num_decimals : decimals_left; i > 0; --i) {
    if (!append(0)) return std::nullopt;
  }
  return value;
}

std::string decimal_text(int64_t value, int num_decimals) {
  const bool is_negative = value < 0;
  const uint64_t magnitude =
      is_negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string digits = fmt::format("{:0{}}", magnitude, num_decimals + 1);
  digits.insert(digits.size() - static_cast<size_t>(num_decimals), 1, '.');
  while (digits.back() == '0') digits.pop_back();
  if (digits.back() == '.') digits.pop_back();
  return is_negative ? fmt::format("-{}", digits) : digits;
}

Result<int64_t> rate_of(std::string_view what, Money price, Multiplier multiplier) {
  // price * multiplier / 10^6 tokens, in units: both scales end in the divisor.
  int64_t product = 0;
  constexpr int64_t kDivisor = kMillion * 1000;
  if (__builtin_mul_overflow(price.units, static_cast<int64_t>(multiplier.thousandths), &product) ||
      product / kDivisor > kMaxRate) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} costs {} x {} per million tokens; at most 1000 is possible", what,
                      price.text(), multiplier.text());
  }
  if (product % kDivisor != 0) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "{} costs {} x {} per million tokens, which has more than 6 decimals; amounts "
        "are exact, so give a price or multiplier with fewer",
        what, price.text(), multiplier.text());
  }
  return product / kDivisor;
}

}  // namespace

Result<Money> Money::parse(std::string_view text) {
  const std::optional<int64_t> units = scaled_decimal(text, kNumDecimals);
  if (units) return Money{*units};
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is no amount; expected one like 0.025, with at most {} decimals and "
                    "below 9223372",
                    text, kNumDecimals);
}

std::string Money::text() const {
  return decimal_text(units, kNumDecimals);
}

std::optional<Money> Money::plus(Money other) const {
  Money sum;
  if (__builtin_add_overflow(units, other.units, &sum.units)) return std::nullopt;
  return sum;
}

Result<Multiplier> Multiplier::parse(std::string_view text) {
  const std::optional<int64_t> thousandths = scaled_decimal(text, 3);
  if (thousandths && *thousandths <= kMaxMultiplier) {
    return Multiplier{static_cast<uint32_t>(*thousandths)};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' is no multiplier; expected one like 3 or 1.25, with at most 3 decimals "
                    "and at most 1000",
                    text);
}

std::string Multiplier::text() const {
  return decimal_text(thousandths, 3);
}

Result<Rates> Rates::of(const Prices& prices, Multiplier multiplier) {
  Rates rates;
  US_ASSIGN(rates.cached_input, rate_of("cached input", prices.cached_input, multiplier));
  US_ASSIGN(rates.input, rate_of("input", prices.input, multiplier));
  US_ASSIGN(rates.output, rate_of("output", prices.output, multiplier));
  if (rates.cached_input > rates.input) {
    return make_error(ErrorCode::kInvalidArgument,
                      "cached input costs {}, more than other input, {}; what a request may cost "
                      "is reserved at the price of input",
                      prices.cached_input.text(), prices.input.text());
  }
  return rates;
}

Money Rates::cost(const TokenCounts& tokens) const {
  US_CHECK(tokens.cached_input <= kMaxTokens && tokens.input <= kMaxTokens &&
               tokens.output <= kMaxTokens,
           "{} + {} + {} tokens", tokens.cached_input, tokens.input, tokens.output);
  return {cached_input * tokens.cached_input + input * tokens.input + output * tokens.output};
}

}  // namespace ultraspeed::access
