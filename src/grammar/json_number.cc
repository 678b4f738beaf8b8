// A digit is free as soon as a digit before it lies strictly between those of the bounds; until
// then the number is tied to the low one, the high one, or both.
#include "grammar/json_number.h"

#include <algorithm>
#include <charconv>

namespace ultraspeed::grammar {
namespace {

// Digits that were cut off may have said more.
bool says_same(const std::string& text, double number) {
  double read = 0;
  return std::from_chars(text.data(), text.data() + text.size(), read).ec == std::errc() &&
         read == number;
}

// A bound of a number without its sign.
struct Magnitude {
  std::string integer = "0";
  std::string fraction;
  bool is_exclusive = false;
};

bool is_zero(const NumberBound& bound) {
  return bound.integer == "0" && bound.fraction.empty();
}

bool is_below(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

std::string plus_one(std::string digits) {
  size_t i = digits.size();
  while (i > 0 && digits[i - 1] == '9') digits[--i] = '0';
  if (i == 0) return digits.insert(0, 1, '1');
  ++digits[i - 1];
  return digits;
}

// REQUIRES: not zero.
std::string minus_one(std::string digits) {
  size_t i = digits.size();
  while (digits[i - 1] == '0') digits[--i] = '9';
  --digits[i - 1];
  if (digits[0] == '0' && digits.size() > 1) digits.erase(0, 1);
  return digits;
}

class Between {
 public:
  explicit Between(GrammarBuilder* builder) : builder_(*builder) {}

  ExprId integers(const Magnitude& low, const Magnitude& high) {
    const bool skips_low = low.is_exclusive || !low.fraction.empty();
    const bool skips_high = high.is_exclusive && high.fraction.empty();
    if (skips_high && high.integer == "0") return builder_.choice({});
    return whole(skips_low ? plus_one(low.integer) : low.integer,
                 skips_high ? minus_one(high.integer) : high.integer);
  }

  ExprId numbers(const Magnitude& low, const Magnitude& high) {
    if (is_below(high.integer, low.integer)) return builder_.choice({});
    if (low.integer == high.integer) {
      return builder_.sequence({builder_.bytes(low.integer), fraction(&low, &high)});
    }
    const ExprId middle = whole(plus_one(low.integer), minus_one(high.integer));
    return builder_.choice(
        {builder_.sequence({builder_.bytes(low.integer), fraction(&low, nullptr)}),
         builder_.sequence({middle, fraction(nullptr, nullptr)}),
         builder_.sequence({builder_.bytes(high.integer), fraction(nullptr, &high)})});
  }

 private:
  ExprId digit(char first, char last) {
    return builder_.characters({{static_cast<char32_t>(first), static_cast<char32_t>(last)}});
  }

  // Integers from low to high; none if there are none.
  ExprId whole(const std::string& low, const std::string& high) {
    std::vector<ExprId> lengths;
    for (size_t size = low.size(); size <= high.size(); ++size) {
      const std::string first =
          size == low.size() ? low : std::string(size - 1, '0').insert(0, 1, '1');
      const std::string last = size == high.size() ? high : std::string(size, '9');
      if (first <= last) lengths.push_back(same_length(first, last, 0, true, true));
    }
    return builder_.choice(std::move(lengths));
  }

  // The digits from i on of numbers from low to high. Depth: the number of digits.
  ExprId same_length(const std::string& low, const std::string& high, size_t i, bool is_low_tied,
                     bool is_high_tied) {
    const auto rest = static_cast<uint32_t>(low.size() - i);
    if (rest == 0) return builder_.sequence({});
    if (!is_low_tied && !is_high_tied) return builder_.repeat(digit('0', '9'), rest, rest);
    char first = is_low_tied ? low[i] : '0';
    char last = is_high_tied ? high[i] : '9';
    if (first == last) {
      return builder_.sequence(
          {digit(first, first), same_length(low, high, i + 1, is_low_tied, is_high_tied)});
    }
    std::vector<ExprId> choices;
    if (is_low_tied) {
      choices.push_back(
          builder_.sequence({digit(first, first), same_length(low, high, i + 1, true, false)}));
      ++first;
    }
    if (is_high_tied) {
      choices.push_back(
          builder_.sequence({digit(last, last), same_length(low, high, i + 1, false, true)}));
      --last;
    }
    if (first <= last) {
      choices.push_back(
          builder_.sequence({digit(first, last), same_length(low, high, i + 1, false, false)}));
    }
    return builder_.choice(std::move(choices));
  }

  // The fraction, with its point, or nothing; null: not tied to this bound.
  ExprId fraction(const Magnitude* low, const Magnitude* high) {
    std::vector<ExprId> choices = {
        builder_.sequence({builder_.bytes("."), fraction_digits(low, high, 0)})};
    if (may_end(low, high, 0)) choices.push_back(builder_.sequence({}));
    return builder_.choice(std::move(choices));
  }

  // Whether a number may end before digit i of the fraction.
  static bool may_end(const Magnitude* low, const Magnitude* high, size_t i) {
    const bool is_above = low == nullptr || (i >= low->fraction.size() && !low->is_exclusive);
    const bool is_under = high == nullptr || i < high->fraction.size() || !high->is_exclusive;
    return is_above && is_under;
  }

  static char digit_of(const Magnitude& bound, size_t i) {
    return i < bound.fraction.size() ? bound.fraction[i] : '0';
  }

  // Digit i and those after it, if any. Depth: kMaxFractionDigits.
  ExprId fraction_digits(const Magnitude* low, const Magnitude* high, uint32_t i) {
    if (i == kMaxFractionDigits) return builder_.choice({});
    if (low == nullptr && high == nullptr) {
      return builder_.repeat(digit('0', '9'), 1, kMaxFractionDigits - i);
    }
    char first = low == nullptr ? '0' : digit_of(*low, i);
    char last = high == nullptr ? '9' : digit_of(*high, i);
    if (first > last) return builder_.choice({});
    if (first == last) return one_digit(first, low, high, i);
    std::vector<ExprId> choices;
    if (low != nullptr) choices.push_back(one_digit(first++, low, nullptr, i));
    if (high != nullptr) choices.push_back(one_digit(last--, nullptr, high, i));
    if (first <= last) {
      choices.push_back(builder_.sequence(
          {digit(first, last), builder_.repeat(digit('0', '9'), 0, kMaxFractionDigits - i - 1)}));
    }
    return builder_.choice(std::move(choices));
  }

  ExprId one_digit(char value, const Magnitude* low, const Magnitude* high, uint32_t i) {
    std::vector<ExprId> rests = {fraction_digits(low, high, i + 1)};
    if (may_end(low, high, i + 1)) rests.push_back(builder_.sequence({}));
    return builder_.sequence({digit(value, value), builder_.choice(std::move(rests))});
  }

  GrammarBuilder& builder_;
};

Magnitude magnitude(const NumberBound& bound) {
  return {bound.integer, bound.fraction, bound.is_exclusive};
}

Magnitude largest() {
  return {std::string(kMaxIntegerDigits, '9'), std::string(kMaxFractionDigits, '9'), false};
}

}  // namespace

Result<NumberBound> number_bound(const Json& number, bool is_exclusive, std::string_view where) {
  NumberBound bound;
  std::string text =
      number.is_number_float() ? fmt::format("{:.17f}", number.get<double>()) : number.dump();
  // A double is written with the digits that it was read from, if those are few.
  if (number.is_number_float()) {
    const std::string shortest = number.dump();
    if (shortest.find_first_of("eE") == std::string::npos) text = shortest;
  }
  const bool is_whole = !number.is_number_float() || says_same(text, number.get<double>());
  bound.is_exclusive = is_exclusive;
  bound.is_negative = text.starts_with('-');
  if (bound.is_negative) text.erase(0, 1);
  const size_t point = text.find('.');
  bound.integer = text.substr(0, point);
  if (point != std::string::npos) bound.fraction = text.substr(point + 1);
  bound.fraction.erase(bound.fraction.find_last_not_of('0') + 1);
  const bool has_digits = std::all_of(bound.integer.begin(), bound.integer.end(),
                                      [](char c) { return c >= '0' && c <= '9'; });
  if (!has_digits || !is_whole || bound.integer.size() > kMaxIntegerDigits ||
      bound.fraction.size() > kMaxFractionDigits - 1) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: a bound of more than {} digits, {} of them behind the point", where,
                      kMaxIntegerDigits, kMaxFractionDigits - 1);
  }
  if (is_zero(bound)) bound.is_negative = false;
  return bound;
}

ExprId add_number_between(const std::optional<NumberBound>& low,
                          const std::optional<NumberBound>& high, bool is_integer,
                          GrammarBuilder* builder) {
  Between between(builder);
  const auto add = [&](const Magnitude& from, const Magnitude& to) {
    return is_integer ? between.integers(from, to) : between.numbers(from, to);
  };
  std::vector<ExprId> signs;
  if (!high || !high->is_negative) {
    const bool is_low_positive = low && !low->is_negative;
    signs.push_back(
        add(is_low_positive ? magnitude(*low) : Magnitude{}, high ? magnitude(*high) : largest()));
  }
  if (!low || low->is_negative) {  // there is no -0
    const bool is_high_negative = high && high->is_negative;
    const ExprId digits = add(is_high_negative ? magnitude(*high) : Magnitude{"0", "", true},
                              low ? magnitude(*low) : largest());
    signs.push_back(builder->sequence({builder->bytes("-"), digits}));
  }
  return builder->choice(std::move(signs));
}

}  // namespace ultraspeed::grammar
