// The JSON of an answer, streamed or whole: what the generation routes do differently. The caller
// hands over what each engine step gave; all functions append to `out`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "net/sse.h"
#include "server/api_error.h"
#include "server/chat_turn.h"
#include "text/tokenizer.h"

namespace ultraspeed::server {

// What every object of one answer repeats.
struct AnswerHead {
  std::string id;
  int64_t created_s = 0;  // Unix time
  std::string model;
  std::string system_fingerprint;
  std::string service_tier;  // empty: the request named none
  std::string speed;         // "fast" or "standard", likewise
  std::string request_id;    // of Anthropic's errors
};

// How fast it came, by the server's clock.
struct Timings {
  double prefill_ms = 0;         // from the engine's taking the request to the first token
  double tokens_per_second = 0;  // of those behind the first token; 0: they came with it
  double accepted_length = 0;    // tokens a decode step; 0: there was none
};

struct Usage {
  size_t prompt_tokens = 0;
  size_t completion_tokens = 0;
  std::optional<Timings> timings = {};  // of answers with tokens: in the last chunk, or the whole
  size_t cached_tokens = 0;             // of the prompt: earlier texts had left them in the caches
};

struct AnswerOptions {
  bool has_logprobs = false;
  bool include_usage = false;  // streamed: a last chunk with the usage
  bool has_prompt_logprobs = false;
  bool has_echo = false;                  // of /v1/completions
  bool has_continuous_usage = false;      // streamed chat: each chunk counts its choice's tokens
  size_t prompt_tokens = 0;               // for that
  bool starts_in_reasoning = false;       // of chats: the prompt ended with "<think>"
  ToolSyntax syntax = ToolSyntax::kNone;  // of chats
};

// What one engine step gave.
struct AnswerPiece {
  std::string_view text;                  // may be empty while text is held back
  std::span<const engine::Token> tokens;  // for logprobs
  size_t choice = 0;
};

struct AnswerEnd {
  engine::FinishReason reason = engine::FinishReason::kStop;
  std::string stop_string;  // that was found, or empty
  Usage usage;              // of all choices, with the last one
  size_t choice = 0;
  bool is_last = true;   // no other choice goes on
  bool is_late = false;  // a deadline has passed

  // The model would have gone on. Where a constraint left no token, its text was complete.
  bool was_cut_off() const {
    return reason == engine::FinishReason::kLength || !stop_string.empty();
  }
};

class Answer {
 public:
  virtual ~Answer() = default;

  // As server-sent events: stream_begin, stream_piece... and stream_end of each choice, or
  // stream_error.
  virtual void stream_begin(std::string& out) = 0;
  virtual void stream_piece(const AnswerPiece& piece, std::string& out) = 0;
  virtual void stream_end(const AnswerEnd& end, std::string& out) = 0;
  virtual void stream_error(const ApiError& error, std::string& out) = 0;
  virtual std::string_view keepalive() const { return net::kSsePing; }  // fills a stream's silence

  // Of a candidate's prompt, before any piece.
  virtual void add_prompt(size_t /*choice*/, std::span<const engine::Token> /*tokens*/) {}

  // As one JSON object: add... and end of each candidate, whole with those that are chosen, of
  // which there is at least one.
  virtual void add(const AnswerPiece& piece) = 0;
  virtual void end(const AnswerEnd& end) = 0;
  virtual void whole(std::span<const AnswerEnd> chosen, std::string& out) = 0;

  // The choice has all that the request asked for: its generation is to end.
  virtual bool is_done(size_t /*choice*/) const { return false; }
  // The answer's text behind its reasoning, without white space around it. REQUIRES: end() of it.
  virtual std::string content(size_t /*choice*/) const { return {}; }
};

// Chat: a turn for each candidate. Completion: what is shown before each candidate's text,
// and how many candidates each prompt has.
// Messages: prompt_tokens are told when a stream begins. REQUIRES: the tokenizer outlives the
// answer.
std::unique_ptr<Answer> make_chat_answer(AnswerHead head, const AnswerOptions& options,
                                         const text::Tokenizer& tokenizer,
                                         std::vector<ChatTurn> turns);
std::unique_ptr<Answer> make_messages_answer(AnswerHead head, size_t prompt_tokens, ChatTurn turn);
std::unique_ptr<Answer> make_completion_answer(AnswerHead head, const AnswerOptions& options,
                                               const text::Tokenizer& tokenizer,
                                               std::vector<std::string> echoes,
                                               size_t num_candidates);

std::string_view finish_reason_json(const AnswerEnd& end);  // "stop", "length", "deadline", quoted
std::string trimmed(std::string_view text);                 // without white space around it
// OpenAI's form of a stream's error, as open servers send it; clients raise it.
void append_error_event(std::string& out, const ApiError& error);

// {"id":...,"object":"OBJECT","created":...,"model":...,"system_fingerprint":...  (not closed)
std::string object_begin(const AnswerHead& head, std::string_view object);
// {"prompt_tokens":...,"completion_tokens":...,"total_tokens":...,"prompt_tokens_details":...}
// and, of chats, ..."completion_tokens_details"
void append_usage(std::string& out, const Usage& usage,
                  std::optional<size_t> reasoning_tokens = {});
// ,"timings":{"prefill_ms":...,"tokens_per_second":...,"accepted_length":...}, or nothing
void append_timings(std::string& out, const Usage& usage);

}  // namespace ultraspeed::server
