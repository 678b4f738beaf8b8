// Expressions.
#include "text/jinja_evaluator.h"

#include <algorithm>
#include <array>

#include "text/jinja_access.h"
#include "text/jinja_filters.h"
#include "text/jinja_format.h"
#include "text/jinja_functions.h"
#include "text/jinja_lexer.h"
#include "text/jinja_operators.h"
#include "text/jinja_predicates.h"

namespace ultraspeed::text::jinja {

Error Evaluator::located(size_t offset, Error error) const {
  return {error.code, template_error(source_, offset, error.message).message};
}

Status Evaluator::check_limits(size_t offset) const {
  if (!heap_.exhausted()) return {};
  return tl::unexpected(located(offset, heap_.exhausted_error()));
}

Result<Value> Evaluator::evaluate(const Expr& expr) {
  const Heap::Depth depth(heap_);
  heap_.spend_steps(1);
  US_TRY(check_limits(expr.offset));
  return dispatch(expr);
}

Result<Value> Evaluator::dispatch(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kString:
      return Value::string(&expr.text);
    case ExprKind::kName:
      return evaluate_name(expr);
    case ExprKind::kTuple:
    case ExprKind::kList:
      return evaluate_sequence(expr);
    case ExprKind::kDict:
      return evaluate_dict(expr);
    case ExprKind::kAttribute:
    case ExprKind::kItem:
      return evaluate_item(expr);
    case ExprKind::kSlice:
      return evaluate_slice(expr);
    case ExprKind::kCall:
      return evaluate_call(expr);
    case ExprKind::kFilter:
      return evaluate_filter(expr, nullptr);
    case ExprKind::kTest:
      return evaluate_test(expr);
    case ExprKind::kNot:
    case ExprKind::kNegative:
    case ExprKind::kPositive:
      return evaluate_unary(expr);
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return evaluate_logical(expr);
    case ExprKind::kBinary:
      return evaluate_binary(expr);
    case ExprKind::kCompare:
      return evaluate_compare(expr);
    case ExprKind::kConcat:
      return evaluate_concat(expr);
    case ExprKind::kConditional:
      break;
  }
  return evaluate_conditional(expr);
}

Result<Value> Evaluator::evaluate_name(const Expr& expr) {
  static constexpr std::array<std::string_view, 5> kUnsupported = {"cycler", "joiner", "lipsum",
                                                                   "self", "super"};
  if (const Value* found = scope_->find(expr.name)) return *found;
  if (const auto function = find_function(expr.name)) return Value::function(*function);
  if (std::find(kUnsupported.begin(), kUnsupported.end(), expr.name) != kUnsupported.end()) {
    return tl::unexpected(located(
        expr.offset,
        {ErrorCode::kUnsupported, fmt::format("the global '{}' is not supported", expr.name)}));
  }
  return heap_.undefined(fmt::format("'{}' is undefined", expr.name));
}

Result<Value> Evaluator::evaluate_sequence(const Expr& expr) {
  std::vector<Value> values;
  values.reserve(expr.operands.size());
  for (const Expr* operand : expr.operands) {
    US_ASSIGN(const Value value, evaluate(*operand));
    values.push_back(value);
  }
  return heap_.sequence(expr.kind == ExprKind::kList ? Type::kList : Type::kTuple,
                        std::move(values));
}

Result<Value> Evaluator::evaluate_dict(const Expr& expr) {
  Dict* dict = heap_.new_dict();
  for (size_t i = 0; i < expr.operands.size(); i += 2) {
    US_ASSIGN(const Value key, evaluate(*expr.operands[i]));
    US_ASSIGN(const Value value, evaluate(*expr.operands[i + 1]));
    if (!Dict::hashable(key)) {
      return tl::unexpected(located(
          expr.operands[i]->offset,
          {ErrorCode::kInvalidArgument, fmt::format("unhashable type: '{}'", type_name(key))}));
    }
    heap_.spend_bytes(4 * sizeof(Value));
    dict->set(key, value);
  }
  return Value::dict(dict);
}

Result<Value> Evaluator::evaluate_item(const Expr& expr) {
  US_ASSIGN(const Value value, evaluate(*expr.operands[0]));
  if (expr.kind == ExprKind::kAttribute) {
    return at(expr.offset, get_attribute(heap_, value, expr.name));
  }
  US_ASSIGN(const Value key, evaluate(*expr.operands[1]));
  return at(expr.offset, get_item(heap_, value, key));
}

