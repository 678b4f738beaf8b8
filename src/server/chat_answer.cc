// Answers of /v1/chat/completions: chat.completion and chat.completion.chunk objects. Reasoning
// goes to reasoning_content, calls go to tool_calls.
#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

// What one engine step adds to a message.
class Delta {
 public:
  explicit Delta(const std::vector<ChatEvent>& events) {
    for (const ChatEvent& event : events) add(event);
  }

  std::string json() const {
    std::string json = "{";
    append_member("reasoning_content", reasoning_, json);
    append_member("content", content_, json);
    if (!calls_.empty()) {
      json += json.size() > 1 ? R"(,"tool_calls":[)" : R"("tool_calls":[)";
      json += calls_;
      json += is_open_ ? "\"}}]" : "]";
    }
    json += '}';
    return json;
  }

 private:
  void add(const ChatEvent& event) {
    switch (event.kind) {
      case ChatEvent::Kind::kReasoning:
        reasoning_ += event.text;
        break;
      case ChatEvent::Kind::kContent:
        content_ += event.text;
        break;
      case ChatEvent::Kind::kCallBegin:
        begin_entry(event.call);
        calls_ += R"("id":)";
        append_json_string(calls_, event.id);
        calls_ += R"(,"type":"function","function":{"name":)";
        append_json_string(calls_, event.text);
        calls_ += R"(,"arguments":")";
        break;
      case ChatEvent::Kind::kCallArguments:
        if (!is_open_) {
          begin_entry(event.call);
          calls_ += R"("function":{"arguments":")";
        }
        append_json_escaped(calls_, event.text);
        break;
      case ChatEvent::Kind::kCallEnd:
        end_entry();
        break;
    }
  }

  // An entry stays open for more arguments.
  void begin_entry(size_t index) {
    fmt::format_to(std::back_inserter(calls_), "{}{{\"index\":{},", calls_.empty() ? "" : ",",
                   index);
    is_open_ = true;
  }
  void end_entry() {
    if (is_open_) calls_ += "\"}}";
    is_open_ = false;
  }

  static void append_member(std::string_view name, std::string_view text, std::string& json) {
    if (text.empty()) return;
    fmt::format_to(std::back_inserter(json), "{}\"{}\":", json.size() > 1 ? "," : "", name);
    append_json_string(json, text);
  }

  std::string reasoning_;
  std::string content_;
  std::string calls_;  // elements of tool_calls
  bool is_open_ = false;
};

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(AnswerHead head, const AnswerOptions& options, const text::Tokenizer& tokenizer,
             ChatTurn turn)
      : head_(std::move(head)),
        options_(options),
        tokenizer_(tokenizer),
        chunk_begin_(object_begin(head_, "chat.completion.chunk")),
        turn_(std::move(turn)) {}

  void stream_begin(std::string& out) override {
    append_chunk(R"({"role":"assistant","content":""})", "null", {}, out);
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    append_delta(turn_.push(piece.text), piece.tokens, out);
  }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    append_delta(turn_.finish(end.was_cut_off()), {}, out);
    std::string timings;
    append_timings(timings, end.usage);
    append_chunk("{}", reason_json(end), {}, out, options_.include_usage ? "" : timings);
    if (options_.include_usage) {
      std::string json = chunk_begin_ + R"(,"choices":[],"usage":)";
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
    turn_.push(piece.text);
    if (options_.has_logprobs) {
      tokens_.insert(tokens_.end(), piece.tokens.begin(), piece.tokens.end());
    }
  }

  void whole(const AnswerEnd& end, std::string& out) override {
    turn_.finish(end.was_cut_off());
    out += object_begin(head_, "chat.completion");
    out += R"(,"choices":[{"index":0,"message":)";
    append_message(out);
    out += R"(,"logprobs":)";
    append_logprobs(tokens_, out);
    out += R"(,"finish_reason":)";
    out += reason_json(end);
    out += R"(}],"usage":)";
    append_usage(out, end.usage);
    append_timings(out, end.usage);
    out += '}';
  }

  bool is_done() const override { return turn_.is_done(); }

 private:
  // A turn that ends by itself with calls waits for their results.
  std::string_view reason_json(const AnswerEnd& end) const {
    if (end.reason == engine::FinishReason::kLength || turn_.was_call_cut_off()) {
      return finish_reason_json(engine::FinishReason::kLength);
    }
    return turn_.has_calls() ? R"("tool_calls")" : finish_reason_json(end.reason);
  }

  void append_message(std::string& out) const {
    std::string reasoning;
    std::string content;
    std::string calls;
    for (const ChatBlock& block : turn_.blocks()) {
      if (block.kind == ChatBlock::Kind::kReasoning) reasoning += block.text;
      if (block.kind == ChatBlock::Kind::kContent) content += block.text;
      if (block.kind == ChatBlock::Kind::kCall) append_call(block, calls);
    }
    out += R"({"role":"assistant","content":)";
    if (content.empty() && !calls.empty()) {
      out += "null";
    } else {
      append_json_string(out, content);
    }
    if (!reasoning.empty()) {
      out += R"(,"reasoning_content":)";
      append_json_string(out, reasoning);
    }
    if (!calls.empty()) {
      out += R"(,"tool_calls":[)";
      out += calls;
      out += ']';
    }
    out += R"(,"refusal":null})";
  }

  static void append_call(const ChatBlock& call, std::string& out) {
    out += out.empty() ? R"({"id":)" : R"(,{"id":)";
    append_json_string(out, call.id);
    out += R"(,"type":"function","function":{"name":)";
    append_json_string(out, call.name);
    out += R"(,"arguments":)";
    append_json_string(out, call.arguments);
    out += "}}";
  }

  void append_logprobs(std::span<const engine::Token> tokens, std::string& out) const {
    if (!options_.has_logprobs) {
      out += "null";
    } else {
      append_chat_logprobs(out, tokenizer_, tokens);
    }
  }

  void append_delta(const std::vector<ChatEvent>& events, std::span<const engine::Token> tokens,
                    std::string& out) const {
    const std::string delta = Delta(events).json();
    const bool has_logprobs = options_.has_logprobs && !tokens.empty();
    if (delta != "{}" || has_logprobs) append_chunk(delta, "null", tokens, out);
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
  ChatTurn turn_;
  std::vector<engine::Token> tokens_;
};

}  // namespace

std::unique_ptr<Answer> make_chat_answer(AnswerHead head, const AnswerOptions& options,
                                         const text::Tokenizer& tokenizer, ChatTurn turn) {
  return std::make_unique<ChatAnswer>(std::move(head), options, tokenizer, std::move(turn));
}

}  // namespace ultraspeed::server
