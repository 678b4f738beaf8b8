// A compiled regular expression (PCRE2 with UTF, UCP and JIT) with explicit limits: a pattern that
// backtracks without bound gives an error, never a hang or an overflowed stack.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/utf8.h"

// PCRE2's own types; its header stays out of ours.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace ultraspeed::text {

// Immutable after compilation; any number of threads may search with their own RegexMatcher.
class Regex {
 public:
  // Compiles a pattern in Oniguruma's syntax (regex_syntax.h). REQUIRES: valid UTF-8.
  static Result<Regex> compile(std::string_view pattern);
  // Compiles a pattern that matches exactly this text. REQUIRES: valid UTF-8, not empty.
  static Result<Regex> compile_literal(std::string_view text);

 private:
  friend class RegexMatcher;
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, FreeCode>;

  static Result<Regex> compile_pcre2(std::string_view pattern, unsigned options);
  explicit Regex(Code code) : code_(std::move(code)) {}

  Code code_;
};

// What one thread needs to search. REQUIRES: the regex outlives it.
class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);

  // The leftmost match that begins at or after `from`; lookbehind sees the subject before it.
  // Errors: kInvalidArgument when a limit was reached. REQUIRES: subject is valid UTF-8, `from` is
  // the begin of a character or its end.
  Result<std::optional<ByteRange>> find(std::string_view subject, size_t from);

 private:
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
    void operator()(pcre2_real_match_context_8* context) const;
    void operator()(pcre2_real_jit_stack_8* stack) const;
  };

  const Regex* regex_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free> jit_stack_;  // null without JIT
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
};

}  // namespace ultraspeed::text
