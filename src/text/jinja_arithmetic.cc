// Arithmetic: Python's integers (to 127 bits), floats, and + and * of strings and lists.
#include <cmath>

#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

tl::unexpected<Error> too_large() {
  return make_error(ErrorCode::kInvalidArgument, "the integer exceeds 127 bits");
}

tl::unexpected<Error> division_by_zero() {
  return make_error(ErrorCode::kInvalidArgument, "division by zero");
}

Integer floor_divide(Integer a, Integer b) {
  const Integer quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

Result<Value> integer_power(Integer base, Integer exponent) {
  if (exponent < 0) {
    if (base == 0) return division_by_zero();
    return Value::number(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Integer result = 1;
  while (exponent > 0) {
    if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result)) return too_large();
    exponent /= 2;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return too_large();
  }
  return Value::integer(result);
}

Result<Value> integer_arithmetic(Operator op, Integer a, Integer b) {
  Integer result = 0;
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return too_large();
      return Value::integer(result);
    case Operator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) return too_large();
      return Value::integer(result);
    case Operator::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) return too_large();
      return Value::integer(result);
    case Operator::kPower:
      return integer_power(a, b);
    default:
      break;
  }
  if (b == 0) return division_by_zero();
  if (op == Operator::kDivide) {
    return Value::number(static_cast<double>(a) / static_cast<double>(b));
  }
  if (b == -1) {  // the one divisor that can overflow
    if (op == Operator::kModulo) return Value::integer(0);
    if (__builtin_sub_overflow(Integer{0}, a, &result)) return too_large();
    return Value::integer(result);
  }
  const Integer quotient = floor_divide(a, b);
  return Value::integer(op == Operator::kFloorDivide ? quotient : a - quotient * b);
}

Result<Value> float_power(double a, double b) {
  if (a == 0 && b < 0) return division_by_zero();
  if (a < 0 && std::floor(b) != b) {
    return make_error(ErrorCode::kInvalidArgument, "complex numbers are not supported");
  }
  return Value::number(std::pow(a, b));
}

Result<Value> float_arithmetic(Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value::number(a + b);
    case Operator::kSubtract:
      return Value::number(a - b);
    case Operator::kMultiply:
      return Value::number(a * b);
    case Operator::kPower:
      return float_power(a, b);
    default:
      break;
  }
  if (b == 0) return division_by_zero();
  if (op == Operator::kDivide) return Value::number(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == Operator::kModulo) return Value::number(remainder);
  return Value::number(std::round((a - remainder) / b));
}

tl::unexpected<Error> unsupported_types(Operator op, const Value& a, const Value& b) {
  static constexpr std::string_view kNames[] = {"+", "-", "*", "/", "//", "%", "**"};
  return make_error(ErrorCode::kInvalidArgument, "unsupported operand types for {}: '{}' and '{}'",
                    kNames[static_cast<size_t>(op)], type_name(a), type_name(b));
}

Value concatenate_text(Heap& heap, const Text& a, const Text& b) {
  TextBuilder out(heap);
  out.append(a);
  out.append(b);
  return heap.string(out.take());
}

Value concatenate_sequences(Heap& heap, const Value& a, const Value& b) {
  std::vector<Value> values = a.items().values;
  const std::vector<Value>& more = b.items().values;
  if (!heap.spend_bytes((values.size() + more.size()) * sizeof(Value))) return Value::none();
  values.insert(values.end(), more.begin(), more.end());
  return heap.sequence(a.type(), std::move(values)).marked(a.from_input() || b.from_input());
}

Value repeat(Heap& heap, const Value& value, Integer count) {
  const size_t size =
      value.is_string() ? value.text().size_bytes() : value.items().values.size() * sizeof(Value);
  if (size == 0) count = 0;
  if (count > 0 && count > static_cast<Integer>(heap.limits().max_heap_bytes / size)) {
    heap.exhaust(Limit::kHeapBytes);
    return value;
  }
  if (value.is_string()) {
    TextBuilder out(heap);
    for (Integer i = 0; i < count; ++i) {
      if (!out.append(value.text())) break;
    }
    return heap.string(out.take());
  }
  std::vector<Value> values;
  const std::vector<Value>& once = value.items().values;
  for (Integer i = 0; i < count; ++i) {
    if (!heap.spend_bytes(size)) break;
    values.insert(values.end(), once.begin(), once.end());
  }
  return heap.sequence(value.type(), std::move(values)).marked(value.from_input());
}

bool can_repeat(const Value& value) {
  return value.is_string() || value.is(Type::kList) || value.is(Type::kTuple);
}

}  // namespace

Result<Value> arithmetic(Heap& heap, Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) return undefined_error(a);
  if (b.is_undefined()) return undefined_error(b);
  const bool from_input = a.from_input() || b.from_input();
  if (a.is_integral() && b.is_integral()) {
    US_ASSIGN(const Value value, integer_arithmetic(op, a.as_integer(), b.as_integer()));
    return value.marked(from_input);
  }
  if (a.is_number() && b.is_number()) {
    US_ASSIGN(const Value value, float_arithmetic(op, a.as_number(), b.as_number()));
    return value.marked(from_input);
  }
  if (op == Operator::kAdd && a.type() == b.type()) {
    if (a.is_string()) return concatenate_text(heap, a.text(), b.text());
    if (can_repeat(a)) return concatenate_sequences(heap, a, b);
  }
  if (op == Operator::kMultiply) {
    if (can_repeat(a) && b.is_integral()) return repeat(heap, a, b.as_integer());
    if (can_repeat(b) && a.is_integral()) return repeat(heap, b, a.as_integer());
  }
  if (op == Operator::kModulo && a.is_string()) {
    return make_error(ErrorCode::kUnsupported, "string formatting with % is not supported");
  }
  return unsupported_types(op, a, b);
}

Result<Value> negate(const Value& value) {
  if (value.is_undefined()) return undefined_error(value);
  if (value.is(Type::kFloat)) return Value::number(-value.as_number()).marked(value.from_input());
  if (!value.is_integral()) {
    return make_error(ErrorCode::kInvalidArgument, "bad operand type for unary -: '{}'",
                      type_name(value));
  }
  Integer result = 0;
  if (__builtin_sub_overflow(Integer{0}, value.as_integer(), &result)) return too_large();
  return Value::integer(result).marked(value.from_input());
}

Result<Value> positive(const Value& value) {
  if (value.is_undefined()) return undefined_error(value);
  if (value.is(Type::kFloat)) return value;
  if (value.is_integral()) return Value::integer(value.as_integer()).marked(value.from_input());
  return make_error(ErrorCode::kInvalidArgument, "bad operand type for unary +: '{}'",
                    type_name(value));
}

}  // namespace ultraspeed::text::jinja
