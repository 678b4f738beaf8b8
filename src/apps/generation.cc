#include "apps/generation.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "engine/params.h"
#include "server/output_text.h"
#include "text/text_stream.h"

namespace ultraspeed::apps {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

// One running generation.
class Run {
 public:
  Run(const GenerationObserver& observer, std::optional<server::OutputText> output)
      : observer_(observer), output_(std::move(output)) {}

  // Takes what a step did.
  Status take(const std::vector<engine::StepEvent>& events) {
    const size_t num_before = result_.tokens.size();
    std::optional<engine::VerifyCycle> cycle;
    for (const engine::StepEvent& event : events) {
      if (is_over_) break;  // a stop string: later tokens of the same step are not part of it
      if (event.cycle) cycle = event.cycle;
      if (event.token) US_TRY(take_token(*event.token, event.finished));
      if (event.finished && !is_over_) US_TRY(finish(*event.finished));
    }
    if (!cycle) return {};
    result_.speculation.add(*cycle, static_cast<uint32_t>(result_.tokens.size() - num_before));
    return {};
  }

  Status interrupt() {
    is_over_ = true;
    result_.end = GenerationEnd::kInterrupted;
    return output_ ? show(output_->finish().text) : Status();
  }

  bool is_over() const { return is_over_; }
  GenerationResult& result() { return result_; }

 private:
  Status take_token(const engine::Token& token, std::optional<engine::FinishReason> finished) {
    const auto now = Clock::now();
    GenerationTimes& times = result_.times;
    if (result_.tokens.empty()) {
      first_token_ = now;
      times.prefill_ms = milliseconds_between(begin_, now);
    } else {
      times.decode_ms = milliseconds_between(first_token_, now);
    }
    result_.tokens.push_back(token);
    if (finished == engine::FinishReason::kStop) return {};  // the stop token has no text
    if (!output_) return show(fmt::format("{}{}", result_.text.empty() ? "" : " ", token.id));
    const text::TextDelta delta = output_->push(token.id);
    if (delta.stopped) {
      is_over_ = true;
      result_.end = GenerationEnd::kStop;
    }
    return show(delta.text);
  }

  Status finish(engine::FinishReason reason) {
    is_over_ = true;
    result_.end =
        reason == engine::FinishReason::kStop ? GenerationEnd::kStop : GenerationEnd::kLength;
    if (!output_) return {};
    const text::TextDelta rest = output_->finish();
    if (rest.stopped) result_.end = GenerationEnd::kStop;
    return show(rest.text);
  }

  Status show(std::string_view text) {
    result_.text += text;
    if (text.empty() || !observer_.on_text) return {};
    return observer_.on_text(text);
  }

  const GenerationObserver& observer_;
  std::optional<server::OutputText> output_;  // none without a tokenizer
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point first_token_;
  GenerationResult result_;
  bool is_over_ = false;
};

Result<std::optional<server::OutputText>> make_output(const text::Tokenizer* tokenizer,
                                                      const GenerationRequest& request) {
  if (tokenizer == nullptr) {
    if (request.stop.empty()) return std::nullopt;
    return make_error(ErrorCode::kInvalidArgument,
                      "stop strings need a tokenizer, and this model has none");
  }
  US_ASSIGN(auto stop, text::StopStrings::create(request.stop));
  return server::OutputText(
      *tokenizer, std::move(stop),
      {.skip_special = !request.show_special, .markers = server::answer_markers(request.syntax)});
}

}  // namespace

Status check_request(const GenerationRequest& request, const text::Tokenizer* tokenizer,
                     uint32_t vocab_size, uint32_t max_context) {
  US_TRY(make_output(tokenizer, request));
  US_TRY(engine::check_params(request.params, vocab_size));
  US_TRY(engine::check_token_ids("the prompt", request.prompt, vocab_size));
  if (request.prompt.size() < max_context) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "the prompt has {} tokens, but prompt and output must fit the context of {}; "
                    "shorten it or raise --context",
                    request.prompt.size(), max_context);
}

std::string_view generation_end_name(GenerationEnd end) {
  switch (end) {
    case GenerationEnd::kStop:
      return "stop";
    case GenerationEnd::kLength:
      return "length";
    case GenerationEnd::kInterrupted:
      return "interrupted";
  }
  return "?";
}

double GenerationResult::tokens_per_second() const {
  if (tokens.size() < 2 || times.decode_ms <= 0) return 0;
  return static_cast<double>(tokens.size() - 1) / times.decode_ms * 1000;
}

Result<GenerationResult> generate(engine::Engine& engine, const text::Tokenizer* tokenizer,
                                  const GenerationRequest& request,
                                  const GenerationObserver& observer) {
  US_ASSIGN(auto output, make_output(tokenizer, request));
  Run run(observer, std::move(output));
  US_ASSIGN(const engine::SessionId session, engine.start(request.prompt, request.params));
  std::vector<engine::StepEvent> events;
  Status status;
  while (status && !run.is_over()) {
    events.clear();
    status = engine.step(&events);
    if (status) status = run.take(events);
    if (observer.on_step) observer.on_step(run.result());
    const bool may_stop = status && !run.is_over() && observer.should_stop;
    if (may_stop && observer.should_stop()) status = run.interrupt();
  }
  engine.cancel(session);
  if (!status) return tl::unexpected(std::move(status).error());
  return std::move(run.result());
}

std::string describe_speed(const GenerationResult& result, size_t prompt_tokens) {
  const GenerationTimes& times = result.times;
  std::string text = fmt::format("{} prompt tokens in {:.0f} ms, {} tokens", prompt_tokens,
                                 times.prefill_ms, result.tokens.size());
  if (result.tokens.size() > 1) {
    text += fmt::format(" in {:.2f} s: {:.1f} tokens per second",
                        (times.prefill_ms + times.decode_ms) / 1000, result.tokens_per_second());
  }
  if (result.speculation.has_drafts()) {
    text += fmt::format(", accepted length {:.2f}", result.speculation.accepted_length());
  }
  if (const uint64_t resident = result.speculation.num_resident(); resident > 0) {
    text += fmt::format(", {} of {} cycles in resident kernels", resident,
                        result.speculation.num_cycles());
  }
  return fmt::format("{} ({})", text, generation_end_name(result.end));
}

}  // namespace ultraspeed::apps
