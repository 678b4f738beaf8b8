// Filters whose result is a number: int, float, abs, round.
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "text/jinja_filters_table.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

std::string_view without_space(std::string_view text) {
  text = text.substr(0, trailing_space_begin(text));
  return text.substr(leading_space_end(text));
}

// Removes underscores that stand between digits; nothing when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const bool between = i > 0 && i + 1 < text.size() && std::isxdigit(text[i - 1]) != 0 &&
                         std::isxdigit(text[i + 1]) != 0;
    if (!between) return std::nullopt;
  }
  return out;
}

// Python's int(text, base): nothing when text is no integer of that base, an error when it is too
// large.
Result<std::optional<Integer>> parse_integer(std::string_view text, int base) {
  std::optional<std::string> digits = without_underscores(without_space(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
  const std::string_view prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  if (!prefix.empty() && rest.size() > 2 && rest[0] == '0' && (rest[1] | 0x20) == prefix[1]) {
    rest.remove_prefix(2);
  }
  if (rest.empty()) return std::nullopt;
  Integer value = 0;
  for (const char c : rest) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : std::isalpha(c) ? (c | 0x20) - 'a' + 10 : 36;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, digit, &value)) {
      return make_error(ErrorCode::kInvalidArgument, "the integer exceeds 127 bits");
    }
  }
  return negative ? -value : value;
}

// Python's float(text).
std::optional<double> parse_float(std::string_view text) {
  std::optional<std::string> digits = without_underscores(without_space(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (rest.starts_with('-') || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty() || rest.front() == '-') return std::nullopt;
  double value = 0;
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (parsed.ptr != rest.data() + rest.size() || rest.find('(') != std::string_view::npos) {
    return std::nullopt;
  }
  if (parsed.ec == std::errc::result_out_of_range) {
    value = std::strtod(std::string(rest).c_str(), nullptr);  // infinity or zero, as in Python
  } else if (parsed.ec != std::errc{}) {
    return std::nullopt;
  }
  return negative ? -value : value;
}

Result<Value> integer_of_float(double value, const Value& absent) {
  if (std::isnan(value) || std::isinf(value)) return absent;
  if (std::abs(value) >= 0x1p126) {
    return make_error(ErrorCode::kInvalidArgument, "the integer exceeds 127 bits");
  }
  return Value::integer(static_cast<Integer>(value));
}

bool has_input(const Value& value) {
  return value.is_string() ? value.text().has_input() : value.from_input();
}

// Rounds to `precision` decimal digits, ties to even of the exact value, as Python's round().
double round_decimal(double value, int precision) {
  if (precision == 0) return std::nearbyint(value);
  return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
}

}  // namespace

Result<Value> filter_int(Heap& /*heap*/, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"default", "base"}));
  const Value absent = bound.has(0) ? bound.value(0) : Value::integer(0);
  US_ASSIGN(const Integer base, bound.integer(1, 10));
  if (base < 2 || base > 36) {
    return make_error(ErrorCode::kInvalidArgument, "base must be between 2 and 36, got {}", base);
  }
  if (input.is_undefined()) return undefined_error(input);
  if (input.is_integral()) return Value::integer(input.as_integer()).marked(input.from_input());
  Result<Value> value = absent;
  if (input.is(Type::kFloat)) {
    value = integer_of_float(input.as_number(), absent);
  } else if (input.is_string()) {
    US_ASSIGN(const std::optional<Integer> integer,
              parse_integer(input.bytes(), static_cast<int>(base)));
    const std::optional<double> number = integer ? std::nullopt : parse_float(input.bytes());
    if (integer) value = Value::integer(*integer);
    if (number) value = integer_of_float(*number, absent);
  }
  if (!value || !value->is(Type::kInt)) return value;
  return value->marked(has_input(input) || value->from_input());
}

Result<Value> filter_float(Heap& /*heap*/, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"default"}));
  if (input.is_undefined()) return undefined_error(input);
  std::optional<double> number;
  if (input.is_number()) number = input.as_number();
  if (input.is_string()) number = parse_float(input.bytes());
  if (number) return Value::number(*number).marked(has_input(input));
  return bound.has(0) ? bound.value(0) : Value::number(0.0);
}

Result<Value> filter_abs(Heap& /*heap*/, const Value& input, const Arguments& arguments) {
  US_TRY(BoundArguments::bind(arguments, {}));
  if (input.is(Type::kFloat)) {
    return Value::number(std::abs(input.as_number())).marked(input.from_input());
  }
  if (input.is_integral() && input.as_integer() >= 0) return positive(input);
  return negate(input);  // also reports what has no absolute value
}

Result<Value> filter_round(Heap& /*heap*/, const Value& input, const Arguments& arguments) {
  US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"precision", "method"}));
  US_ASSIGN(const Integer precision, bound.integer(0, 0));
  std::string_view method = "common";
  if (bound.has(1)) {
    US_ASSIGN(const Text* name, bound.text(1));
    method = name->bytes();
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    return make_error(ErrorCode::kInvalidArgument, "method must be common, ceil or floor");
  }
  if (precision < 0 || precision > 100) {
    return make_error(ErrorCode::kUnsupported, "a precision outside of 0 to 100");
  }
  if (!input.is_number()) {
    return make_error(ErrorCode::kInvalidArgument, "needs a number, not {}", type_name(input));
  }
  if (method == "common" && input.is_integral()) return positive(input);
  const double value = input.as_number();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double rounded = method == "common" ? round_decimal(value, static_cast<int>(precision))
                         : method == "ceil" ? std::ceil(value * scale) / scale
                                            : std::floor(value * scale) / scale;
  return Value::number(rounded).marked(input.from_input());
}

}  // namespace ultraspeed::text::jinja