Result<Value> Evaluator::evaluate_slice(const Expr& expr) {
  US_ASSIGN(const Value value, evaluate(*expr.operands[0]));
  SliceBounds bounds;
  const std::array<std::optional<Integer>*, 3> places = {&bounds.begin, &bounds.end, &bounds.step};
  for (size_t i = 0; i < places.size(); ++i) {
    const Expr* operand = expr.operands[i + 1];
    if (operand == nullptr) continue;
    US_ASSIGN(const Value bound, evaluate(*operand));
    if (bound.is_none()) continue;
    if (!bound.is_integral()) {
      return tl::unexpected(located(
          operand->offset,
          {ErrorCode::kInvalidArgument,
           fmt::format("slice bounds must be integers or none, not {}", type_name(bound))}));
    }
    *places[i] = bound.as_integer();
  }
  return at(expr.offset, get_slice(heap_, value, bounds));
}

Result<Value> Evaluator::evaluate_logical(const Expr& expr) {
  US_ASSIGN(const Value left, evaluate(*expr.operands[0]));
  if (is_true(left) == (expr.kind == ExprKind::kOr)) return left;
  return evaluate(*expr.operands[1]);
}

Result<Value> Evaluator::evaluate_binary(const Expr& expr) {
  US_ASSIGN(const Value left, evaluate(*expr.operands[0]));
  US_ASSIGN(const Value right, evaluate(*expr.operands[1]));
  return at(expr.offset, arithmetic(heap_, expr.operators[0], left, right));
}

Result<Value> Evaluator::evaluate_compare(const Expr& expr) {
  US_ASSIGN(Value left, evaluate(*expr.operands[0]));
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    US_ASSIGN(const Value right, evaluate(*expr.operands[i + 1]));
    US_ASSIGN(const bool holds, at(expr.offset, compare(heap_, expr.operators[i], left, right)));
    if (!holds) return Value::boolean(false);
    left = right;
  }
  return Value::boolean(true);
}

Result<Value> Evaluator::evaluate_concat(const Expr& expr) {
  TextBuilder out(heap_);
  for (const Expr* operand : expr.operands) {
    US_ASSIGN(const Value value, evaluate(*operand));
    US_ASSIGN(const Text text, at(operand->offset, to_text(heap_, value)));
    out.append(text);
  }
  return heap_.string(out.take());
}

Result<Value> Evaluator::evaluate_conditional(const Expr& expr) {
  US_ASSIGN(const bool holds, is_condition_true(expr.operands[0]));
  if (holds) return evaluate(*expr.operands[1]);
  if (expr.operands[2] != nullptr) return evaluate(*expr.operands[2]);
  return heap_.undefined("the inline if-expression evaluated to false and has no else");
}

Result<bool> Evaluator::is_condition_true(const Expr* condition) {
  if (condition == nullptr) return true;
  US_ASSIGN(const Value value, evaluate(*condition));
  return is_true(value);
}

Result<Value> Evaluator::evaluate_unary(const Expr& expr) {
  US_ASSIGN(const Value value, evaluate(*expr.operands[0]));
  if (expr.kind == ExprKind::kNot) return Value::boolean(!is_true(value));
  return at(expr.offset, expr.kind == ExprKind::kNegative ? negate(value) : positive(value));
}

Result<Value> Evaluator::evaluate_test(const Expr& expr) {
  US_ASSIGN(const Value value, evaluate(*expr.operands[0]));
  US_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
  US_ASSIGN(const bool holds, at(expr.offset, apply_predicate(heap_, expr.name, value, arguments)));
  return Value::boolean(holds);
}

// `input` replaces the missing operand of the first filter of {% set x | filter %}.
Result<Value> Evaluator::evaluate_filter(const Expr& expr, const Value* input) {
  Value value = input == nullptr ? Value() : *input;
  if (!expr.operands.empty()) {
    const Expr& operand = *expr.operands[0];
    const bool passes_on = input != nullptr && operand.kind == ExprKind::kFilter;
    US_ASSIGN(value, passes_on ? evaluate_filter(operand, input) : evaluate(operand));
  }
  US_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
  return at(expr.offset, apply_filter(heap_, expr.name, value, arguments));
}

Result<Arguments> Evaluator::evaluate_arguments(const Expr& expr) {
  Arguments arguments;
  for (const Argument& argument : expr.arguments) {
    US_ASSIGN(const Value value, evaluate(*argument.value));
    if (argument.name.empty()) {
      arguments.positional.push_back(value);
    } else {
      arguments.named.emplace_back(argument.name, value);
    }
  }
  return arguments;
}

}  // namespace ultraspeed::text::jinja
