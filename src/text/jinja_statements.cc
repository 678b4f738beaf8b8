// Statements.
#include <algorithm>

#include "text/jinja_access.h"
#include "text/jinja_evaluator.h"
#include "text/jinja_format.h"
#include "text/jinja_operators.h"

namespace ultraspeed::text::jinja {

Result<Text> Evaluator::render(const Body& body) {
  TextBuilder out(heap_, heap_.limits().max_output_bytes);
  scope_ = &globals_;
  out_ = &out;
  US_TRY(execute(body));
  US_TRY(check_limits(source_.size()));
  return out.take();
}

Result<Text> Evaluator::capture(const Body& body, Scope* scope, const Stmt* macro) {
  TextBuilder out(heap_, heap_.limits().max_output_bytes);
  Scope* outer_scope = std::exchange(scope_, scope);
  TextBuilder* outer_out = std::exchange(out_, &out);
  Status done;
  if (macro != nullptr) done = set_defaults(*macro);
  if (done) done = execute(body).map([](Flow) {});
  scope_ = outer_scope;
  out_ = outer_out;
  if (!done) return tl::unexpected(std::move(done).error());
  return out.take();
}

Result<Evaluator::Flow> Evaluator::execute(const Body& body) {
  for (const Stmt* stmt : body) {
    US_ASSIGN(const Flow flow, execute(*stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::execute(const Stmt& stmt) {
  const Heap::Depth depth(heap_);
  heap_.spend_steps(1);
  US_TRY(check_limits(stmt.offset));
  switch (stmt.kind) {
    case StmtKind::kData:
      out_->append(stmt.text);
      break;
    case StmtKind::kPrint:
      US_TRY(print(stmt));
      break;
    case StmtKind::kIf:
      return run_if(stmt);
    case StmtKind::kFor:
      return run_for(stmt);
    case StmtKind::kSet:
      US_TRY(set(stmt));
      break;
    case StmtKind::kSetBlock:
      US_TRY(set_block(stmt));
      break;
    case StmtKind::kMacro:
      define_macro(stmt);
      break;
    case StmtKind::kGeneration: {
      US_ASSIGN(const Text text, capture(stmt.body, heap_.new_scope(scope_), nullptr));
      out_->append(text);
      break;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Status Evaluator::print(const Stmt& stmt) {
  US_ASSIGN(const Value value, evaluate(*stmt.value));
  if (value.is_string()) {
    out_->append(value.text());
    return {};
  }
  US_ASSIGN(const Text text, at(stmt.offset, to_text(heap_, value)));
  out_->append(text);
  return {};
}

Result<Evaluator::Flow> Evaluator::run_if(const Stmt& stmt) {
  for (const Branch& branch : stmt.branches) {
    US_ASSIGN(const bool holds, is_condition_true(branch.condition));
    if (holds) return execute(branch.body);
  }
  return Flow::kNext;
}

// What the loop runs over: the iterable's own sequence, or else a new one of its elements, of which
// those stay for which the condition holds.
Result<const Sequence*> Evaluator::loop_items(const Stmt& stmt) {
  US_ASSIGN(const Value iterable, evaluate(*stmt.value));
  const bool is_lasting = iterable.is_sequence() && !iterable.is(Type::kIterator);
  if (is_lasting && stmt.condition == nullptr) return &iterable.items();
  US_ASSIGN(std::vector<Value> items, at(stmt.value->offset, iterate(heap_, iterable)));
  if (stmt.condition != nullptr) {
    US_ASSIGN(items, filter_items(stmt, items));
  }
  return &heap_.list(std::move(items)).items();
}

Result<std::vector<Value>> Evaluator::filter_items(const Stmt& stmt,
                                                   const std::vector<Value>& items) {
  std::vector<Value> kept;
  Scope* outer = scope_;
  Scope* scope = heap_.new_scope(outer);
  for (const Value& item : items) {
    scope->variables.clear();
    scope_ = scope;
    const Status assigned = assign(stmt, stmt.target, item);
    Result<bool> holds = false;
    if (assigned) holds = is_condition_true(stmt.condition);
    scope_ = outer;
    if (!assigned) return tl::unexpected(assigned.error());
    if (!holds) return tl::unexpected(std::move(holds).error());
    if (*holds) kept.push_back(item);
  }
  return kept;
}

// As in jinja2, {% else %} runs unless some run of the body reached its end: also when break or
// continue left each of them early.
Result<Evaluator::Flow> Evaluator::run_for(const Stmt& stmt) {
  Loop* loop = heap_.new_loop();
  US_ASSIGN(loop->items, loop_items(stmt));
  loop->count = loop->items->values.size();
  Scope* scope = nullptr;
  bool is_complete = false;
  for (loop->index0 = 0; loop->index0 < loop->count; ++loop->index0) {
    heap_.spend_steps(1);
    US_TRY(check_limits(stmt.offset));
    if (scope == nullptr || scope->captured) scope = heap_.new_scope(scope_);
    US_ASSIGN(const Flow flow, run_body(stmt, loop, scope));
    is_complete |= flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  if (is_complete) return Flow::kNext;
  return execute(stmt.else_body);
}

// Runs the body for one item, in `scope`.
Result<Evaluator::Flow> Evaluator::run_body(const Stmt& stmt, Loop* loop, Scope* scope) {
  scope->variables.clear();
  scope->set("loop", Value::loop(loop));
  Scope* outer = std::exchange(scope_, scope);
  const Status assigned = assign(stmt, stmt.target, loop->items->values[loop->index0]);
  Result<Flow> flow = Flow::kNext;
  if (assigned) {
    flow = execute(stmt.body);
  } else {
    flow = tl::unexpected(assigned.error());
  }
  scope_ = outer;
  return flow;
}

Status Evaluator::set(const Stmt& stmt) {
  US_ASSIGN(const Value value, evaluate(*stmt.value));
  return assign(stmt, stmt.target, value);
}

Status Evaluator::set_block(const Stmt& stmt) {
  US_ASSIGN(Text text, capture(stmt.body, heap_.new_scope(scope_), nullptr));
  Value value = heap_.string(std::move(text));
  if (stmt.value != nullptr) {
    US_ASSIGN(value, evaluate_filter(*stmt.value, &value));
  }
  return assign(stmt, stmt.target, value);
}

void Evaluator::define_macro(const Stmt& stmt) {
  Macro* macro = heap_.new_macro();
  macro->definition = &stmt;
  macro->scope = scope_;
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) scope->captured = true;
  scope_->set(stmt.name, Value::macro(macro));
}

Status Evaluator::assign(const Stmt& stmt, const Target& target, const Value& value) {
  if (!target.elements.empty()) return assign_tuple(stmt, target, value);
  if (target.attribute.empty()) {
    scope_->set(target.name, value);
    return {};
  }
  const Value* holder = scope_->find(target.name);
  if (holder == nullptr || !holder->is(Type::kNamespace)) {
    return tl::unexpected(located(
        stmt.offset,
        {ErrorCode::kInvalidArgument, fmt::format("cannot set '{0}.{1}': '{0}' is not a namespace",
                                                  target.name, target.attribute)}));
  }
  holder->dict().set(heap_.string(target.attribute, false), value);
  return {};
}

Status Evaluator::assign_tuple(const Stmt& stmt, const Target& target, const Value& value) {
  US_ASSIGN(const std::vector<Value> values, at(stmt.offset, iterate(heap_, value)));
  if (values.size() != target.elements.size()) {
    return tl::unexpected(
        located(stmt.offset,
                {ErrorCode::kInvalidArgument, fmt::format("cannot unpack {} value(s) into {} names",
                                                          values.size(), target.elements.size())}));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    US_TRY(assign(stmt, target.elements[i], values[i]));
  }
  return {};
}

}  // namespace ultraspeed::text::jinja
