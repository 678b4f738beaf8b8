// What both kinds of answer share.
#include "server/answer.h"

#include <fmt/format.h>

#include <iterator>

#include "server/json_text.h"
#include "server/tag_matcher.h"

namespace ultraspeed::server {

std::string_view finish_reason_json(const AnswerEnd& end) {
  if (end.is_late) return R"("deadline")";
  // A constraint that allows no further token has what it asked for.
  return end.reason == engine::FinishReason::kLength ? R"("length")" : R"("stop")";
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

void append_error_event(std::string& out, const ApiError& error) {
  net::append_sse_event(out, error_json(error));
  net::append_sse_event(out, "[DONE]");
}

std::string object_begin(const AnswerHead& head, std::string_view object) {
  std::string out = R"({"id":)";
  append_json_string(out, head.id);
  fmt::format_to(std::back_inserter(out), R"(,"object":"{}","created":{},"model":)", object,
                 head.created_s);
  append_json_string(out, head.model);
  out += R"(,"system_fingerprint":)";
  append_json_string(out, head.system_fingerprint);
  if (!head.service_tier.empty()) {
    out += R"(,"service_tier":)";
    append_json_string(out, head.service_tier);
  }
  return out;
}

void append_usage(std::string& out, const Usage& usage, std::optional<size_t> reasoning_tokens) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                 R"("prompt_tokens_details":{{"cached_tokens":{}}})",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
  if (reasoning_tokens) {
    fmt::format_to(std::back_inserter(out),
                   R"(,"completion_tokens_details":{{"reasoning_tokens":{}}})", *reasoning_tokens);
  }
  out += '}';
}

void append_timings(std::string& out, const Usage& usage) {
  if (!usage.timings) return;
  fmt::format_to(
      std::back_inserter(out),
      R"(,"timings":{{"prefill_ms":{:.3f},"tokens_per_second":{:.3f},"accepted_length":{:.3f}}})",
      usage.timings->prefill_ms, usage.timings->tokens_per_second, usage.timings->accepted_length);
}

}  // namespace ultraspeed::server
