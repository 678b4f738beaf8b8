#include "train/json_text.h"

#include <charconv>
#include <system_error>

namespace ultraspeed::train {
namespace {

constexpr std::string_view kJsonSpaces = " \t\r\n";
constexpr std::string_view kWordEnds = " \t\r\n,]}";  // of numbers, true, false and null

}  // namespace

char JsonText::next() {
  while (at_ < text_.size() && kJsonSpaces.find(text_[at_]) != std::string_view::npos) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonText::take(char wanted) {
  if (next() != wanted) return false;
  ++at_;
  return true;
}

bool JsonText::string(std::string* out) {
  if (!take('"')) return false;
  const size_t end = text_.find('"', at_);
  if (end == std::string_view::npos) return false;
  *out = text_.substr(at_, end - at_);
  at_ = end + 1;
  return out->find('\\') == std::string::npos;
}

bool JsonText::numbers(std::vector<uint64_t>* out) {
  if (!take('[')) return false;
  if (take(']')) return true;
  do {
    next();
    uint64_t number = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), number);
    if (error != std::errc()) return false;
    at_ = static_cast<size_t>(end - text_.data());
    out->push_back(number);
  } while (take(','));
  return take(']');
}

bool JsonText::skip() {
  return skip_value(0);
}

bool JsonText::skip_string() {
  if (!take('"')) return false;
  while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
  return at_ < text_.size() && text_[at_++] == '"';
}

bool JsonText::skip_value(uint32_t depth) {
  if (depth > kMaxDepth) return false;
  const char first = next();
  if (first == '"') return skip_string();
  if (first == '{' || first == '[') {
    const char last = first == '{' ? '}' : ']';
    ++at_;
    if (take(last)) return true;
    do {
      if (first == '{' && (!skip_string() || !take(':'))) return false;
      if (!skip_value(depth + 1)) return false;
    } while (take(','));
    return take(last);
  }
  const size_t begin = at_;
  while (at_ < text_.size() && kWordEnds.find(text_[at_]) == std::string_view::npos) ++at_;
  return at_ > begin;
}

}  // namespace ultraspeed::train
