// The statement half of the parser: the tags of the subset and the text between them.
#include "text/jinja_parser.h"

#include <array>

#include "text/jinja_lexer.h"
#include "text/jinja_parser_expression.h"

namespace ultraspeed::text::jinja {

namespace {

class Parser {
 public:
  Parser(std::string_view source, const std::vector<Token>& tokens)
      : cursor_(source, tokens), expressions_(cursor_, tree_) {}

  Result<Tree> run() {
    US_ASSIGN(tree_.body, parse_body({}, nullptr));
    return std::move(tree_);
  }

 private:
  using Parsed = Result<const Stmt*>;

  // Statements up to a tag whose word is in end_words, which stays current; all of them when there
  // are no end words. `opener` is the statement that needs the end tag.
  Result<Body> parse_body(std::initializer_list<std::string_view> end_words, const Stmt* opener) {
    Body body;
    while (!cursor_.at(TokenKind::kEnd)) {
      if (cursor_.at(TokenKind::kData)) {
        Stmt& data = new_statement(StmtKind::kData);
        data.text.append(cursor_.current().text, false);
        cursor_.advance();
        body.push_back(&data);
        continue;
      }
      const bool is_block = cursor_.at(TokenKind::kBlockBegin);
      cursor_.advance();
      if (is_block) {
        for (const std::string_view word : end_words) {
          if (cursor_.at_word(word)) return body;
        }
      }
      US_ASSIGN(const Stmt* statement, is_block ? parse_statement() : parse_print());
      body.push_back(statement);
    }
    if (opener == nullptr) return body;
    return cursor_.invalid(
        opener->offset, fmt::format("this '{}' has no '{}'", opener->name, *(end_words.end() - 1)));
  }

  Stmt& new_statement(StmtKind kind) {
    Stmt& statement = tree_.statements.emplace_back();
    statement.kind = kind;
    statement.offset = cursor_.current().offset;
    return statement;
  }

  Status expect_block_end() {
    if (!cursor_.at(TokenKind::kBlockEnd)) return cursor_.unexpected("'%}'");
    cursor_.advance();
    return {};
  }

  // The head's end, the body, and the word of the end tag itself.
  Result<Body> parse_block(std::string_view end_word, const Stmt* opener) {
    US_TRY(expect_block_end());
    US_ASSIGN(Body body, parse_body({end_word}, opener));
    cursor_.advance();
    US_TRY(expect_block_end());
    return body;
  }

  Parsed parse_print() {
    Stmt& print = new_statement(StmtKind::kPrint);
    US_ASSIGN(print.value, expressions_.parse_tuple(true));
    if (!cursor_.at(TokenKind::kPrintEnd)) return cursor_.unexpected("'}}'");
    cursor_.advance();
    return &print;
  }

  Parsed parse_statement() {
    struct Tag {
      std::string_view word;
      Parsed (Parser::*parse)(Stmt&);
    };
    static constexpr std::array<Tag, 7> kTags = {{{"if", &Parser::parse_if},
                                                  {"for", &Parser::parse_for},
                                                  {"set", &Parser::parse_set},
                                                  {"macro", &Parser::parse_macro},
                                                  {"generation", &Parser::parse_generation},
                                                  {"break", &Parser::parse_break},
                                                  {"continue", &Parser::parse_break}}};
    const ExpressionParser::Nesting nesting(expressions_);
    US_TRY(nesting.check());
    if (!cursor_.at(TokenKind::kName)) return cursor_.unexpected("a tag name");
    const Token& token = cursor_.current();
    for (const Tag& tag : kTags) {
      if (token.text != tag.word) continue;
      Stmt& statement = new_statement(StmtKind::kData);
      statement.name = token.text;
      cursor_.advance();
      return (this->*tag.parse)(statement);
    }
    if (token.text.starts_with("end") || token.text == "else" || token.text == "elif") {
      return cursor_.invalid(token.offset, fmt::format("unexpected tag '{}'", token.text));
    }
    return cursor_.unsupported(token.offset, fmt::format("the tag '{}'", token.text));
  }

  Parsed parse_if(Stmt& statement) {
    statement.kind = StmtKind::kIf;
    while (true) {
      Branch branch;
      if (!cursor_.skip_word("else")) {
        if (!statement.branches.empty()) cursor_.advance();  // elif
        US_ASSIGN(branch.condition, expressions_.parse_tuple(false));
      }
      cursor_.skip_operator(":");
      US_TRY(expect_block_end());
      const bool is_else = branch.condition == nullptr;
      if (is_else) {
        US_ASSIGN(branch.body, parse_body({"endif"}, &statement));
      } else {
        US_ASSIGN(branch.body, parse_body({"elif", "else", "endif"}, &statement));
      }
      statement.branches.push_back(std::move(branch));
      if (cursor_.skip_word("endif")) break;
    }
    US_TRY(expect_block_end());
    return &statement;
  }

