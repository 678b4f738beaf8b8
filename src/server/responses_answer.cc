#include "server/responses_answer.h"

#include <fmt/format.h>

#include <ctime>
#include <iterator>
#include <optional>
#include <utility>

#include "net/sse.h"
#include "server/json_text.h"
#include "server/responses_items.h"
#include "server/socket_turn.h"
#include "server/think_block.h"

namespace ultraspeed::server {
namespace {

std::string string_member(std::string_view name, std::string_view text) {
  std::string out = fmt::format(R"(,"{}":)", name);
  append_json_string(out, text);
  return out;
}

// The functions with `out` write events, if it is not nullptr.
// Of the codes that OpenAI's type of a failed response knows.
std::string_view error_code(const ApiError& error) {
  return error.status == 429 ? "rate_limit_exceeded" : "server_error";
}

class ResponsesAnswer final : public Answer {
 public:
  ResponsesAnswer(AnswerHead head, const AnswerOptions& options, const text::Tokenizer& tokenizer,
                  ChatTurn turn, ResponsesSettings settings, ResponseStore& store)
      : head_(std::move(head)),
        has_logprobs_(options.has_logprobs),
        tokenizer_(tokenizer),
        turn_(std::move(turn)),
        think_(tokenizer, options.starts_in_reasoning, options.syntax),
        settings_(std::move(settings)),
        writer_(tokenizer, settings_.seals_reasoning),
        store_(store) {}

  void stream_begin(std::string& out) override {
    const std::string response = R"(,"response":)" + response_json("in_progress", {});
    event("response.created", response, &out);
    event("response.in_progress", response, &out);
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override { take(piece, &out); }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    finish(end, &out);
    const std::string response = final_response(end);
    event(is_incomplete(end) ? "response.incomplete" : "response.completed",
          R"(,"response":)" + response, &out);
  }

  // OpenAI's clients raise the first event; others wait for the second.
  void stream_error(const ApiError& error, std::string& out) override {
    std::string members =
        string_member("code", error_code(error)) + string_member("message", error.message);
    event("error", members + R"(,"param":null)", &out);
    if (is_open_) items_.back().status = "incomplete";
    event("response.failed", R"(,"response":)" + response_json("failed", {nullptr, &error}), &out);
  }

  void add(const AnswerPiece& piece) override { take(piece, nullptr); }

  void end(const AnswerEnd& end) override { finish(end, nullptr); }

  void whole(std::span<const AnswerEnd> chosen, std::string& out) override {
    out += final_response(chosen.front());
  }

  bool is_done(size_t /*choice*/) const override { return turn_.is_done(); }

 private:
  bool is_incomplete(const AnswerEnd& end) const {
    if (settings_.is_warm_up) return end.is_late;
    return end.reason == engine::FinishReason::kLength || end.is_late || turn_.was_call_cut_off();
  }

  void take(const AnswerPiece& piece, std::string* out) {
    for (const engine::Token& token : piece.tokens) {
      if (!think_.take(token.id) && has_logprobs_ && !tokenizer_.is_special(token.id)) {
        tokens_.push_back(token);
      }
    }
    take(turn_.push(piece.text), out);
  }

  void take(const std::vector<ChatEvent>& events, std::string* out) {
    for (const ChatEvent& event : events) {
      if (event.kind != ChatEvent::Kind::kReasoning) think_.end();
      switch (event.kind) {
        case ChatEvent::Kind::kReasoning:
          add_text(ItemKind::kReasoning, event.text, out);
          break;
        case ChatEvent::Kind::kContent:
          add_text(ItemKind::kMessage, event.text, out);
          break;
        case ChatEvent::Kind::kCallBegin:
          begin_call(event, out);
          break;
        case ChatEvent::Kind::kCallArguments:
          add_arguments(event.text, out);
          break;
        case ChatEvent::Kind::kCallEnd:
          end_call(event, out);
          break;
      }
    }
  }

  void add_text(ItemKind kind, std::string_view text, std::string* out) {
    if (!is_open_ || items_.back().kind != kind) begin_item({.kind = kind}, out);
    OutputItem& item = items_.back();
    item.text += text;
    // Tokens whose text is held back come with the text that follows.
    std::vector<engine::Token> tokens;
    if (kind == ItemKind::kMessage) tokens = std::exchange(tokens_, {});
    if (out != nullptr) {
      std::string members = place() + R"(,"content_index":0)" + string_member("delta", text);
      if (kind == ItemKind::kMessage) append_logprobs(tokens, members);
      event(text_event(kind, "delta"), members, out);
    }
    std::move(tokens.begin(), tokens.end(), std::back_inserter(item.tokens));
  }

