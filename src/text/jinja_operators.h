// Truth, comparison, membership and arithmetic of values, as Python defines them. Errors are
// sentences without a position; the evaluator adds it.
#pragma once

#include "base/result.h"
#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// An operand that is undefined: "'x' is undefined" or "'dict' has no attribute 'x'".
tl::unexpected<Error> undefined_error(const Value& value);

bool is_true(const Value& value);

// a == b.
bool equal(Heap& heap, const Value& a, const Value& b);

// a < b. Errors: types that Python cannot order.
Result<bool> less(Heap& heap, const Value& a, const Value& b);

// element in container.
Result<bool> contains(Heap& heap, const Value& container, const Value& element);

// A comparison operator, kEqual to kNotIn.
Result<bool> compare(Heap& heap, Operator op, const Value& a, const Value& b);

// An arithmetic operator, kAdd to kPower. Errors: types without it, division by zero, integers of
// more than 127 bits, string formatting with %.
Result<Value> arithmetic(Heap& heap, Operator op, const Value& a, const Value& b);

// -value or +value.
Result<Value> negate(const Value& value);
Result<Value> positive(const Value& value);

}  // namespace ultraspeed::text::jinja
