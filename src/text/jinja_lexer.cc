// The lexer proper: template text outside of tags, tags, and white space control between them.
// What stands inside tags is read by jinja_lexer_tag.cc.
#include "text/jinja_lexer.h"

#include <algorithm>

#include "text/jinja_lexer_tag.h"
#include "text/jinja_text.h"

namespace ultraspeed::text::jinja {

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::string describe_position(std::string_view source, size_t offset) {
  const std::string_view before = source.substr(0, std::min(offset, source.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("line {}, column {}", line, count_chars(before.substr(line_begin)) + 1);
}

Error template_error(std::string_view source, size_t offset, std::string_view message) {
  return {ErrorCode::kInvalidData,
          fmt::format("chat template, {}: {}", describe_position(source, offset), message)};
}

namespace {

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) {
      const size_t open = find_tag();
      if (open == std::string_view::npos) {
        add_data(source_.substr(at_));
        break;
      }
      US_TRY(read_tag(open));
      line_starting_ = source_[at_ - 1] == '\n';
    }
    tokens_.push_back({TokenKind::kEnd, source_.size(), {}});
    return std::move(tokens_);
  }

 private:
  // The next "{{", "{%" or "{#".
  size_t find_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string_view::npos;
         i = source_.find('{', i + 1)) {
      const std::string_view open = source_.substr(i, 2);
      if (open == "{{" || open == "{%" || open == "{#") return i;
    }
    return std::string_view::npos;
  }

  void add_data(std::string_view data) {
    if (data.empty()) return;
    const auto offset = static_cast<size_t>(data.data() - source_.data());
    tokens_.push_back({TokenKind::kData, offset, std::string(data)});
  }

  // Adds the data between at_ and a tag, stripped as the tag's sign and kind ask.
  void add_data_before(std::string_view data, char sign, bool is_print) {
    if (sign == '-') {
      data = data.substr(0, trailing_space_begin(data));
    } else if (sign != '+' && !is_print) {
      const size_t line_begin = data.rfind('\n') + 1;
      if ((line_begin > 0 || line_starting_) && trailing_space_begin(data) <= line_begin) {
        data = data.substr(0, line_begin);
      }
    }
    add_data(data);
  }

  char sign_at(size_t at) const {
    if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) return source_[at];
    return 0;
  }

  size_t skip_space(size_t at) const { return at + leading_space_end(source_.substr(at)); }

  // Where the text goes on after a tag's end "SIGN end" at `at`: "-" takes all white space, no sign
  // takes one newline when the tag trims. `at` points at the sign or the end.
  size_t after_end(size_t at, bool trims) const {
    const char sign = sign_at(at);
    size_t next = at + (sign ? 3 : 2);
    if (sign == '-') return skip_space(next);
    if (sign == 0 && trims && next < source_.size() && source_[next] == '\n') ++next;
    return next;
  }

  Status read_tag(size_t open) {
    const std::string_view data = source_.substr(at_, open - at_);
    const char kind = source_[open + 1];
    const char sign = sign_at(open + 2);
    add_data_before(data, sign, kind == '{');
    const size_t inside = open + (sign ? 3 : 2);
    if (kind == '#') return read_comment(open, inside);
    if (kind == '%' && is_raw(inside)) return read_raw(open, inside);
    return read_expression_tag(open, inside, kind == '{');
  }

  Status read_comment(size_t open, size_t inside) {
    const size_t close = source_.find("#}", inside);
    if (close == std::string_view::npos) {
      return tl::unexpected(template_error(source_, open, "the comment is not closed by '#}'"));
    }
    const bool has_sign = close > inside && sign_at(close - 1) != 0;
    at_ = after_end(has_sign ? close - 1 : close, true);
    return {};
  }

  // "{%", a sign or none, "raw", "%}" or "-%}".
  bool is_raw(size_t inside) const {
    const size_t name = skip_space(inside);
    if (source_.substr(name, 3) != "raw") return false;
    const std::string_view end = source_.substr(skip_space(name + 3));
    return end.starts_with("%}") || end.starts_with("-%}");
  }

  Status read_raw(size_t open, size_t inside) {
    const size_t end = source_.find("%}", inside);
    at_ = after_end(source_[end - 1] == '-' ? end - 1 : end, false);
    line_starting_ = source_[at_ - 1] == '\n';
    for (size_t i = source_.find("{%", at_); i != std::string_view::npos;
         i = source_.find("{%", i + 1)) {
      const char sign = sign_at(i + 2);
      const size_t name = skip_space(i + (sign ? 3 : 2));
      if (source_.substr(name, 6) != "endraw") continue;
      const size_t close = skip_space(name + 6);
      const size_t close_sign = sign_at(close) ? 1 : 0;
      if (source_.substr(close + close_sign, 2) != "%}") continue;
      add_data_before(source_.substr(at_, i - at_), sign, false);
      at_ = after_end(close, true);
      return {};
    }
    return tl::unexpected(template_error(source_, open, "{% raw %} is not closed by {% endraw %}"));
  }

  Status read_expression_tag(size_t open, size_t inside, bool is_print) {
    tokens_.push_back({is_print ? TokenKind::kPrintBegin : TokenKind::kBlockBegin, open, {}});
    const std::string_view end = is_print ? "}}" : "%}";
    TagLexer tag(source_, inside, tokens_);
    while (true) {
      at_ = skip_space(tag.at());
      tag.move_to(at_);
      // Inside brackets "}}" is two operators: {{ {'a': {}} }}.
      if (tag.is_balanced()) {
        const char sign = sign_at(at_);
        const bool may_sign = sign == '-' || (sign == '+' && !is_print);
        if (source_.substr(at_ + (may_sign ? 1 : 0), 2) == end) break;
      }
      if (at_ >= source_.size()) {
        return tl::unexpected(
            template_error(source_, open, fmt::format("the tag is not closed by '{}'", end)));
      }
      US_TRY(tag.read_token());
    }
    tokens_.push_back({is_print ? TokenKind::kPrintEnd : TokenKind::kBlockEnd, at_, {}});
    at_ = after_end(at_, !is_print);
    return {};
  }

  std::string_view source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace ultraspeed::text::jinja
