#include "server/generation.h"

#include <utility>

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
  exchange_->start_event_stream(answer_->keepalive());
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
  progress.is_engine_done = events.back().finished.has_value();
  deliver(progress);
}

void Generation::take(const StepEvent& event, Progress* progress) {
  if (event.token) progress->tokens.push_back(*event.token);
  const auto add = [progress](text::TextDelta delta) {
    progress->text += delta.text;
    if (!delta.stopped) return;
    progress->reason = FinishReason::kStop;
    progress->stop_string = std::move(delta.stop);
  };
  const bool is_stop_token = event.finished == FinishReason::kStop;
  if (event.token && !is_stop_token) add(output_.push(event.token->id));
  if (event.finished && !progress->reason) {
    add(output_.finish());
    if (!progress->reason) progress->reason = *event.finished;
  }
}

void Generation::deliver(Progress progress) {
  const AnswerPiece piece{progress.text, progress.tokens};
  std::string out;
  if (is_streamed_) {
    answer_->stream_piece(piece, out);
  } else {
    answer_->add(piece);
  }
  if (answer_->is_done() && !progress.reason) progress.reason = FinishReason::kStop;
  if (progress.reason) return end(progress, std::move(out));
  if (!out.empty()) exchange_->write(std::move(out));
}

void Generation::end(const Progress& progress, std::string out) {
  is_over_ = true;
  if (!progress.is_engine_done) engine_thread_.cancel(job_);
  GenerationLog& log = exchange_->log;
  const bool is_length = *progress.reason == FinishReason::kLength;
  log.outcome = is_length ? Outcome::kLength : Outcome::kStop;
  log.end = is_length ? "length" : "stop";
  const AnswerEnd end{*progress.reason,
                      progress.stop_string,
                      {log.prompt_tokens, log.completion_tokens, log.timings()}};
  if (!is_streamed_) {
    answer_->whole(end, out);
    return exchange_->respond({200, {{"Content-Type", "application/json"}}, std::move(out)});
  }
  answer_->stream_end(end, out);
  exchange_->write(std::move(out));
  exchange_->finish();
}

// A stream that has begun carries its error as an event.
void Generation::on_failed(const Error& error) {
  if (std::exchange(is_over_, true)) return;
  const ApiError api_error = from_error(error);
  if (exchange_->log.has_started()) exchange_->log.outcome = Outcome::kFailed;
  exchange_->log.end = "error: " + error.message;
  if (!exchange_->is_streaming()) return exchange_->fail(api_error);
  std::string out;
  answer_->stream_error(api_error, out);
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
