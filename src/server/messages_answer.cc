// Answers of Anthropic's /v1/messages: a message of blocks (thinking, text, tool_use), whole or as
// the events that build it up.
#include <fmt/format.h>

#include <iterator>
#include <optional>
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

// Clients send a thinking block back only if it is signed. Nothing is checked when it comes.
constexpr std::string_view kSignature = "ultraspeed";

// This API knows of no slower tier than the standard one.
std::string_view shown_tier(std::string_view tier) {
  if (tier.empty()) return "null";
  return tier == "priority" ? R"("priority")" : R"("standard")";
}

// Tokens that come from the cache are not among input_tokens.
void append_message_usage(std::string& out, const Usage& usage, const AnswerHead& head) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"input_tokens":{},"cache_creation_input_tokens":0,)"
                 R"("cache_read_input_tokens":{},"output_tokens":{},"cache_creation":null,)"
                 R"("inference_geo":null,"output_tokens_details":null,"server_tool_use":null,)"
                 R"("service_tier":{},"speed":{},"fallback_credit":null,"iterations":null}})",
                 usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens,
                 usage.completion_tokens, shown_tier(head.service_tier),
                 head.speed.empty() ? "null" : fmt::format(R"("{}")", head.speed));
}

class MessagesAnswer final : public Answer {
 public:
  MessagesAnswer(AnswerHead head, size_t prompt_tokens, ChatTurn turn)
      : head_(std::move(head)), prompt_tokens_(prompt_tokens), turn_(std::move(turn)) {}