  // A custom tool's call is shown when it is complete, since clients run what they have of one.
  void begin_call(const ChatEvent& call, std::string* out) {
    tokens_.clear();
    end_item("completed", out);
    const ResponsesTool& tool = settings_.tools.of(call.text);
    OutputItem item{.kind = tool.is_custom ? ItemKind::kCustomCall : ItemKind::kFunctionCall,
                    .call_id = call.id,
                    .tool = tool};
    if (tool.is_custom) {
      hidden_call_ = std::move(item);
    } else {
      begin_item(std::move(item), out);
    }
  }

  void add_arguments(std::string_view text, std::string* out) {
    OutputItem& item = hidden_call_ ? *hidden_call_ : items_.back();
    item.arguments += text;
    if (hidden_call_ || out == nullptr) return;
    event("response.function_call_arguments.delta", place() + string_member("delta", text), out);
  }

  void end_call(const ChatEvent& call, std::string* out) {
    tokens_.clear();
    if (auto hidden = std::exchange(hidden_call_, {})) {
      if (!call.is_complete) return add_text(ItemKind::kMessage, call.text, out);
      begin_item(*std::move(hidden), out);
    }
    end_item(call.is_complete ? "completed" : "incomplete", out);
  }

  void begin_item(OutputItem item, std::string* out) {
    end_item("completed", out);
    item.id = fmt::format("{}{}{}", item_id_prefix(item.kind),
                          head_.id.substr(head_.id.find('_') + 1), items_.size());
    items_.push_back(std::move(item));
    is_open_ = true;
    if (out == nullptr) return;
    std::string json = R"(,"item":)";
    writer_.append_empty_item(json, items_.back());
    event("response.output_item.added", index() + json, out);
    if (items_.back().is_call()) return;
    json = R"(,"content_index":0,"part":)";
    writer_.append_part(json, items_.back().kind, {}, {});
    event("response.content_part.added", place() + json, out);
  }

  void end_item(std::string_view status, std::string* out) {
    if (!std::exchange(is_open_, false)) return;
    OutputItem& item = items_.back();
    item.status = status;
    if (out == nullptr) return;
    if (item.kind == ItemKind::kFunctionCall) {
      event("response.function_call_arguments.done",
            place() + string_member("arguments", item.arguments) +
                string_member("name", item.tool.name),
            out);
    } else if (item.kind == ItemKind::kCustomCall) {
      const std::string input = custom_input(item.arguments);
      event("response.custom_tool_call_input.delta", place() + string_member("delta", input), out);
      event("response.custom_tool_call_input.done", place() + string_member("input", input), out);
    } else {
      end_text(item, out);
    }
    std::string json = R"(,"item":)";
    writer_.append_item(json, item);
    event("response.output_item.done", index() + json, out);
  }

  void end_text(const OutputItem& item, std::string* out) {
    std::string members = place() + R"(,"content_index":0)" + string_member("text", item.text);
    if (item.kind == ItemKind::kMessage) append_logprobs(item.tokens, members);
    event(text_event(item.kind, "done"), members, out);
    std::string part = R"(,"content_index":0,"part":)";
    writer_.append_part(part, item.kind, item.text, item.tokens);
    event("response.content_part.done", place() + part, out);
  }

  void finish(const AnswerEnd& end, std::string* out) {
    take(turn_.finish(end.was_cut_off()), out);
    end_item(is_incomplete(end) ? "incomplete" : "completed", out);
  }

  // Clients may come back to it from now on.
  std::string final_response(const AnswerEnd& end) {
    std::string json = response_json(is_incomplete(end) ? "incomplete" : "completed", {&end});
    const bool is_kept = settings_.is_stored || settings_.connection != kNoConnection;
    if (!is_kept) return json;
    StoredResponse stored{head_.id, settings_.previous_id, std::move(settings_.input), {}, json};
    if (!settings_.is_stored) stored.connection = settings_.connection;
    for (const OutputItem& item : items_) {
      stored.output.push_back({item.id, {}});
      writer_.append_item(stored.output.back().json, item);
    }
    store_.put(std::move(stored));
    return json;
  }

