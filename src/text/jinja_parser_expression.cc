// Expressions from the loosest operator to the tightest; the order is jinja2's. Literals,
// subscripts and calls are in jinja_parser_primary.cc.
#include "text/jinja_parser_expression.h"

#include <algorithm>

namespace ultraspeed::text::jinja {

namespace {

constexpr int kMaxNesting = 200;

std::string describe_token(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kData:
      return "template text";
    case TokenKind::kPrintBegin:
      return "'{{'";
    case TokenKind::kPrintEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kString:
      return "a string";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace

bool TokenCursor::at_word(std::string_view word) const {
  return at(TokenKind::kName) && current().text == word;
}

bool TokenCursor::at_operator(std::string_view op) const {
  return at(TokenKind::kOperator) && current().text == op;
}

bool TokenCursor::skip_word(std::string_view word) {
  if (!at_word(word)) return false;
  advance();
  return true;
}

bool TokenCursor::skip_operator(std::string_view op) {
  if (!at_operator(op)) return false;
  advance();
  return true;
}

Status TokenCursor::expect_operator(std::string_view op) {
  if (skip_operator(op)) return {};
  return unexpected(fmt::format("'{}'", op));
}

Result<std::string> TokenCursor::expect_name() {
  if (!at(TokenKind::kName)) return unexpected("a name");
  std::string name = current().text;
  advance();
  return name;
}

tl::unexpected<Error> TokenCursor::unexpected(std::string_view expected) const {
  return invalid(current().offset,
                 fmt::format("expected {}, got {}", expected, describe_token(current())));
}

tl::unexpected<Error> TokenCursor::invalid(size_t offset, std::string_view message) const {
  return tl::unexpected(template_error(source_, offset, message));
}

tl::unexpected<Error> TokenCursor::unsupported(size_t offset, std::string_view construct) const {
  Error error = template_error(source_, offset, fmt::format("{} is not supported", construct));
  error.code = ErrorCode::kUnsupported;
  return tl::unexpected(std::move(error));
}

Status ExpressionParser::Nesting::check() const {
  if (parser_.nesting_ <= kMaxNesting) return {};
  return parser_.cursor_.invalid(parser_.cursor_.current().offset,
                                 fmt::format("more than {} nested constructs", kMaxNesting));
}

Expr& ExpressionParser::new_node(ExprKind kind, std::initializer_list<const Expr*> operands) {
  Expr& node = tree_.expressions.emplace_back();
  node.kind = kind;
  node.operands = operands;
  node.offset = cursor_.current().offset;
  return node;
}

ExpressionParser::Parsed ExpressionParser::parse_expression() {
  const Nesting nesting(*this);
  US_TRY(nesting.check());
  return parse_conditional();
}

bool ExpressionParser::at_tuple_end(std::string_view end_word) const {
  return cursor_.at(TokenKind::kPrintEnd) || cursor_.at(TokenKind::kBlockEnd) ||
         cursor_.at_operator(")") || (!end_word.empty() && cursor_.at_word(end_word));
}

ExpressionParser::Parsed ExpressionParser::parse_tuple(bool with_conditional,
                                                       std::string_view end_word) {
  const Nesting nesting(*this);
  US_TRY(nesting.check());
  Expr* tuple = nullptr;
  const Expr* only = nullptr;
  while (!at_tuple_end(end_word)) {
    US_ASSIGN(const Expr* element, with_conditional ? parse_conditional() : parse_or());
    if (tuple != nullptr) tuple->operands.push_back(element);
    only = element;
    if (!cursor_.at_operator(",")) break;
    if (tuple == nullptr) {
      tuple = &new_node(ExprKind::kTuple, {element});
      tuple->offset = element->offset;
    }
    cursor_.advance();
  }
  if (tuple != nullptr) return tuple;
  if (only == nullptr) return cursor_.unexpected("an expression");
  return only;
}

ExpressionParser::Parsed ExpressionParser::parse_conditional() {
  US_ASSIGN(const Expr* value, parse_or());
  while (cursor_.at_word("if")) {
    Expr& node = new_node(ExprKind::kConditional);
    cursor_.advance();
    US_ASSIGN(const Expr* condition, parse_or());
    const Expr* otherwise = nullptr;
    if (cursor_.skip_word("else")) {
      US_ASSIGN(otherwise, parse_expression());
    }
    node.operands = {condition, value, otherwise};
    value = &node;
  }
  return value;
}

ExpressionParser::Parsed ExpressionParser::parse_logical(Rule operand, std::string_view word,
                                                         ExprKind kind) {
  US_ASSIGN(const Expr* left, (this->*operand)());
  while (cursor_.at_word(word)) {
    Expr& node = new_node(kind);
    cursor_.advance();
    US_ASSIGN(const Expr* right, (this->*operand)());
    node.operands = {left, right};
    left = &node;
  }
  return left;
}

ExpressionParser::Parsed ExpressionParser::parse_or() {
  return parse_logical(&ExpressionParser::parse_and, "or", ExprKind::kOr);
}

ExpressionParser::Parsed ExpressionParser::parse_and() {
  return parse_logical(&ExpressionParser::parse_not, "and", ExprKind::kAnd);
}

ExpressionParser::Parsed ExpressionParser::parse_not() {
  if (!cursor_.at_word("not")) return parse_compare();
  const Nesting nesting(*this);
  US_TRY(nesting.check());
  Expr& node = new_node(ExprKind::kNot);
  cursor_.advance();
  US_ASSIGN(const Expr* operand, parse_not());
  node.operands = {operand};
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_compare() {
  static constexpr OperatorName kOperators[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
  US_ASSIGN(const Expr* first, parse_sum());
  Expr* node = nullptr;
  while (true) {
    const size_t offset = cursor_.current().offset;
    Operator op{};
    const auto* found =
        std::find_if(std::begin(kOperators), std::end(kOperators),
                     [&](const OperatorName& o) { return cursor_.at_operator(o.text); });
    if (found != std::end(kOperators)) {
      op = found->op;
    } else if (cursor_.at_word("in")) {
      op = Operator::kIn;
    } else if (cursor_.at_word("not") && cursor_.next().kind == TokenKind::kName &&
               cursor_.next().text == "in") {
      op = Operator::kNotIn;
      cursor_.advance();
    } else {
      break;
    }
    cursor_.advance();
    US_ASSIGN(const Expr* right, parse_sum());
    if (node == nullptr) {
      node = &new_node(ExprKind::kCompare, {first});
      node->offset = offset;
    }
    node->operators.push_back(op);
    node->operands.push_back(right);
  }
  return node == nullptr ? first : node;
}

ExpressionParser::Parsed ExpressionParser::parse_binary(
    Rule operand, std::initializer_list<OperatorName> operators) {
  US_ASSIGN(const Expr* left, (this->*operand)());
  while (true) {
    const auto* found =
        std::find_if(operators.begin(), operators.end(),
                     [&](const OperatorName& o) { return cursor_.at_operator(o.text); });
    if (found == operators.end()) return left;
    Expr& node = new_node(ExprKind::kBinary);
    cursor_.advance();
    US_ASSIGN(const Expr* right, (this->*operand)());
    node.operands = {left, right};
    node.operators = {found->op};
    left = &node;
  }
}

ExpressionParser::Parsed ExpressionParser::parse_sum() {
  return parse_binary(&ExpressionParser::parse_concat,
                      {{"+", Operator::kAdd}, {"-", Operator::kSubtract}});
}

ExpressionParser::Parsed ExpressionParser::parse_concat() {
  US_ASSIGN(const Expr* first, parse_product());
  if (!cursor_.at_operator("~")) return first;
  Expr& node = new_node(ExprKind::kConcat, {first});
  while (cursor_.skip_operator("~")) {
    US_ASSIGN(const Expr* operand, parse_product());
    node.operands.push_back(operand);
  }
  return &node;
}

ExpressionParser::Parsed ExpressionParser::parse_product() {
  return parse_binary(&ExpressionParser::parse_power, {{"*", Operator::kMultiply},
                                                       {"/", Operator::kDivide},
                                                       {"//", Operator::kFloorDivide},
                                                       {"%", Operator::kModulo}});
}

ExpressionParser::Parsed ExpressionParser::parse_power() {
  return parse_binary(&ExpressionParser::parse_signed, {{"**", Operator::kPower}});
}

ExpressionParser::Parsed ExpressionParser::parse_signed() {
  return parse_unary(true);
}

ExpressionParser::Parsed ExpressionParser::parse_unary(bool with_filters) {
  const Expr* operand = nullptr;
  if (cursor_.at_operator("-") || cursor_.at_operator("+")) {
    const Nesting nesting(*this);
    US_TRY(nesting.check());
    Expr& node = new_node(cursor_.at_operator("-") ? ExprKind::kNegative : ExprKind::kPositive);
    cursor_.advance();
    US_ASSIGN(const Expr* inner, parse_unary(false));
    node.operands = {inner};
    operand = &node;
  } else {
    US_ASSIGN(operand, parse_primary());
  }
  US_ASSIGN(operand, parse_postfix(operand));
  if (!with_filters) return operand;
  return parse_filters_and_tests(operand);
}

}  // namespace ultraspeed::text::jinja
