// Answers of /v1/completions: text_completion objects, the same for chunks and the whole.
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

class CompletionAnswer final : public Answer {
 public:
  CompletionAnswer(AnswerHead head, const AnswerOptions& options, const text::Tokenizer& tokenizer,
                   std::string echo)
      : options_(options),
        tokenizer_(tokenizer),
        begin_(object_begin(head, "text_completion")),
        text_offset_(count_characters(echo)),
        text_(std::move(echo)) {}

  void stream_begin(std::string& out) override {
    if (!text_.empty()) append_chunk(text_, "null", {}, out);
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    const bool has_logprobs = options_.has_logprobs && !piece.tokens.empty();
    if (!piece.text.empty() || has_logprobs) append_chunk(piece.text, "null", piece.tokens, out);
  }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    std::string timings;
    append_timings(timings, end.usage);
    append_chunk("", finish_reason_json(end.reason), {}, out,
                 options_.include_usage ? "" : timings);
    if (options_.include_usage) {
      std::string json = begin_ + R"(,"choices":[],"usage":)";
      append_usage(json, end.usage);
      json += timings + '}';
      net::append_sse_event(out, json);
    }
    net::append_sse_event(out, "[DONE]");
  }

  void stream_error(const ApiError& error, std::string& out) override {
    append_error_event(out, error);
  }

  void add(const AnswerPiece& piece) override {
    text_ += piece.text;
    if (options_.has_logprobs) {
      tokens_.insert(tokens_.end(), piece.tokens.begin(), piece.tokens.end());
    }
  }

  void whole(const AnswerEnd& end, std::string& out) override {
    out += begin_;
    append_choice(text_, finish_reason_json(end.reason), tokens_, out);
    out += R"(,"usage":)";
    append_usage(out, end.usage);
    append_timings(out, end.usage);
    out += '}';
  }

 private:
  void append_choice(std::string_view text, std::string_view finish_reason,
                     std::span<const engine::Token> tokens, std::string& out) {
    out += R"(,"choices":[{"index":0,"text":)";
    append_json_string(out, text);
    out += R"(,"logprobs":)";
    if (options_.has_logprobs && !tokens.empty()) {
      append_completion_logprobs(out, tokenizer_, tokens, &text_offset_);
    } else {
      out += "null";
    }
    out += R"(,"finish_reason":)";
    out += finish_reason;
    out += "}]";
  }

  void append_chunk(std::string_view text, std::string_view finish_reason,
                    std::span<const engine::Token> tokens, std::string& out,
                    std::string_view timings = {}) {
    std::string json = begin_;
    append_choice(text, finish_reason, tokens, json);
    if (options_.include_usage) json += R"(,"usage":null)";
    json += timings;
    json += '}';
    net::append_sse_event(out, json);
  }

  const AnswerOptions options_;
  const text::Tokenizer& tokenizer_;
  const std::string begin_;
  size_t text_offset_;  // of the next token, in characters
  std::string text_;
  std::vector<engine::Token> tokens_;
};

}  // namespace

std::unique_ptr<Answer> make_completion_answer(AnswerHead head, const AnswerOptions& options,
                                               const text::Tokenizer& tokenizer, std::string echo) {
  return std::make_unique<CompletionAnswer>(std::move(head), options, tokenizer, std::move(echo));
}

}  // namespace ultraspeed::server