  void stream_begin(std::string& out) override {
    std::string json = R"({"type":"message_start","message":)";
    append_message_begin(json);
    json += R"("content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":)";
    append_message_usage(json, {prompt_tokens_, 0}, head_);
    json += "}}";
    net::append_sse_event(out, "message_start", json);
    out += keepalive();
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    for (const ChatEvent& event : turn_.push(piece.text)) append_event(event, out);
  }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    for (const ChatEvent& event : turn_.finish(end.was_cut_off())) append_event(event, out);
    end_block(out);
    std::string json =
        R"({"type":"message_delta","context_management":null,"delta":{"container":null,)";
    append_stop(end, json);
    json += R"(},"usage":)";
    append_message_usage(json, end.usage, head_);
    append_timings(json, end.usage);
    json += '}';
    net::append_sse_event(out, "message_delta", json);
    net::append_sse_event(out, "message_stop", R"({"type":"message_stop"})");
  }

  void stream_error(const ApiError& error, std::string& out) override {
    net::append_sse_event(out, "error", messages_error_json(error, head_.request_id));
  }

  std::string_view keepalive() const override {
    return "event: ping\ndata: {\"type\":\"ping\"}\n\n";
  }

  void add(const AnswerPiece& piece) override { turn_.push(piece.text); }

  void end(const AnswerEnd& end) override { turn_.finish(end.was_cut_off()); }

  void whole(std::span<const AnswerEnd> chosen, std::string& out) override {
    const AnswerEnd& end = chosen.front();
    append_message_begin(out);
    out += R"("content":[)";
    for (const ChatBlock& block : turn_.blocks()) {
      if (&block != &turn_.blocks().front()) out += ',';
      append_block(block, out);
    }
    out += "],";
    append_stop(end, out);
    out += R"(,"usage":)";
    append_message_usage(out, end.usage, head_);
    append_timings(out, end.usage);
    out += '}';
  }

  bool is_done(size_t /*choice*/) const override { return turn_.is_done(); }

 private:
  using Kind = ChatBlock::Kind;

  void append_message_begin(std::string& out) const {
    out += R"({"id":)";
    append_json_string(out, head_.id);
    out += R"(,"type":"message","role":"assistant","model":)";
    append_json_string(out, head_.model);
    out += R"(,"container":null,"context_management":null,"diagnostics":null,)";
  }

  void append_stop(const AnswerEnd& end, std::string& out) const {
    std::string_view reason = "end_turn";
    if (end.reason == engine::FinishReason::kLength) {
      reason = "max_tokens";
    } else if (!end.stop_string.empty()) {
      reason = "stop_sequence";
    } else if (turn_.has_calls()) {
      reason = "tool_use";
    }
    fmt::format_to(std::back_inserter(out), R"("stop_reason":"{}","stop_sequence":)", reason);
    if (end.stop_string.empty()) {
      out += "null";
    } else {
      append_json_string(out, end.stop_string);
    }
    out += R"(,"stop_details":null)";
  }

  // A block without its text or arguments is how a stream begins it.
  static void append_block(const ChatBlock& block, std::string& out) {
    if (block.kind == Kind::kContent) {
      out += R"({"type":"text","citations":null,"text":)";
      append_json_string(out, block.text);
    } else if (block.kind == Kind::kReasoning) {
      out += R"({"type":"thinking","thinking":)";
      append_json_string(out, block.text);
      out += R"(,"signature":)";
      append_json_string(out, block.text.empty() ? std::string_view() : kSignature);
    } else {
      out += R"({"type":"tool_use","caller":{"type":"direct"},"id":)";
      append_json_string(out, block.id);
      out += R"(,"name":)";
      append_json_string(out, block.name);
      out += R"(,"input":)";
      out += block.arguments;
    }
    out += '}';
  }

  void append_event(const ChatEvent& event, std::string& out) {
    switch (event.kind) {
      case ChatEvent::Kind::kReasoning:
        if (open_ != Kind::kReasoning) begin_block({Kind::kReasoning, {}, {}, {}, {}}, out);
        return append_delta("thinking_delta", "thinking", event.text, out);
      case ChatEvent::Kind::kContent:
        if (open_ != Kind::kContent) begin_block({Kind::kContent, {}, {}, {}, {}}, out);
        return append_delta("text_delta", "text", event.text, out);
      case ChatEvent::Kind::kCallBegin:
        return begin_block({Kind::kCall, {}, event.id, event.text, "{}"}, out);
      case ChatEvent::Kind::kCallArguments:
        return append_delta("input_json_delta", "partial_json", event.text, out);
      case ChatEvent::Kind::kCallEnd:
        return end_block(out);
    }
  }

  void begin_block(const ChatBlock& block, std::string& out) {
    end_block(out);
    open_ = block.kind;
    std::string json =
        fmt::format(R"({{"type":"content_block_start","index":{},"content_block":)", num_blocks_);
    append_block(block, json);
    json += '}';
    net::append_sse_event(out, "content_block_start", json);
  }

  void append_delta(std::string_view type, std::string_view name, std::string_view text,
                    std::string& out) const {
    const bool is_thinking = type == "thinking_delta";
    std::string json =
        fmt::format(R"({{"type":"content_block_delta","index":{},"delta":{{"type":"{}",{}"{}":)",
                    num_blocks_, type, is_thinking ? R"("estimated_tokens":null,)" : "", name);
    append_json_string(json, text);
    json += "}}";
    net::append_sse_event(out, "content_block_delta", json);
  }

  void end_block(std::string& out) {
    if (!open_) return;
    if (*open_ == Kind::kReasoning) append_delta("signature_delta", "signature", kSignature, out);
    net::append_sse_event(
        out, "content_block_stop",
        fmt::format(R"({{"type":"content_block_stop","index":{}}})", num_blocks_));
    ++num_blocks_;
    open_.reset();
  }

  const AnswerHead head_;
  const size_t prompt_tokens_;
  ChatTurn turn_;
  std::optional<Kind> open_;  // the block that a stream is in
  size_t num_blocks_ = 0;     // of a stream that have ended
};

}  // namespace

std::unique_ptr<Answer> make_messages_answer(AnswerHead head, size_t prompt_tokens, ChatTurn turn) {
  return std::make_unique<MessagesAnswer>(std::move(head), prompt_tokens, std::move(turn));
}

}  // namespace ultraspeed::server
