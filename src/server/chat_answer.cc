// Answers of /v1/chat/completions: chat.completion and chat.completion.chunk objects. Reasoning
// goes to reasoning_content, calls go to tool_calls.
#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"
#include "server/think_block.h"

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
             std::vector<ChatTurn> turns)
      : head_(std::move(head)),
        options_(options),
        tokenizer_(tokenizer),
        chunk_begin_(object_begin(head_, "chat.completion.chunk")),
        turns_(std::move(turns)),
        thinks_(turns_.size(), ThinkBlock(tokenizer, options.starts_in_reasoning, options.syntax)),
        tokens_(turns_.size()),
        num_tokens_(turns_.size()) {}

  void stream_begin(std::string& out) override {
    for (size_t choice = 0; choice < turns_.size(); ++choice) {
      append_chunk(choice, R"({"role":"assistant","content":""})", "null", {}, out);
    }
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    num_tokens_[piece.choice] += piece.tokens.size();
    append_delta(piece.choice, push(piece), piece.tokens, out);
  }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    append_delta(end.choice, turns_[end.choice].finish(end.was_cut_off()), {}, out);
    std::string timings;
    append_timings(timings, end.usage);
    append_chunk(end.choice, "{}", reason_json(end), {}, out,
                 options_.include_usage ? "" : timings);
    if (!end.is_last) return;
    if (options_.include_usage) {
      std::string json = chunk_begin_ + R"(,"choices":[],"usage":)";
      append_usage(json, end.usage, num_reasoning_tokens());
      json += timings + '}';
      net::append_sse_event(out, json);
    }
    net::append_sse_event(out, "[DONE]");
  }

  void stream_error(const ApiError& error, std::string& out) override {
    append_error_event(out, error);
  }

  void add(const AnswerPiece& piece) override {
    push(piece);
    if (!options_.has_logprobs) return;
    auto& tokens = tokens_[piece.choice];
    tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
  }

  void add_prompt(size_t /*choice*/, std::span<const engine::Token> tokens) override {
    prompt_.insert(prompt_.end(), tokens.begin(), tokens.end());
  }

  void end(const AnswerEnd& end) override { turns_[end.choice].finish(end.was_cut_off()); }

  void whole(std::span<const AnswerEnd> chosen, std::string& out) override {
    out += object_begin(head_, "chat.completion");
    out += R"(,"choices":[)";
    for (size_t i = 0; i < chosen.size(); ++i) {
      fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"message":)", i > 0 ? "," : "", i);
      append_message(turns_[chosen[i].choice], out);
      out += R"(,"logprobs":)";
      append_logprobs(tokens_[chosen[i].choice], out);
      out += R"(,"finish_reason":)";
      out += reason_json(chosen[i]);
      out += '}';
    }
    out += R"(],"usage":)";
    append_usage(out, chosen.back().usage, num_reasoning_tokens());
    append_timings(out, chosen.back().usage);
    if (!prompt_.empty()) {
      out += R"(,"prompt_logprobs":)";
      append_prompt_logprobs(out, tokenizer_, prompt_);
    }
    out += '}';
  }

  bool is_done(size_t choice) const override { return turns_[choice].is_done(); }

  std::string content(size_t choice) const override {
    std::string text;
    for (const ChatBlock& block : turns_[choice].blocks()) {
      if (block.kind == ChatBlock::Kind::kContent) text += block.text;
      if (block.kind == ChatBlock::Kind::kCall) text += block.name + block.arguments;
    }
    return trimmed(text);
  }

 private:
  std::vector<ChatEvent> push(const AnswerPiece& piece) {
    ThinkBlock& think = thinks_[piece.choice];
    for (const engine::Token& token : piece.tokens) think.take(token.id);
    std::vector<ChatEvent> events = turns_[piece.choice].push(piece.text);
    for (const ChatEvent& event : events) {
      if (event.kind != ChatEvent::Kind::kReasoning) think.end();
    }
    return events;
  }

  // Of all candidates, as the usage counts.
  size_t num_reasoning_tokens() const {
    size_t sum = 0;
    for (const ThinkBlock& think : thinks_) sum += think.num_tokens();
    return sum;
  }

  // A turn that ends by itself with calls waits for their results.
  std::string_view reason_json(const AnswerEnd& end) const {
    const ChatTurn& turn = turns_[end.choice];
    if (end.is_late || end.reason == engine::FinishReason::kLength) return finish_reason_json(end);
    if (turn.was_call_cut_off()) return R"("length")";
    return turn.has_calls() ? R"("tool_calls")" : finish_reason_json(end);
  }

  static void append_message(const ChatTurn& turn, std::string& out) {
    std::string reasoning;
    std::string content;
    std::string calls;
    for (const ChatBlock& block : turn.blocks()) {
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

  void append_delta(size_t choice, const std::vector<ChatEvent>& events,
                    std::span<const engine::Token> tokens, std::string& out) const {
    const std::string delta = Delta(events).json();
    const bool has_logprobs = options_.has_logprobs && !tokens.empty();
    if (delta != "{}" || has_logprobs) append_chunk(choice, delta, "null", tokens, out);
  }

  void append_chunk(size_t choice, std::string_view delta, std::string_view finish_reason,
                    std::span<const engine::Token> tokens, std::string& out,
                    std::string_view timings = {}) const {
    std::string json = chunk_begin_;
    fmt::format_to(std::back_inserter(json), R"(,"choices":[{{"index":{},"delta":)", choice);
    json += delta;
    json += R"(,"logprobs":)";
    if (tokens.empty()) {
      json += "null";
    } else {
      append_logprobs(tokens, json);
    }
    json += R"(,"finish_reason":)";
    json += finish_reason;
    json += "}]";
    append_chunk_usage(choice, json);
    json += timings;
    json += '}';
    net::append_sse_event(out, json);
  }

  void append_chunk_usage(size_t choice, std::string& json) const {
    if (options_.has_continuous_usage) {
      fmt::format_to(std::back_inserter(json),
                     R"(,"usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{}}})",
                     options_.prompt_tokens, num_tokens_[choice],
                     options_.prompt_tokens + num_tokens_[choice]);
    } else if (options_.include_usage) {
      json += R"(,"usage":null)";
    }
  }

  const AnswerHead head_;
  const AnswerOptions options_;
  const text::Tokenizer& tokenizer_;
  const std::string chunk_begin_;
  std::vector<ChatTurn> turns_;                     // [candidates]
  std::vector<ThinkBlock> thinks_;                  // [turns_]
  std::vector<std::vector<engine::Token>> tokens_;  // [candidates]
  std::vector<size_t> num_tokens_;                  // [candidates], streamed
  std::vector<engine::Token> prompt_;               // with prompt_logprobs
};

}  // namespace

std::unique_ptr<Answer> make_chat_answer(AnswerHead head, const AnswerOptions& options,
                                         const text::Tokenizer& tokenizer,
                                         std::vector<ChatTurn> turns) {
  return std::make_unique<ChatAnswer>(std::move(head), options, tokenizer, std::move(turns));
}

}  // namespace ultraspeed::server
