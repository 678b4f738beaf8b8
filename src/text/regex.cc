// The PCRE2 calls. Limits: backtracking is bounded linearly in the subject, so that every pattern
// that reads each character a few times passes at any length and an exponential one fails soon.
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "text/regex_syntax.h"

namespace ultraspeed::text {
namespace {

constexpr uint32_t kMatchLimitBase = 1'000'000;  // backtracking steps for any subject
constexpr uint32_t kMatchLimitPerByte = 16;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackMin = 32 * 1024;
constexpr size_t kJitStackMax = 16 * 1024 * 1024;
constexpr uint32_t kMaxGroupDepth = 100;

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR as_pcre2(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());
}

struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

}  // namespace

void Regex::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

Result<Regex> Regex::compile(std::string_view pattern) {
  US_ASSIGN(const std::string translated, translate_oniguruma(pattern));
  return compile_pcre2(translated, 0);
}

Result<Regex> Regex::compile_literal(std::string_view text) {
  US_CHECK(!text.empty());
  return compile_pcre2(text, PCRE2_LITERAL);
}

Result<Regex> Regex::compile_pcre2(std::string_view pattern, unsigned options) {
  std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      pcre2_compile_context_create(nullptr));
  US_CHECK(context != nullptr, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxGroupDepth);
  const bool is_literal = (options & PCRE2_LITERAL) != 0;
  options |= PCRE2_UTF | (is_literal ? 0 : PCRE2_UCP);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  Code code(pcre2_compile(as_pcre2(pattern), pattern.size(), options, &error, &error_offset,
                          context.get()));
  if (code == nullptr) {
    return make_error(ErrorCode::kInvalidData,
                      "the regular expression does not compile: {} (at byte {} of '{}')",
                      pcre2_message(error), error_offset, pattern);
  }
  // Without JIT (an unsupported processor, or no executable memory) the interpreter runs.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

void RegexMatcher::Free::operator()(pcre2_real_match_data_8* data) const {
  pcre2_match_data_free(data);
}
void RegexMatcher::Free::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}
void RegexMatcher::Free::operator()(pcre2_real_jit_stack_8* stack) const {
  pcre2_jit_stack_free(stack);
}

RegexMatcher::RegexMatcher(const Regex& regex)
    : regex_(&regex),
      data_(pcre2_match_data_create(1, nullptr)),
      jit_stack_(pcre2_jit_stack_create(kJitStackMin, kJitStackMax, nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  US_CHECK(data_ != nullptr && context_ != nullptr, "out of memory");
  pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  if (jit_stack_) pcre2_jit_stack_assign(context_.get(), nullptr, jit_stack_.get());
}

Result<std::optional<ByteRange>> RegexMatcher::find(std::string_view subject, size_t from) {
  US_CHECK(from <= subject.size(), "{} of {}", from, subject.size());
  const uint64_t limit = kMatchLimitBase + uint64_t{kMatchLimitPerByte} * subject.size();
  const auto match_limit = static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX));
  pcre2_set_match_limit(context_.get(), match_limit);
  pcre2_set_depth_limit(context_.get(), match_limit);
  const int result = pcre2_match(regex_->code_.get(), as_pcre2(subject), subject.size(), from,
                                 PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the pre-tokenizer's regular expression gave up after byte {} of a text of "
                      "{} bytes: {}; shorten the text",
                      from, subject.size(), pcre2_message(result));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
  return ByteRange{range[0], range[1]};
}

}  // namespace ultraspeed::text
