#include "server/generation.h"

#include <utility>

#include "net/sse.h"

namespace ultraspeed::server {

using engine::FinishReason;
using engine::StepEvent;

Generation::Generation(std::shared_ptr<Exchange> exchange, std::unique_ptr<Answer> answer,
                       OutputText output, bool is_streamed, EngineThread& engine_thread)
    : exchange_(std::move(exchange)),
      answer_(std::move(answer)),
      output_(std::move(output)),
      is_streamed_(is_streamed),
      engine_thread_(engine_thread) {}

void Generation::start(std::vector<int32_t> prompt, engine::GenerationParams params,
                       std::shared_ptr<const engine::TokenConstraint> constraint) {
  exchange_->log.prompt_tokens = prompt.size();
  params.sampling.constraint = constraint.get();
  job_ = engine_thread_.submit(
      {std::move(prompt), std::move(params), std::move(constraint), shared_from_this()});
  exchange_->on_close([self = weak_from_this()](net::CloseReason reason) {
    if (const auto generation = self.lock()) generation->on_close(reason);
  });
}

void Generation::on_accepted() {
  if (is_over_ || !is_streamed_) return;
  exchange_->start_event_stream();
  std::string out;
  answer_->stream_begin(out);
  exchange_->write(std::move(out));
}

void Generation::on_step(std::span<const StepEvent> events) {
  if (is_over_) return;
  Progress progress;
  std::optional<engine::VerifyCycle> cycle;
  for (const StepEvent& event : events) {
    if (event.cycle) cycle = event.cycle;
    take(event, &progress);
    if (progress.reason) break;
  }
  if (!progress.tokens.empty()) exchange_->count_tokens(progress.tokens.size(), cycle);
  const bool is_stop_string = progress.reason && !events.back().finished;
  if (is_stop_string) engine_thread_.cancel(job_);
  deliver(progress);
}

void Generation::take(const StepEvent& event, Progress* progress) {
  if (event.token) progress->tokens.push_back(*event.token);
  const bool is_stop_token = event.finished == FinishReason::kStop;
  if (event.token && !is_stop_token) {
    const text::TextDelta delta = output_.push(event.token->id);
    progress->text += delta.text;
    if (delta.stopped) progress->reason = FinishReason::kStop;
  }
  if (event.finished && !progress->reason) {
    const text::TextDelta rest = output_.finish();
    progress->text += rest.text;
    progress->reason = rest.stopped ? FinishReason::kStop : *event.finished;
  }
}

void Generation::deliver(const Progress& progress) {
  const AnswerPiece piece{progress.text, progress.tokens};
  GenerationLog& log = exchange_->log;
  Usage usage{log.prompt_tokens, log.completion_tokens};
  if (progress.reason) {
    is_over_ = true;
    const bool is_length = *progress.reason == FinishReason::kLength;
    log.outcome = is_length ? Outcome::kLength : Outcome::kStop;
    log.end = is_length ? "length" : "stop";
    usage.timings = log.timings();
  }
  std::string out;
  if (is_streamed_) {
    answer_->stream_piece(piece, out);
    if (progress.reason) answer_->stream_end(*progress.reason, usage, out);
    if (!out.empty()) exchange_->write(std::move(out));
    if (progress.reason) exchange_->finish();
    return;
  }
  answer_->add(piece);
  if (!progress.reason) return;
  answer_->whole(*progress.reason, usage, out);
  exchange_->respond({200, {{"Content-Type", "application/json"}}, std::move(out)});
}

// A stream that has begun carries its error as an event, as open servers do; clients raise it.
void Generation::on_failed(const Error& error) {
  if (std::exchange(is_over_, true)) return;
  const ApiError api_error = from_error(error);
  if (exchange_->log.has_started()) exchange_->log.outcome = Outcome::kFailed;
  exchange_->log.end = "error: " + error.message;
  if (!exchange_->is_streaming()) return exchange_->fail(api_error);
  std::string out;
  net::append_sse_event(out, error_json(api_error));
  net::append_sse_event(out, "[DONE]");
  exchange_->write(std::move(out));
  exchange_->finish();
}

void Generation::on_close(net::CloseReason reason) {
  if (std::exchange(is_over_, true)) return;
  exchange_->log.outcome = Outcome::kAborted;
  exchange_->log.end = net::close_reason_text(reason);
  engine_thread_.cancel(job_);
}

}  // namespace ultraspeed::server
