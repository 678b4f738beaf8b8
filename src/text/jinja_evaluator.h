// Walks a syntax tree. Every error it returns carries the line and column of the node that failed.
#pragma once

#include <ctime>
#include <string_view>

#include "base/result.h"
#include "text/jinja_arguments.h"
#include "text/jinja_ast.h"
#include "text/jinja_scope.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

class Evaluator {
 public:
  // `source` is what the tree's offsets count in; `globals` holds the variables that the caller
  // gives. All must outlive the evaluator.
  Evaluator(Heap& heap, std::string_view source, Scope& globals, std::time_t now)
      : heap_(heap), source_(source), globals_(globals), now_(now) {}

  // The text that the body prints. Errors: kInvalidArgument, or kUnsupported for methods, filters
  // and the like that the subset lacks.
  Result<Text> render(const Body& body);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  // jinja_evaluator.cc and jinja_calls.cc: expressions
  Result<Value> evaluate(const Expr& expr);
  Result<Value> dispatch(const Expr& expr);
  Result<Value> evaluate_name(const Expr& expr);
  Result<Value> evaluate_sequence(const Expr& expr);
  Result<Value> evaluate_dict(const Expr& expr);
  Result<Value> evaluate_item(const Expr& expr);
  Result<Value> evaluate_slice(const Expr& expr);
  Result<Value> evaluate_logical(const Expr& expr);
  Result<Value> evaluate_binary(const Expr& expr);
  Result<Value> evaluate_compare(const Expr& expr);
  Result<Value> evaluate_concat(const Expr& expr);
  Result<Value> evaluate_conditional(const Expr& expr);
  Result<Value> evaluate_unary(const Expr& expr);
  Result<Value> evaluate_test(const Expr& expr);
  Result<Value> evaluate_filter(const Expr& expr, const Value* input);
  Result<Value> evaluate_call(const Expr& expr);
  Result<Value> call_macro(const Expr& call, const Macro& macro, const Arguments& arguments);
  Status set_defaults(const Stmt& definition);
  Result<Arguments> evaluate_arguments(const Expr& expr);
  Result<bool> is_condition_true(const Expr* condition);

  // jinja_statements.cc: statements
  Result<Flow> execute(const Body& body);
  Result<Flow> execute(const Stmt& stmt);
  Status print(const Stmt& stmt);
  Result<Flow> run_if(const Stmt& stmt);
  Result<Flow> run_for(const Stmt& stmt);
  Result<Flow> run_body(const Stmt& stmt, Loop* loop, Scope* scope);
  Result<const Sequence*> loop_items(const Stmt& stmt);
  Result<std::vector<Value>> filter_items(const Stmt& stmt, const std::vector<Value>& items);
  Status set(const Stmt& stmt);
  Status set_block(const Stmt& stmt);
  Status assign(const Stmt& stmt, const Target& target, const Value& value);
  Status assign_tuple(const Stmt& stmt, const Target& target, const Value& value);
  void define_macro(const Stmt& stmt);
  // The text that a body prints in `scope`; of a macro's body, parameters get their defaults first.
  Result<Text> capture(const Body& body, Scope* scope, const Stmt* macro);

  Error located(size_t offset, Error error) const;
  // The result of an operation of the node at `offset`, its error located.
  template <class T>
  Result<T> at(size_t offset, Result<T> result) const {
    if (!result) return tl::unexpected(located(offset, std::move(result).error()));
    return result;
  }
  // Whether the rendering may go on.
  Status check_limits(size_t offset) const;

  Heap& heap_;
  std::string_view source_;
  Scope& globals_;
  std::time_t now_;
  Scope* scope_ = nullptr;
  TextBuilder* out_ = nullptr;
};

}  // namespace ultraspeed::text::jinja