  Parsed parse_for(Stmt& statement) {
    statement.kind = StmtKind::kFor;
    US_ASSIGN(statement.target, expressions_.parse_target(false));
    if (!cursor_.skip_word("in")) return cursor_.unexpected("'in'");
    US_ASSIGN(statement.value, expressions_.parse_tuple(false, "recursive"));
    if (cursor_.skip_word("if")) {
      US_ASSIGN(statement.condition, expressions_.parse_expression());
    }
    if (cursor_.at_word("recursive")) {
      return cursor_.unsupported(cursor_.current().offset, "'recursive' in a for loop");
    }
    cursor_.skip_operator(":");
    US_TRY(expect_block_end());
    ++loops_;
    US_ASSIGN(statement.body, parse_body({"else", "endfor"}, &statement));
    --loops_;
    if (cursor_.skip_word("else")) {
      US_TRY(expect_block_end());
      US_ASSIGN(statement.else_body, parse_body({"endfor"}, &statement));
    }
    cursor_.advance();
    US_TRY(expect_block_end());
    return &statement;
  }

  Parsed parse_set(Stmt& statement) {
    US_ASSIGN(statement.target, expressions_.parse_target(true));
    if (cursor_.skip_operator("=")) {
      statement.kind = StmtKind::kSet;
      US_ASSIGN(statement.value, expressions_.parse_tuple(true));
      US_TRY(expect_block_end());
      return &statement;
    }
    statement.kind = StmtKind::kSetBlock;
    US_ASSIGN(statement.value, expressions_.parse_filters(nullptr));
    US_ASSIGN(statement.body, parse_isolated_block("endset", statement));
    return &statement;
  }

  Parsed parse_macro(Stmt& statement) {
    statement.kind = StmtKind::kMacro;
    US_ASSIGN(std::string name, cursor_.expect_name());
    US_TRY(parse_parameters(statement));
    const bool was_in_macro = in_macro_;
    set_in_macro(true);
    US_ASSIGN(statement.body, parse_isolated_block("endmacro", statement));
    set_in_macro(was_in_macro);
    statement.name = std::move(name);
    return &statement;
  }

  Status parse_parameters(Stmt& statement) {
    US_TRY(cursor_.expect_operator("("));
    while (!cursor_.at_operator(")")) {
      Parameter parameter;
      const size_t offset = cursor_.current().offset;
      US_ASSIGN(parameter.name, cursor_.expect_name());
      if (cursor_.skip_operator("=")) {
        US_ASSIGN(parameter.default_value, expressions_.parse_expression());
      } else if (!statement.parameters.empty() &&
                 statement.parameters.back().default_value != nullptr) {
        return cursor_.invalid(offset, fmt::format("the parameter '{}' without a default follows "
                                                   "one with a default",
                                                   parameter.name));
      }
      statement.parameters.push_back(std::move(parameter));
      if (!cursor_.at_operator(")")) US_TRY(cursor_.expect_operator(","));
    }
    cursor_.advance();
    return {};
  }

  Parsed parse_generation(Stmt& statement) {
    statement.kind = StmtKind::kGeneration;
    US_ASSIGN(statement.body, parse_isolated_block("endgeneration", statement));
    return &statement;
  }

  Parsed parse_break(Stmt& statement) {
    statement.kind = statement.name == "break" ? StmtKind::kBreak : StmtKind::kContinue;
    if (loops_ == 0) {
      return cursor_.invalid(statement.offset,
                             fmt::format("'{}' outside of a for loop", statement.name));
    }
    US_TRY(expect_block_end());
    return &statement;
  }

  // A block that break and continue cannot leave.
  Result<Body> parse_isolated_block(std::string_view end_word, const Stmt& opener) {
    const int outer_loops = loops_;
    loops_ = 0;
    Result<Body> body = parse_block(end_word, &opener);
    loops_ = outer_loops;
    return body;
  }

  void set_in_macro(bool in_macro) {
    in_macro_ = in_macro;
    expressions_.set_in_macro(in_macro);
  }

  Tree tree_;
  TokenCursor cursor_;
  ExpressionParser expressions_;
  int loops_ = 0;
  bool in_macro_ = false;
};

}  // namespace

Result<Tree> parse(std::string_view source) {
  US_ASSIGN(const std::vector<Token> tokens, tokenize(source));
  return Parser(source, tokens).run();
}

}  // namespace ultraspeed::text::jinja
