// Calls: methods, global functions and macros.
#include <algorithm>

#include "text/jinja_evaluator.h"
#include "text/jinja_functions.h"
#include "text/jinja_methods.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

namespace {

Result<Value> call_bound_method(Heap& heap, const Method& method, const Arguments& arguments) {
  Result<Value> result = call_method(heap, method, arguments);
  if (!result) {
    return make_error(result.error().code, "{}.{}(): {}", type_name(method.self),
                      method_name(method.id), result.error().message);
  }
  return result;
}

}  // namespace

Result<Value> Evaluator::evaluate_call(const Expr& expr) {
  US_ASSIGN(const Value callee, evaluate(*expr.operands[0]));
  US_ASSIGN(const Arguments arguments, evaluate_arguments(expr));
  switch (callee.type()) {
    case Type::kMethod:
      return at(expr.offset, call_bound_method(heap_, callee.method(), arguments));
    case Type::kFunction:
      return at(expr.offset, call_function(heap_, callee.function(), arguments, now_));
    case Type::kMacro:
      return call_macro(expr, callee.macro(), arguments);
    case Type::kUndefined:
      return at(expr.offset, Result<Value>(undefined_error(callee)));
    default:
      return tl::unexpected(
          located(expr.offset, {ErrorCode::kInvalidArgument,
                                fmt::format("'{}' object is not callable", type_name(callee))}));
  }
}

Result<Value> Evaluator::call_macro(const Expr& call, const Macro& macro,
                                    const Arguments& arguments) {
  const Stmt& definition = *macro.definition;
  const auto error = [&](std::string message) {
    return tl::unexpected(located(
        call.offset,
        {ErrorCode::kInvalidArgument, fmt::format("macro '{}' {}", definition.name, message)}));
  };
  if (arguments.positional.size() > definition.parameters.size()) {
    return error(fmt::format("takes at most {} argument(s)", definition.parameters.size()));
  }
  Scope* scope = heap_.new_scope(macro.scope);
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    scope->set(definition.parameters[i].name, arguments.positional[i]);
  }
  for (const auto& argument : arguments.named) {
    const std::string& name = argument.first;
    const auto is_named = [&](const Parameter& parameter) { return parameter.name == name; };
    const auto parameter =
        std::find_if(definition.parameters.begin(), definition.parameters.end(), is_named);
    if (parameter == definition.parameters.end()) {
      return error(fmt::format("takes no argument named '{}'", name));
    }
    const auto index = static_cast<size_t>(parameter - definition.parameters.begin());
    if (index < arguments.positional.size()) {
      return error(fmt::format("got two values for argument '{}'", name));
    }
    scope->set(name, argument.second);
  }
  US_ASSIGN(Text text, capture(definition.body, scope, &definition));
  return heap_.string(std::move(text));
}

// Gives the parameters that the call left out their defaults, evaluated in the macro's own scope,
// so that they may use the parameters before them.
Status Evaluator::set_defaults(const Stmt& definition) {
  for (const Parameter& parameter : definition.parameters) {
    bool is_given = false;
    for (const auto& [name, value] : scope_->variables) is_given |= name == parameter.name;
    if (is_given) continue;
    Value value = heap_.undefined(fmt::format("parameter '{}' was not provided", parameter.name));
    if (parameter.default_value != nullptr) {
      US_ASSIGN(value, evaluate(*parameter.default_value));
    }
    scope_->set(parameter.name, value);
  }
  return {};
}

}  // namespace ultraspeed::text::jinja
