// Truth, equality, order and membership.
#include "text/jinja_operators.h"

#include <algorithm>

#include "text/jinja_strings.h"

namespace ultraspeed::text::jinja {

tl::unexpected<Error> undefined_error(const Value& value) {
  const Text* hint = value.undefined_hint();
  return make_error(ErrorCode::kInvalidArgument, "{}",
                    hint == nullptr ? "the value is undefined" : hint->bytes());
}

bool is_true(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
      return value.as_bool();
    case Type::kInt:
      return value.as_integer() != 0;
    case Type::kFloat:
      return value.as_number() != 0;
    case Type::kString:
      return !value.text().empty();
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
    case Type::kView:
      return !value.items().values.empty();
    case Type::kDict:
      return value.dict().size() > 0;
    case Type::kLoop:
      return value.loop().count > 0;
    default:
      return true;  // a generator too, even an empty one
  }
}

namespace {

bool equal_sequences(Heap& heap, const Value& a, const Value& b) {
  const std::vector<Value>& left = a.items().values;
  const std::vector<Value>& right = b.items().values;
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](const Value& x, const Value& y) { return equal(heap, x, y); });
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const Dict::Entry& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(heap, entry.second, *other);
  });
}

bool is_ordered_sequence(const Value& value) {
  return value.is(Type::kList) || value.is(Type::kTuple);
}

// Lexicographic order of lists or tuples of one type.
Result<bool> less_sequences(Heap& heap, const Value& a, const Value& b) {
  const std::vector<Value>& left = a.items().values;
  const std::vector<Value>& right = b.items().values;
  for (size_t i = 0; i < left.size() && i < right.size(); ++i) {
    if (!equal(heap, left[i], right[i])) return less(heap, left[i], right[i]);
  }
  return left.size() < right.size();
}

Result<bool> contains_text(Heap& heap, const Value& container, const Value& element) {
  if (element.is_undefined()) return undefined_error(element);
  if (!element.is_string()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "'in <string>' requires string as left operand, not {}", type_name(element));
  }
  return find_text(heap, container.bytes(), element.bytes()) != std::string_view::npos;
}

}  // namespace

bool equal(Heap& heap, const Value& a, const Value& b) {
  const Heap::Depth depth(heap);
  if (!heap.spend_steps(1)) return false;
  if (a.is_number() && b.is_number()) return KeyEqual{}(a, b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kUndefined:
      return true;
    case Type::kString:
      heap.spend_steps(std::min(a.bytes().size(), b.bytes().size()) / 64);
      return a.bytes() == b.bytes();
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
      return equal_sequences(heap, a, b);
    case Type::kDict:
      return equal_dicts(heap, a.dict(), b.dict());
    default:
      return a.is_same(b);
  }
}

Result<bool> less(Heap& heap, const Value& a, const Value& b) {
  const Heap::Depth depth(heap);
  if (!heap.spend_steps(1)) return false;
  if (a.is_undefined()) return undefined_error(a);
  if (b.is_undefined()) return undefined_error(b);
  if (a.is_integral() && b.is_integral()) return a.as_integer() < b.as_integer();
  if (a.is_number() && b.is_number()) return a.as_number() < b.as_number();
  if (a.is_string() && b.is_string()) {
    heap.spend_steps(std::min(a.bytes().size(), b.bytes().size()) / 64);
    return a.bytes() < b.bytes();  // UTF-8 bytes order as code points do
  }
  if (is_ordered_sequence(a) && a.type() == b.type()) return less_sequences(heap, a, b);
  return make_error(ErrorCode::kInvalidArgument,
                    "'{}' and '{}' cannot be ordered: compare values of one type", type_name(a),
                    type_name(b));
}

Result<bool> contains(Heap& heap, const Value& container, const Value& element) {
  switch (container.type()) {
    case Type::kUndefined:
      return false;
    case Type::kString:
      return contains_text(heap, container, element);
    case Type::kDict:
      if (element.is_undefined()) return false;
      if (!Dict::hashable(element)) {
        return make_error(ErrorCode::kInvalidArgument, "unhashable type: '{}'", type_name(element));
      }
      return container.dict().find(element) != nullptr;
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
    case Type::kIterator:
    case Type::kView: {
      const std::vector<Value>& values = container.items().values;
      return std::any_of(values.begin(), values.end(), [&](const Value& value) {
        return value.is_same(element) || equal(heap, value, element);
      });
    }
    default:
      return make_error(ErrorCode::kInvalidArgument, "argument of type '{}' is not iterable",
                        type_name(container));
  }
}

Result<bool> compare(Heap& heap, Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::kEqual:
      return equal(heap, a, b);
    case Operator::kNotEqual:
      return !equal(heap, a, b);
    case Operator::kLess:
      return less(heap, a, b);
    case Operator::kGreater:
      return less(heap, b, a);
    case Operator::kIn:
      return contains(heap, b, a);
    case Operator::kNotIn: {
      US_ASSIGN(const bool found, contains(heap, b, a));
      return !found;
    }
    default:
      break;
  }
  const bool is_swapped = op == Operator::kGreaterEqual;
  US_ASSIGN(const bool is_less, is_swapped ? less(heap, b, a) : less(heap, a, b));
  return is_less || equal(heap, a, b);
}

}  // namespace ultraspeed::text::jinja
