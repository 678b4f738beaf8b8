// Exact decimal money. A unit is 10^-12 of the currency: a price of a million tokens with six
// decimals, times its tier's multiplier, is then a whole number of units for each token, so that no
// amount is ever rounded. (Prices of published APIs have up to six decimals.)
//
// Bounds: a rate is at most 1000 of the currency per million tokens (10^9 units a token) and a
// class of tokens at most 2^31 - 1, so a request costs under 6.5 * 10^18 units and fits in 63 bits.
// Sums are checked: they end at 9,223,372 of the currency.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::access {

struct Money {
  static constexpr int kNumDecimals = 12;

  int64_t units = 0;  // 10^-12 of the currency

  // "12.5", not negative. Errors: kInvalidArgument (no decimal number, over 12 decimals, too
  // large).
  static Result<Money> parse(std::string_view text);
  // All decimals that are not zero: "0.000075".
  std::string text() const;
  // nullopt: more than 63 bits.
  std::optional<Money> plus(Money other) const;
  auto operator<=>(const Money&) const = default;  // NOLINT(modernize-use-nullptr)
};

// Where a sum ends that is more than any has been.
inline constexpr Money kMostMoney{INT64_MAX / 2};

// How much of each class a request had.
struct TokenCounts {
  uint32_t cached_input = 0;  // prompt tokens that the prefix cache held
  uint32_t input = 0;         // the other prompt tokens
  uint32_t output = 0;
};

// A number with three decimals, such as 3 or 1.25, in thousandths.
struct Multiplier {
  uint32_t thousandths = 1000;

  // Errors: kInvalidArgument; it is at most 1000.
  static Result<Multiplier> parse(std::string_view text);
  std::string text() const;
};

// Per million tokens, at multiplier 1.
struct Prices {
  Money cached_input, input, output;
};

// Units a token.
struct Rates {
  int64_t cached_input = 0;
  int64_t input = 0;
  int64_t output = 0;

  // Errors: kInvalidArgument for a product that is no whole number of units a token, or over the
  // bound, or when cached input costs more than other input.
  static Result<Rates> of(const Prices& prices, Multiplier multiplier);
  // REQUIRES: rates that of() returned; fewer than 2^31 tokens of each class.
  Money cost(const TokenCounts& tokens) const;
};

}  // namespace ultraspeed::access
