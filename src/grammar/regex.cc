// Recursive descent.
#include "grammar/regex.h"

#include <utility>
#include <vector>

#include "grammar/class_syntax.h"
#include "grammar/text_cursor.h"

namespace ultraspeed::grammar {
namespace {

class RegexParser {
 public:
  RegexParser(TextCursor cursor, const RegexOptions& options, GrammarBuilder* builder)
      : cursor_(std::move(cursor)), options_(options), builder_(*builder) {}

  Result<ExprId> run() {
    std::vector<ExprId> branches;
    do {
      US_ASSIGN(const ExprId branch, parse_outer_branch());
      branches.push_back(branch);
    } while (cursor_.take_if('|'));
    if (!cursor_.is_at_end()) return cursor_.error("')' without '('");
    return builder_.choice(std::move(branches));
  }

 private:
  ExprId spell(const CodePoints& set) {
    return options_.spell ? options_.spell(set) : builder_.characters(set);
  }

  // A branch that is in no group, with its anchors.
  Result<ExprId> parse_outer_branch() {
    bool is_bound = false;
    while (cursor_.take_if('^')) is_bound = true;
    US_ASSIGN(ExprId branch, parse_branch(0));
    if (options_.is_search && !is_bound) branch = builder_.sequence({anything(), branch});
    is_bound = false;
    while (cursor_.take_if('$')) is_bound = true;
    const char32_t after = cursor_.peek();
    if (is_bound && after != '|' && after != ')' && after != TextCursor::kEnd) {
      return cursor_.error(ErrorCode::kUnsupported, cursor_.offset() - 1,
                           "'$' is supported at the ends of the expression alone");
    }
    if (options_.is_search && !is_bound) branch = builder_.sequence({branch, anything()});
    return branch;
  }

  ExprId anything() { return builder_.repeat(spell(CodePoints::all()), 0, kUnbounded); }

  Result<ExprId> parse_branch(uint32_t depth) {
    std::vector<ExprId> parts;
    for (;;) {
      const char32_t c = cursor_.peek();
      if (c == TextCursor::kEnd || c == '|' || c == ')') break;
      if (c == '$' && depth == 0) break;
      US_TRY(builder_.check_size());
      US_ASSIGN(const ExprId part, parse_part(depth));
      parts.push_back(part);
    }
    return builder_.sequence(std::move(parts));
  }

  Result<ExprId> parse_part(uint32_t depth) {
    US_ASSIGN(const ExprId atom, parse_atom(depth));
    US_ASSIGN(const std::optional<Quantifier> quantifier, parse_quantifier(&cursor_));
    if (!quantifier) return atom;
    if (cursor_.peek() == '+') {
      return cursor_.error(ErrorCode::kUnsupported, cursor_.offset(),
                           "possessive quantifiers are not supported");
    }
    cursor_.take_if('?');  // lazy: the same texts match
    const size_t after = cursor_.offset();
    US_ASSIGN(const std::optional<Quantifier> second, parse_quantifier(&cursor_));
    if (second) {
      return cursor_.error(ErrorCode::kInvalidArgument, after, "nothing to repeat");
    }
    return builder_.repeat(atom, quantifier->min, quantifier->max);
  }

  Result<ExprId> parse_atom(uint32_t depth) {
    const size_t begin = cursor_.offset();
    const char32_t c = cursor_.take();
    switch (c) {
      case '(':
        return parse_group(depth, begin);
      case '[': {
        US_ASSIGN(const CodePoints set, parse_class(&cursor_));
        return spell(set);
      }
      case '\\': {
        US_ASSIGN(const CodePoints set, parse_escape(&cursor_, true));
        return spell(set);
      }
      case '.':
        return spell(CodePoints({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}).complement());
      case '*':
      case '+':
      case '?':
        return cursor_.error(ErrorCode::kInvalidArgument, begin, "nothing to repeat");
      case '^':
      case '$':
        return cursor_.error(ErrorCode::kUnsupported, begin,
                             "'^' and '$' are supported at the ends of the expression alone");
      default:
        return spell(CodePoints({{c, c}}));
    }
  }

  Result<ExprId> parse_group(uint32_t depth, size_t begin) {
    if (depth >= kMaxDepth) {
      return cursor_.error(ErrorCode::kOutOfMemory, begin,
                           fmt::format("more than {} nested groups", kMaxDepth));
    }
    US_TRY(skip_group_name(begin));
    std::vector<ExprId> branches;
    do {
      US_ASSIGN(const ExprId branch, parse_branch(depth + 1));
      branches.push_back(branch);
    } while (cursor_.take_if('|'));
    if (!cursor_.take_if(')')) {
      return cursor_.error(ErrorCode::kInvalidArgument, begin, "'(' without ')'");
    }
    return builder_.choice(std::move(branches));
  }

  // (?:...), (?<name>...) and (?P<name>...) are groups like (...).
  Status skip_group_name(size_t begin) {
    if (!cursor_.take_if('?') || cursor_.take_if(':')) return {};
    const bool is_named = cursor_.take_string("P<") || cursor_.take_if('<');
    if (!is_named || cursor_.peek() == '=' || cursor_.peek() == '!') {
      return cursor_.error(ErrorCode::kUnsupported, begin,
                           "look-around, flags and other '(?' groups are not supported");
    }
    while (!cursor_.take_if('>')) {
      if (cursor_.is_at_end()) return cursor_.error("expected '>' after a group's name");
      cursor_.take();
    }
    return {};
  }

  TextCursor cursor_;
  const RegexOptions& options_;
  GrammarBuilder& builder_;
};

}  // namespace

Result<ExprId> add_regex(std::string_view pattern, const RegexOptions& options,
                         GrammarBuilder* builder) {
  US_ASSIGN(TextCursor cursor, TextCursor::open(pattern, options.name));
  return RegexParser(std::move(cursor), options, builder).run();
}

Result<Grammar> parse_regex(std::string_view pattern) {
  GrammarBuilder builder;
  const RegexOptions options;
  const RuleId root = builder.add_rule(options.name);
  US_ASSIGN(const ExprId body, add_regex(pattern, options, &builder));
  builder.set_body(root, body);
  return builder.build(root);
}

}  // namespace ultraspeed::grammar
