// Answers of /v1/completions: text_completion objects, the same for chunks and the whole.
#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "net/sse.h"
#include "server/answer.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

class CompletionAnswer final : public Answer {
 public:
  CompletionAnswer(AnswerHead head, const AnswerOptions& options, const text::Tokenizer& tokenizer,
                   std::vector<std::string> echoes, size_t num_candidates)
      : options_(options),
        tokenizer_(tokenizer),
        begin_(object_begin(head, "text_completion")),
        num_candidates_(num_candidates) {
    for (std::string& echo : echoes) {
      Candidate candidate;
      candidate.num_echoed = echo.size();
      candidate.text_offset = count_characters(echo);
      candidate.text = std::move(echo);
      candidates_.push_back(std::move(candidate));
    }
  }

  void stream_begin(std::string& out) override {
    for (size_t choice = 0; choice < candidates_.size(); ++choice) {
      const std::string& echo = candidates_[choice].text;
      if (!echo.empty()) append_chunk(choice, echo, "null", {}, out);
    }
  }

  void stream_piece(const AnswerPiece& piece, std::string& out) override {
    const bool has_logprobs = options_.has_logprobs && !piece.tokens.empty();
    if (piece.text.empty() && !has_logprobs) return;
    append_chunk(piece.choice, piece.text, "null", piece.tokens, out);
  }

  void stream_end(const AnswerEnd& end, std::string& out) override {
    std::string timings;
    append_timings(timings, end.usage);
    append_chunk(end.choice, "", finish_reason_json(end), {}, out,
                 options_.include_usage ? "" : timings);
    if (!end.is_last) return;
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
    Candidate& candidate = candidates_[piece.choice];
    candidate.text += piece.text;
    if (!options_.has_logprobs) return;
    candidate.tokens.insert(candidate.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  }

  // All candidates of a prompt show its tokens, which the first one's session reports.
  void add_prompt(size_t choice, std::span<const engine::Token> tokens) override {
    for (size_t i = choice; i < choice + num_candidates_; ++i) {
      Candidate& candidate = candidates_[i];
      if (options_.has_prompt_logprobs) {
        candidate.prompt.insert(candidate.prompt.end(), tokens.begin(), tokens.end());
      }
      if (!options_.has_echo) continue;
      candidate.tokens.insert(candidate.tokens.end(), tokens.begin(), tokens.end());
      candidate.begins_with_prompt = true;
      candidate.text_offset = 0;
    }
  }

  void end(const AnswerEnd& /*end*/) override {}

  void whole(std::span<const AnswerEnd> chosen, std::string& out) override {
    out += begin_;
    out += R"(,"choices":[)";
    for (size_t i = 0; i < chosen.size(); ++i) {
      Candidate& candidate = candidates_[chosen[i].choice];
      if (i > 0) out += ',';
      append_choice(i, candidate.text, finish_reason_json(chosen[i]), candidate.tokens, &candidate,
                    out);
    }
    out += R"(],"usage":)";
    append_usage(out, chosen.back().usage);
    append_timings(out, chosen.back().usage);
    out += '}';
  }

  std::string content(size_t choice) const override {
    const Candidate& candidate = candidates_[choice];
    return trimmed(std::string_view(candidate.text).substr(candidate.num_echoed));
  }

 private:
  struct Candidate {
    std::string text;  // with the echo; a stream's has nothing else
    size_t num_echoed = 0;
    std::vector<engine::Token> tokens;
    bool begins_with_prompt = false;  // tokens do: nothing is known of the first
    std::vector<engine::Token> prompt;
    size_t text_offset = 0;  // of the next token, in characters
  };

  void append_choice(size_t index, std::string_view text, std::string_view finish_reason,
                     std::span<const engine::Token> tokens, Candidate* candidate,
                     std::string& out) {
    fmt::format_to(std::back_inserter(out), R"({{"index":{},"text":)", index);
    append_json_string(out, text);
    out += R"(,"logprobs":)";
    if (options_.has_logprobs && !tokens.empty()) {
      append_completion_logprobs(out, tokenizer_, tokens, candidate->begins_with_prompt,
                                 &candidate->text_offset);
    } else {
      out += "null";
    }
    out += R"(,"finish_reason":)";
    out += finish_reason;
    if (!candidate->prompt.empty()) {
      out += R"(,"prompt_logprobs":)";
      append_prompt_logprobs(out, tokenizer_, candidate->prompt);
    }
    out += '}';
  }

  void append_chunk(size_t choice, std::string_view text, std::string_view finish_reason,
                    std::span<const engine::Token> tokens, std::string& out,
                    std::string_view timings = {}) {
    std::string json = begin_ + R"(,"choices":[)";
    append_choice(choice, text, finish_reason, tokens, &candidates_[choice], json);
    json += ']';
    if (options_.include_usage) json += R"(,"usage":null)";
    json += timings;
    json += '}';
    net::append_sse_event(out, json);
  }

  const AnswerOptions options_;
  const text::Tokenizer& tokenizer_;
  const std::string begin_;
  const size_t num_candidates_;  // of each prompt
  std::vector<Candidate> candidates_;
};

}  // namespace

std::unique_ptr<Answer> make_completion_answer(AnswerHead head, const AnswerOptions& options,
                                               const text::Tokenizer& tokenizer,
                                               std::vector<std::string> echoes,
                                               size_t num_candidates) {
  return std::make_unique<CompletionAnswer>(std::move(head), options, tokenizer, std::move(echoes),
                                            num_candidates);
}

}  // namespace ultraspeed::server
