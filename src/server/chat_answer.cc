// Answers of /v1/chat/completions: chat.completion and chat.completion.chunk objects. Reasoning
// goes to reasoning_content. Tool calls stay in the content as the model wrote them.
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(AnswerHead head, const AnswerOptions& options, const text::Tokenizer& tokenizer,
             bool starts_in_reasoning)
      : head_(std::move(head)),
        options_(options),
        tokenizer_(tokenizer),
        chunk_begin_(object_begin(head_, "chat.completion.chunk")),
        parser_(starts_in_reasoning) {}

  void stream_begin(std::string& out) override {
    append_chunk(R"({"role":"assistant","content":""})", "null", {}, out);
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    append_delta(parser_.push(piece.text), piece.tokens, out);
  }

  void stream_end(engine::FinishReason reason, const Usage& usage, std::string& out) override {
    append_delta(parser_.finish(), {}, out);
    std::string timings;
    append_timings(timings, usage);
    append_chunk("{}", finish_reason_json(reason), {}, out, options_.include_usage ? "" : timings);
    if (options_.include_usage) {
      std::string json = chunk_begin_ + R"(,"choices":[],"usage":)";
      append_usage(json, usage);
      json += timings + '}';
      net::append_sse_event(out, json);
    }
    net::append_sse_event(out, "[DONE]");
  }

  void add(const AnswerPiece& piece) override {
    add_delta(parser_.push(piece.text));
    if (options_.has_logprobs) {
      tokens_.insert(tokens_.end(), piece.tokens.begin(), piece.tokens.end());
    }
  }

  void whole(engine::FinishReason reason, const Usage& usage, std::string& out) override {
    add_delta(parser_.finish());
    out += object_begin(head_, "chat.completion");
    out += R"(,"choices":[{"index":0,"message":{"role":"assistant","content":)";
    append_json_string(out, content_);
    if (!reasoning_.empty()) {
      out += R"(,"reasoning_content":)";
      append_json_string(out, reasoning_);
    }
    out += R"(,"refusal":null},"logprobs":)";
    append_logprobs(tokens_, out);
    out += R"(,"finish_reason":)";
    out += finish_reason_json(reason);
    out += R"(}],"usage":)";
    append_usage(out, usage);
    append_timings(out, usage);
    out += '}';
  }

 private:
  void add_delta(const ChatDelta& delta) {
    reasoning_ += delta.reasoning;
    content_ += delta.content;
  }

  void append_logprobs(std::span<const engine::Token> tokens, std::string& out) const {
    if (!options_.has_logprobs) {
      out += "null";
    } else {
      append_chat_logprobs(out, tokenizer_, tokens);
    }
  }

  void append_delta(const ChatDelta& delta, std::span<const engine::Token> tokens,
                    std::string& out) const {
    const bool has_text = !delta.reasoning.empty() || !delta.content.empty();
    if (!has_text && (tokens.empty() || !options_.has_logprobs)) return;
    std::string json = "{";
    if (!delta.reasoning.empty()) {
      json += R"("reasoning_content":)";
      append_json_string(json, delta.reasoning);
    }
    if (!delta.content.empty()) {
      json += delta.reasoning.empty() ? R"("content":)" : R"(,"content":)";
      append_json_string(json, delta.content);
    }
    json += '}';
    append_chunk(json, "null", tokens, out);
  }

  void append_chunk(std::string_view delta, std::string_view finish_reason,
                    std::span<const engine::Token> tokens, std::string& out,
                    std::string_view timings = {}) const {
    std::string json = chunk_begin_ + R"(,"choices":[{"index":0,"delta":)";
    json += delta;
    json += R"(,"logprobs":)";
    if (tokens.empty()) {
      json += "null";
    } else {
      append_logprobs(tokens, json);
    }
    json += R"(,"finish_reason":)";
    json += finish_reason;
    json += options_.include_usage ? R"(}],"usage":null)" : "}]";
    json += timings;
    json += '}';
    net::append_sse_event(out, json);
  }

  const AnswerHead head_;
  const AnswerOptions options_;
  const text::Tokenizer& tokenizer_;
  const std::string chunk_begin_;
  ReasoningParser parser_;
  std::string reasoning_;
  std::string content_;
  std::vector<engine::Token> tokens_;
};

}  // namespace

std::unique_ptr<Answer> make_chat_answer(AnswerHead head, const AnswerOptions& options,
                                         const text::Tokenizer& tokenizer,
                                         bool starts_in_reasoning) {
  return std::make_unique<ChatAnswer>(std::move(head), options, tokenizer, starts_in_reasoning);
}

}  // namespace ultraspeed::server
