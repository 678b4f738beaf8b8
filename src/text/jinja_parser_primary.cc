// Literals, names, subscripts, calls, filters and tests: what binds tighter than any operator.
#include <algorithm>
#include <cstdlib>
#include <optional>

#include "text/jinja_filters.h"
#include "text/jinja_parser_expression.h"
#include "text/jinja_predicates.h"

namespace ultraspeed::text::jinja {

namespace {

// The value of an integer literal, or nothing when it exceeds Integer.
std::optional<Integer> integer_of(std::string_view literal) {
  Integer value = 0;
  int base = 10;
  if (literal.size() > 2 && literal[0] == '0') {
    const char prefix = static_cast<char>(literal[1] | 0x20);
    base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
    if (base != 10) literal.remove_prefix(2);
  }
  for (const char c : literal) {
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    if (__builtin_mul_overflow(value, base, &value)) return std::nullopt;
    if (__builtin_add_overflow(value, digit, &value)) return std::nullopt;
  }
  return value;
}

bool is_literal_word(std::string_view name) {
  return name == "true" || name == "True" || name == "false" || name == "False" || name == "none" ||
         name == "None";
}

}  // namespace

ExpressionParser::Parsed ExpressionParser::parse_primary() {
  switch (cursor_.current().kind) {
    case TokenKind::kName:
      return parse_name();
    case TokenKind::kString:
      return parse_string();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    default:
      if (cursor_.at_operator("(")) return parse_parentheses();
      if (cursor_.at_operator("[")) return parse_list();
      if (cursor_.at_operator("{")) return parse_dict();
      return cursor_.unexpected("an expression");
  }
}

ExpressionParser::Parsed ExpressionParser::parse_name() {
  const Token& token = cursor_.current();
  const std::string& name = token.text;
  if (in_macro_ && (name == "varargs" || name == "kwargs" || name == "caller")) {
    return cursor_.unsupported(token.offset, fmt::format("'{}' in a macro", name));
  }
  Expr& node = new_node(ExprKind::kName);
  cursor_.advance();
  if (!is_literal_word(name)) {
    node.name = name;
    return &node;
  }
  node.kind = ExprKind::kConstant;
  node.constant = name == "none" || name == "None"
                      ? Value::none()
                      : Value::boolean(name == "true" || name == "True");
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_string() {
  Expr& node = new_node(ExprKind::kString);
  while (cursor_.at(TokenKind::kString)) {
    node.text.append(cursor_.current().text, false);
    cursor_.advance();
  }
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_number() {
  const Token& token = cursor_.current();
  Expr& node = new_node(ExprKind::kConstant);
  cursor_.advance();
  if (token.kind == TokenKind::kInteger) {
    const std::optional<Integer> value = integer_of(token.text);
    if (!value) return cursor_.invalid(token.offset, "the integer exceeds 127 bits");
    node.constant = Value::integer(*value);
    return &node;
  }
  node.constant = Value::number(std::strtod(token.text.c_str(), nullptr));
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_parentheses() {
  const size_t offset = cursor_.current().offset;
  cursor_.advance();
  if (cursor_.at_operator(")")) {
    Expr& empty = new_node(ExprKind::kTuple);
    empty.offset = offset;
    cursor_.advance();
    return &empty;
  }
  US_ASSIGN(const Expr* inner, parse_tuple(true));
  US_TRY(cursor_.expect_operator(")"));
  return inner;
}

ExpressionParser::Parsed ExpressionParser::parse_list() {
  Expr& node = new_node(ExprKind::kList);
  cursor_.advance();
  while (!cursor_.at_operator("]")) {
    US_ASSIGN(const Expr* element, parse_expression());
    node.operands.push_back(element);
    if (!cursor_.at_operator("]")) US_TRY(cursor_.expect_operator(","));
  }
  cursor_.advance();
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_dict() {
  Expr& node = new_node(ExprKind::kDict);
  cursor_.advance();
  while (!cursor_.at_operator("}")) {
    US_ASSIGN(const Expr* key, parse_expression());
    US_TRY(cursor_.expect_operator(":"));
    US_ASSIGN(const Expr* value, parse_expression());
    node.operands.insert(node.operands.end(), {key, value});
    if (!cursor_.at_operator("}")) US_TRY(cursor_.expect_operator(","));
  }
  cursor_.advance();
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_postfix(const Expr* operand) {
  while (true) {
    if (cursor_.at_operator(".")) {
      US_ASSIGN(operand, parse_attribute(operand));
    } else if (cursor_.at_operator("[")) {
      US_ASSIGN(operand, parse_subscript(operand));
    } else if (cursor_.at_operator("(")) {
      US_ASSIGN(operand, parse_call(operand));
    } else {
      return operand;
    }
  }
}

ExpressionParser::Parsed ExpressionParser::parse_filters_and_tests(const Expr* operand) {
  while (true) {
    if (cursor_.at_operator("|")) {
      US_ASSIGN(operand, parse_filters(operand));
    } else if (cursor_.at_word("is")) {
      US_ASSIGN(operand, parse_test(operand));
    } else if (cursor_.at_operator("(")) {
      US_ASSIGN(operand, parse_call(operand));
    } else {
      return operand;
    }
  }
}

ExpressionParser::Parsed ExpressionParser::parse_attribute(const Expr* operand) {
  Expr& node = new_node(ExprKind::kAttribute, {operand});
  cursor_.advance();
  if (cursor_.at(TokenKind::kInteger)) {
    node.kind = ExprKind::kItem;
    US_ASSIGN(const Expr* index, parse_number());
    node.operands.push_back(index);
    return &node;
  }
  US_ASSIGN(node.name, cursor_.expect_name());
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_slice(Expr& slice, const Expr* begin) {
  slice.kind = ExprKind::kSlice;
  slice.operands.insert(slice.operands.end(), {begin, nullptr, nullptr});
  for (size_t part = 2; part <= 3 && cursor_.skip_operator(":"); ++part) {
    if (cursor_.at_operator(":") || cursor_.at_operator("]")) continue;
    US_ASSIGN(slice.operands[part], parse_expression());
  }
  US_TRY(cursor_.expect_operator("]"));
  return &slice;
}

ExpressionParser::Parsed ExpressionParser::parse_subscript(const Expr* operand) {
  Expr& node = new_node(ExprKind::kItem, {operand});
  cursor_.advance();
  if (cursor_.at_operator(":")) return parse_slice(node, nullptr);
  US_ASSIGN(const Expr* index, parse_expression());
  if (cursor_.at_operator(":")) return parse_slice(node, index);
  if (cursor_.at_operator(",")) {
    return cursor_.unsupported(cursor_.current().offset, "a subscript with several values");
  }
  US_TRY(cursor_.expect_operator("]"));
  node.operands.push_back(index);
  return &node;
}

Result<std::vector<Argument>> ExpressionParser::parse_arguments() {
  std::vector<Argument> arguments;
  US_TRY(cursor_.expect_operator("("));
  while (!cursor_.at_operator(")")) {
    const Token& token = cursor_.current();
    if (cursor_.at_operator("*") || cursor_.at_operator("**")) {
      return cursor_.unsupported(token.offset, fmt::format("'{}' in arguments", token.text));
    }
    Argument argument;
    if (token.kind == TokenKind::kName && cursor_.next().kind == TokenKind::kOperator &&
        cursor_.next().text == "=") {
      argument.name = token.text;
      cursor_.advance();
      cursor_.advance();
    } else if (!arguments.empty() && !arguments.back().name.empty()) {
      return cursor_.invalid(token.offset, "a positional argument follows a named one");
    }
    US_ASSIGN(argument.value, parse_expression());
    arguments.push_back(std::move(argument));
    if (!cursor_.at_operator(")")) US_TRY(cursor_.expect_operator(","));
  }
  cursor_.advance();
  return arguments;
}

ExpressionParser::Parsed ExpressionParser::parse_call(const Expr* operand) {
  Expr& node = new_node(ExprKind::kCall, {operand});
  US_ASSIGN(node.arguments, parse_arguments());
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_filters(const Expr* operand) {
  while (cursor_.skip_operator("|")) {
    Expr& node = new_node(ExprKind::kFilter);
    if (operand != nullptr) node.operands = {operand};
    US_ASSIGN(node.name, cursor_.expect_name());
    if (!is_known_filter(node.name) || cursor_.at_operator(".")) {
      return cursor_.unsupported(node.offset, fmt::format("the filter '{}'", node.name));
    }
    if (cursor_.at_operator("(")) {
      US_ASSIGN(node.arguments, parse_arguments());
    }
    operand = &node;
  }
  return operand;
}

ExpressionParser::Parsed ExpressionParser::parse_test(const Expr* operand) {
  cursor_.advance();
  const bool negated = cursor_.skip_word("not");
  Expr& node = new_node(ExprKind::kTest, {operand});
  US_ASSIGN(node.name, cursor_.expect_name());
  if (!is_known_predicate(node.name) || cursor_.at_operator(".")) {
    return cursor_.unsupported(node.offset, fmt::format("the test '{}'", node.name));
  }
  const bool at_operand = cursor_.at(TokenKind::kName) || cursor_.at(TokenKind::kString) ||
                          cursor_.at(TokenKind::kInteger) || cursor_.at(TokenKind::kFloat) ||
                          cursor_.at_operator("[") || cursor_.at_operator("{");
  if (cursor_.at_operator("(")) {
    US_ASSIGN(node.arguments, parse_arguments());
  } else if (cursor_.at_word("is")) {
    return cursor_.invalid(cursor_.current().offset, "tests cannot be chained with 'is'");
  } else if (at_operand && !cursor_.at_word("else") && !cursor_.at_word("or") &&
             !cursor_.at_word("and")) {
    US_ASSIGN(const Expr* argument, parse_primary());
    US_ASSIGN(argument, parse_postfix(argument));
    node.arguments.push_back({{}, argument});
  }
  if (!negated) return &node;
  Expr& inverse = new_node(ExprKind::kNot, {&node});
  inverse.offset = node.offset;
  return &inverse;
}

Result<Target> ExpressionParser::parse_target(bool with_attribute) {
  const Nesting nesting(*this);
  US_TRY(nesting.check());
  Target tuple;
  bool is_tuple = false;
  while (!cursor_.at_word("in") && !cursor_.at_operator("=") && !cursor_.at_operator(")")) {
    Target target;
    const size_t offset = cursor_.current().offset;
    if (cursor_.skip_operator("(")) {
      US_ASSIGN(target, parse_target(with_attribute));
      US_TRY(cursor_.expect_operator(")"));
    } else {
      US_ASSIGN(target.name, cursor_.expect_name());
      if (is_literal_word(target.name)) {
        return cursor_.invalid(offset, fmt::format("cannot assign to '{}'", target.name));
      }
      if (with_attribute && cursor_.skip_operator(".")) {
        US_ASSIGN(target.attribute, cursor_.expect_name());
      }
    }
    tuple.elements.push_back(std::move(target));
    if (!cursor_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (tuple.elements.empty()) return cursor_.unexpected("a name to assign to");
  if (is_tuple) return tuple;
  Target only = std::move(tuple.elements.front());
  return only;
}

}  // namespace ultraspeed::text::jinja
