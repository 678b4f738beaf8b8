// The little JSON that this module reads; it is built where no JSON library is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::train {

// Reads a text from its beginning on. Every function is false for what it does not read; then
// nothing more may be asked.
class JsonText {
 public:
  // REQUIRES: the text outlives it.
  explicit JsonText(std::string_view text) : text_(text) {}

  // `member` is given a key and reads the value.
  template <class Member>
  bool object(const Member& member) {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      std::string key;
      if (!string(&key) || !take(':') || !member(key)) return false;
    } while (take(','));
    return take('}');
  }

  bool string(std::string* out);  // without escapes
  bool numbers(std::vector<uint64_t>* out);
  bool skip();  // any value, nested at most kMaxDepth deep
  bool is_at_end() { return next() == '\0'; }

 private:
  static constexpr uint32_t kMaxDepth = 64;

  char next();  // that is no space; 0 at the end
  bool take(char wanted);
  bool skip_string();
  bool skip_value(uint32_t depth);

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace ultraspeed::train
