// Recursive descent; line breaks mean nothing, a rule ends where the next NAME ::= begins.
#include "grammar/ebnf.h"

#include <map>
#include <string>
#include <vector>

#include "grammar/class_syntax.h"
#include "grammar/grammar_builder.h"
#include "grammar/text_cursor.h"

namespace ultraspeed::grammar {
namespace {

bool begins_name(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

class EbnfParser {
 public:
  EbnfParser(TextCursor cursor, GrammarBuilder* builder)
      : cursor_(std::move(cursor)), builder_(*builder) {}

  Result<RuleId> run(std::string_view root) {
    skip_space();
    while (!cursor_.is_at_end()) US_TRY(parse_rule());
    for (const auto& [name, rule] : rules_) {
      if (rule.is_defined) continue;
      return cursor_.error(ErrorCode::kInvalidArgument, rule.first_use,
                           fmt::format("no rule is named '{}'", name));
    }
    const auto place = rules_.find(root);
    if (place == rules_.end()) return cursor_.error(fmt::format("no rule is named '{}'", root));
    return place->second.id;
  }

 private:
  struct Rule {
    RuleId id = 0;
    bool is_defined = false;
    size_t first_use = 0;  // byte offset
  };

  void skip_space() {
    for (;;) {
      const char32_t c = cursor_.peek();
      if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        cursor_.take();
      } else if (c == '#') {
        while (!cursor_.is_at_end() && cursor_.peek() != '\n') cursor_.take();
      } else {
        return;
      }
    }
  }

  std::string_view take_name() {
    const std::string_view rest = cursor_.rest();
    size_t size = 0;
    while (size < rest.size()) {
      const auto c = static_cast<unsigned char>(rest[size]);
      if (!begins_name(c) && !(size > 0 && (c == '-' || (c >= '0' && c <= '9')))) break;
      ++size;
    }
    cursor_.skip(size);
    skip_space();
    return rest.substr(0, size);
  }

  bool is_at_rule() {
    const TextCursor here = cursor_;
    const bool is_rule = !take_name().empty() && cursor_.take_string("::=");
    cursor_ = here;
    return is_rule;
  }

  Result<Rule*> rule_named(std::string_view name) {
    const auto [place, is_new] = rules_.try_emplace(std::string(name));
    if (is_new) {
      US_TRY(builder_.check_size());
      place->second.id = builder_.add_rule(fmt::format("rule '{}'", name));
      place->second.first_use = cursor_.offset();
    }
    return &place->second;
  }

  Status parse_rule() {
    const size_t begin = cursor_.offset();
    const std::string_view name = take_name();
    if (name.empty()) return cursor_.error("expected the name of a rule");
    if (!cursor_.take_string("::=")) return cursor_.error("expected '::='");
    US_ASSIGN(Rule * rule, rule_named(name));
    if (rule->is_defined) {
      return cursor_.error(ErrorCode::kInvalidArgument, begin,
                           fmt::format("a second rule named '{}'", name));
    }
    rule->is_defined = true;
    US_ASSIGN(const ExprId body, parse_choice(0));
    if (!cursor_.is_at_end() && !is_at_rule()) return cursor_.error("expected a rule or the end");
    builder_.set_body(rule->id, body);
    return {};
  }

  Result<ExprId> parse_choice(uint32_t depth) {
    if (depth > kMaxDepth) {
      return cursor_.error(ErrorCode::kOutOfMemory, cursor_.offset(),
                           fmt::format("more than {} nested groups", kMaxDepth));
    }
    std::vector<ExprId> choices;
    do {
      skip_space();
      US_ASSIGN(const ExprId sequence, parse_sequence(depth));
      choices.push_back(sequence);
    } while (cursor_.take_if('|'));
    return builder_.choice(std::move(choices));
  }

  Result<ExprId> parse_sequence(uint32_t depth) {
    std::vector<ExprId> parts;
    for (;;) {
      const char32_t c = cursor_.peek();
      if (c == TextCursor::kEnd || c == '|' || c == ')') break;
      if (begins_name(c) && is_at_rule()) break;
      US_TRY(builder_.check_size());
      US_ASSIGN(ExprId part, parse_primary(depth));
      skip_space();
      US_ASSIGN(const std::optional<Quantifier> quantifier, parse_quantifier(&cursor_));
      if (quantifier) part = builder_.repeat(part, quantifier->min, quantifier->max);
      skip_space();
      parts.push_back(part);
    }
    return builder_.sequence(std::move(parts));
  }

  Result<ExprId> parse_primary(uint32_t depth) {
    if (begins_name(cursor_.peek())) {
      US_ASSIGN(const Rule* rule, rule_named(take_name()));
      return builder_.call(rule->id);
    }
    if (cursor_.take_if('"')) return parse_literal();
    if (cursor_.take_if('.')) return builder_.characters(CodePoints::all());
    if (cursor_.take_if('[')) {
      US_ASSIGN(const CodePoints set, parse_class(&cursor_));
      return builder_.characters(set);
    }
    if (cursor_.take_if('(')) {
      US_ASSIGN(const ExprId group, parse_choice(depth + 1));
      if (!cursor_.take_if(')')) return cursor_.error("expected ')'");
      return group;
    }
    return cursor_.error("expected a literal, a class, a group or the name of a rule");
  }

  Result<ExprId> parse_literal() {
    std::string bytes;
    while (!cursor_.take_if('"')) {
      if (cursor_.is_at_end()) return cursor_.error("expected '\"' to end the literal");
      if (cursor_.take_if('\\')) {
        US_ASSIGN(const CodePoints character, parse_escape(&cursor_, false));
        append_utf8(character.ranges()[0].first, &bytes);
      } else {
        append_utf8(cursor_.take(), &bytes);
      }
    }
    return builder_.bytes(std::move(bytes));
  }

  TextCursor cursor_;
  GrammarBuilder& builder_;
  std::map<std::string, Rule, std::less<>> rules_;
};

}  // namespace

Result<RuleId> add_ebnf(std::string_view text, GrammarBuilder* builder, std::string_view root) {
  US_ASSIGN(TextCursor cursor, TextCursor::open(text, "grammar"));
  return EbnfParser(std::move(cursor), builder).run(root);
}

Result<Grammar> parse_ebnf(std::string_view text, std::string_view root) {
  GrammarBuilder builder;
  US_ASSIGN(const RuleId rule, add_ebnf(text, &builder, root));
  return builder.build(rule, {.max_inlined_states = kMaxInlinedStates});
}

}  // namespace ultraspeed::grammar