  struct Outcome {
    const AnswerEnd* end = nullptr;   // of a response that has ended
    const ApiError* error = nullptr;  // of one that has failed
  };
  std::string response_json(std::string_view status, const Outcome& outcome) const {
    std::string out = R"({"id":)";
    append_json_string(out, head_.id);
    fmt::format_to(std::back_inserter(out), R"(,"object":"response","created_at":{},"status":"{}")",
                   head_.created_s, status);
    out += R"(,"completed_at":)";
    out += status == "completed" ? fmt::format("{}", std::time(nullptr)) : "null";
    out += R"(,"incomplete_details":)";
    if (status == "incomplete") {
      out += R"({"reason":"max_output_tokens"})";  // the type knows of no deadline
    } else {
      out += "null";
    }
    out += R"(,"error":)";
    if (outcome.error == nullptr) {
      out += "null";
    } else {
      out += fmt::format(R"({{"code":"{}")", error_code(*outcome.error)) +
             string_member("message", outcome.error->message) + '}';
    }
    out += string_member("model", head_.model);
    append_output(out);
    out +=
        string_member("service_tier", head_.service_tier.empty() ? "default" : head_.service_tier);
    out += ',' + settings_.echo;
    if (outcome.end != nullptr) append_usage_member(outcome.end->usage, out);
    out += '}';
    return out;
  }

  void append_output(std::string& out) const {
    out += R"(,"output":[)";
    std::string text;
    for (const OutputItem& item : items_) {
      if (&item != &items_.front()) out += ',';
      writer_.append_item(out, item);
      if (item.kind == ItemKind::kMessage) text += item.text;
    }
    out += ']' + string_member("output_text", text);
  }

  void append_usage_member(const Usage& usage, std::string& out) const {
    fmt::format_to(std::back_inserter(out),
                   R"(,"usage":{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},)"
                   R"("cache_write_tokens":0}},"output_tokens":{},"output_tokens_details":)"
                   R"({{"reasoning_tokens":{}}},"total_tokens":{}}})",
                   usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
                   think_.num_tokens(), usage.prompt_tokens + usage.completion_tokens);
    append_timings(out, usage);
  }

  static std::string text_event(ItemKind kind, std::string_view what) {
    return fmt::format("response.{}_text.{}", kind == ItemKind::kMessage ? "output" : "reasoning",
                       what);
  }

  void append_logprobs(std::span<const engine::Token> tokens, std::string& members) const {
    members += R"(,"logprobs":)";
    writer_.append_logprobs(members, tokens);
  }

  // Of the newest item, as members of an event.
  std::string index() const { return fmt::format(R"(,"output_index":{})", items_.size() - 1); }
  std::string place() const {
    return fmt::format(R"(,"item_id":"{}","output_index":{})", items_.back().id, items_.size() - 1);
  }

  // `members` begin with a comma.
  void event(std::string_view type, std::string_view members, std::string* out) {
    if (out == nullptr) return;
    std::string json =
        fmt::format(R"({{"type":"{}","sequence_number":{}{}}})", type, num_events_++, members);
    if (settings_.connection == kNoConnection) return net::append_sse_event(*out, type, json);
    *out += json += kSocketMessageEnd;
  }

  const AnswerHead head_;
  const bool has_logprobs_;
  const text::Tokenizer& tokenizer_;
  ChatTurn turn_;
  ThinkBlock think_;
  ResponsesSettings settings_;
  const ItemWriter writer_;
  ResponseStore& store_;
  std::vector<OutputItem> items_;
  bool is_open_ = false;                   // the last item, for more
  std::optional<OutputItem> hidden_call_;  // of a custom tool, while it comes
  std::vector<engine::Token> tokens_;      // for logprobs, of text that is yet to come
  size_t num_events_ = 0;
};

}  // namespace

std::unique_ptr<Answer> make_responses_answer(AnswerHead head, const AnswerOptions& options,
                                              const text::Tokenizer& tokenizer, ChatTurn turn,
                                              ResponsesSettings settings, ResponseStore& store) {
  return std::make_unique<ResponsesAnswer>(std::move(head), options, tokenizer, std::move(turn),
                                           std::move(settings), store);
}

}  // namespace ultraspeed::server
