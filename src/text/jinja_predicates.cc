// The table of tests.
#include "text/jinja_predicates.h"

#include <algorithm>

#include "text/jinja_access.h"
#include "text/jinja_format.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

bool is_sequence(const Value& value) {
  switch (value.type()) {
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
    case Type::kDict:
    case Type::kUndefined:
      return true;
    default:
      return false;
  }
}

bool is_callable(const Value& value) {
  return value.is(Type::kMacro) || value.is(Type::kFunction) || value.is(Type::kMethod) ||
         value.is_undefined();
}

// Tests of the value alone.
struct PlainTest {
  std::string_view name;
  bool (*test)(const Value&);
};

constexpr PlainTest kPlainTests[] = {
    {"boolean", [](const Value& v) { return v.is(Type::kBool); }},
    {"callable", is_callable},
    {"defined", [](const Value& v) { return !v.is_undefined(); }},
    {"false", [](const Value& v) { return v.is(Type::kBool) && !v.as_bool(); }},
    {"float", [](const Value& v) { return v.is(Type::kFloat); }},
    {"integer", [](const Value& v) { return v.is(Type::kInt); }},
    {"iterable", is_iterable},
    {"mapping", [](const Value& v) { return v.is(Type::kDict); }},
    {"none", [](const Value& v) { return v.is_none(); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"sequence", is_sequence},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"true", [](const Value& v) { return v.is(Type::kBool) && v.as_bool(); }},
    {"undefined", [](const Value& v) { return v.is_undefined(); }},
};

// Tests that are a comparison with their argument.
struct CompareTest {
  std::string_view name;
  Operator op;
};

constexpr CompareTest kCompareTests[] = {
    {"==", Operator::kEqual},
    {"eq", Operator::kEqual},
    {"equalto", Operator::kEqual},
    {"!=", Operator::kNotEqual},
    {"ne", Operator::kNotEqual},
    {"<", Operator::kLess},
    {"lt", Operator::kLess},
    {"lessthan", Operator::kLess},
    {"<=", Operator::kLessEqual},
    {"le", Operator::kLessEqual},
    {">", Operator::kGreater},
    {"gt", Operator::kGreater},
    {"greaterthan", Operator::kGreater},
    {">=", Operator::kGreaterEqual},
    {"ge", Operator::kGreaterEqual},
    {"in", Operator::kIn},
};

// The remainder of a division, for odd, even and divisibleby.
Result<bool> has_remainder(Heap& heap, const Value& input, const Value& divisor, Integer wanted) {
  US_ASSIGN(const Value remainder, arithmetic(heap, Operator::kModulo, input, divisor));
  return equal(heap, remainder, Value::integer(wanted));
}

// str.isupper() or islower(): some cased letter, and none of the other case.
Result<bool> has_case(Heap& heap, const Value& input, bool wants_upper) {
  US_ASSIGN(const Text text, to_text(heap, input));
  const std::string_view bytes = text.bytes();
  bool has_cased = false;
  for (size_t at = 0; at < bytes.size(); at += char_bytes(bytes, at)) {
    if (!is_cased_letter(char_at(bytes, at))) continue;
    has_cased = true;
    const std::string_view letter = bytes.substr(at, char_bytes(bytes, at));
    if (letter != (wants_upper ? to_upper(letter) : to_lower(letter))) return false;
  }
  return has_cased;
}

constexpr std::string_view kOtherTests[] = {"divisibleby", "even",   "lower",
                                            "odd",         "sameas", "upper"};

Result<bool> apply_other(Heap& heap, std::string_view name, const Value& input,
                         const Arguments& arguments) {
  if (name == "sameas" || name == "divisibleby") {
    US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"other"}, 1));
    if (name == "sameas") return input.is_same(bound.value(0));
    return has_remainder(heap, input, bound.value(0), 0);
  }
  US_TRY(BoundArguments::bind(arguments, {}));
  if (name == "upper" || name == "lower") return has_case(heap, input, name == "upper");
  return has_remainder(heap, input, Value::integer(2), name == "odd" ? 1 : 0);
}

template <class Entry, size_t kCount>
const Entry* find_entry(const Entry (&entries)[kCount], std::string_view name) {
  const Entry* found = std::find_if(std::begin(entries), std::end(entries),
                                    [name](const Entry& entry) { return entry.name == name; });
  return found == std::end(entries) ? nullptr : found;
}

bool is_other(std::string_view name) {
  return std::find(std::begin(kOtherTests), std::end(kOtherTests), name) != std::end(kOtherTests);
}

Result<bool> apply(Heap& heap, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  if (const PlainTest* plain = find_entry(kPlainTests, name)) {
    US_TRY(BoundArguments::bind(arguments, {}));
    return plain->test(input);
  }
  if (const CompareTest* comparison = find_entry(kCompareTests, name)) {
    US_ASSIGN(const BoundArguments bound, BoundArguments::bind(arguments, {"other"}, 1));
    return compare(heap, comparison->op, input, bound.value(0));
  }
  return apply_other(heap, name, input, arguments);
}

}  // namespace

bool is_known_predicate(std::string_view name) {
  return find_entry(kPlainTests, name) != nullptr || find_entry(kCompareTests, name) != nullptr ||
         is_other(name);
}

Result<bool> apply_predicate(Heap& heap, std::string_view name, const Value& input,
                             const Arguments& arguments) {
  heap.spend_steps(1);
  if (!is_known_predicate(name)) {
    return make_error(ErrorCode::kUnsupported, "the test '{}' is not supported", name);
  }
  Result<bool> result = apply(heap, name, input, arguments);
  if (!result) {
    return make_error(result.error().code, "test '{}': {}", name, result.error().message);
  }
  return result;
}

}  // namespace ultraspeed::text::jinja
