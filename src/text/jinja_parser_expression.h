// The expression half of the parser, and the token cursor that both halves share.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace ultraspeed::text::jinja {

// A position in the token list. Matches are by kind and text; words are kName tokens.
class TokenCursor {
 public:
  TokenCursor(std::string_view source, const std::vector<Token>& tokens)
      : source_(source), tokens_(tokens) {}

  const Token& current() const { return tokens_[index_]; }
  const Token& next() const { return tokens_[index_ + (at(TokenKind::kEnd) ? 0 : 1)]; }
  void advance() { index_ += at(TokenKind::kEnd) ? 0 : 1; }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_word(std::string_view word) const;
  bool at_operator(std::string_view op) const;
  bool skip_word(std::string_view word);
  bool skip_operator(std::string_view op);
  Status expect_operator(std::string_view op);
  Result<std::string> expect_name();

  // Errors at the current token.
  tl::unexpected<Error> unexpected(std::string_view expected) const;
  // Errors at an offset of the source.
  tl::unexpected<Error> invalid(size_t offset, std::string_view message) const;
  tl::unexpected<Error> unsupported(size_t offset, std::string_view construct) const;

 private:
  std::string_view source_;
  const std::vector<Token>& tokens_;
  size_t index_ = 0;
};

class ExpressionParser {
 public:
  using Parsed = Result<const Expr*>;

  ExpressionParser(TokenCursor& cursor, Tree& tree) : cursor_(cursor), tree_(tree) {}

  // An expression with `a if b else c`.
  Parsed parse_expression();
  // One expression, or a tuple when commas follow. Without conditionals, `if` ends it (the head of
  // a for statement). `end_word` ends the tuple as a closing bracket does.
  Parsed parse_tuple(bool with_conditional, std::string_view end_word = {});
  // A chain of filters without an operand, as in {% set x | trim | upper %}.
  Parsed parse_filters(const Expr* operand);
  // Names, attributes (where `with_attribute` allows them) and tuples of them.
  Result<Target> parse_target(bool with_attribute);

  // Inside a macro the names varargs, kwargs and caller mean what the subset lacks.
  void set_in_macro(bool in_macro) { in_macro_ = in_macro; }

  // Counts nested constructs, statements included, against kMaxNesting.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    Status check() const;

   private:
    ExpressionParser& parser_;
  };

 private:
  using Rule = Parsed (ExpressionParser::*)();
  struct OperatorName {
    std::string_view text;
    Operator op;
  };

  Parsed parse_conditional();
  Parsed parse_or();
  Parsed parse_and();
  Parsed parse_not();
  Parsed parse_compare();
  Parsed parse_sum();
  Parsed parse_concat();
  Parsed parse_product();
  Parsed parse_power();
  Parsed parse_signed();
  Parsed parse_unary(bool with_filters);
  Parsed parse_primary();
  Parsed parse_name();
  Parsed parse_string();
  Parsed parse_number();
  Parsed parse_parentheses();
  Parsed parse_list();
  Parsed parse_dict();
  Parsed parse_postfix(const Expr* operand);
  Parsed parse_filters_and_tests(const Expr* operand);
  Parsed parse_attribute(const Expr* operand);
  Parsed parse_subscript(const Expr* operand);
  Parsed parse_slice(Expr& slice, const Expr* begin);
  Parsed parse_call(const Expr* operand);
  Parsed parse_test(const Expr* operand);
  Result<std::vector<Argument>> parse_arguments();
  Parsed parse_binary(Rule operand, std::initializer_list<OperatorName> operators);
  Parsed parse_logical(Rule operand, std::string_view word, ExprKind kind);
  bool at_tuple_end(std::string_view end_word) const;
  Expr& new_node(ExprKind kind, std::initializer_list<const Expr*> operands = {});

  TokenCursor& cursor_;
  Tree& tree_;
  bool in_macro_ = false;
  int nesting_ = 0;
};

}  // namespace ultraspeed::text::jinja
