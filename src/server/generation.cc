#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

namespace ultraspeed::server {

using engine::FinishReason;
using engine::StepEvent;

Generation::Generation(std::shared_ptr<Exchange> exchange, std::unique_ptr<Answer> answer,
                       std::vector<OutputText> outputs, const ChoiceOptions& choices,
                       bool is_streamed, EngineThread& engine_thread,
                       const text::Tokenizer& tokenizer)
    : exchange_(std::move(exchange)),
      answer_(std::move(answer)),
      choices_(choices),
      is_streamed_(is_streamed),
      engine_thread_(engine_thread),
      tokenizer_(tokenizer) {
  for (OutputText& output : outputs) {
    candidates_.push_back(
        std::make_unique<Candidate>(*this, candidates_.size(), std::move(output)));
  }
}

void Generation::start(std::vector<Job> first_jobs) {
  std::vector<Job> jobs;
  for (Job& first : first_jobs) {
    exchange_->log.prompt_tokens += first.prompt.size();
    first.params.sampling.constraint = first.constraint.get();
    for (uint32_t i = 0; i < choices_.num_candidates; ++i) {
      const auto& candidate = candidates_[jobs.size()];
      jobs.push_back(first);
      jobs.back().params.sampling.seed += i;
      if (i > 0) jobs.back().params.num_prompt_logprobs.reset();  // the first one tells
      jobs.back().listener = std::shared_ptr<JobListener>(shared_from_this(), candidate.get());
    }
  }
  judge_template_.tier = jobs.front().tier;
  judge_template_.priority = jobs.front().priority;
  judge_template_.group = jobs.front().group;
  judge_template_.params.cache_domain = jobs.front().params.cache_domain;
  const std::vector<JobId> ids = engine_thread_.submit(std::move(jobs));
  for (size_t i = 0; i < ids.size(); ++i) candidates_[i]->job = ids[i];
  exchange_->on_close([self = weak_from_this()](net::CloseReason reason) {
    if (const auto generation = self.lock()) generation->on_close(reason);
  });
}

void Generation::on_accepted(size_t queue_position) {
  if (is_over_ || std::exchange(has_begun_, true) || !is_streamed_) return;
  if (queue_position > 0) {
    exchange_->add_headers({{"X-Queue-Position", fmt::to_string(queue_position)}});
  }
  exchange_->start_event_stream(answer_->keepalive());
  std::string out;
  answer_->stream_begin(out);
  exchange_->write(std::move(out));
}

void Generation::on_started(std::chrono::steady_clock::time_point time) {
  if (!exchange_->log.has_started()) exchange_->log.started = time;
}

void Generation::on_step(Candidate& candidate, std::span<const StepEvent> events) {
  if (is_over_ || candidate.is_over) return;
  Progress progress;
  std::optional<engine::VerifyCycle> cycle;
  for (const StepEvent& event : events) {
    if (!event.prompt_tokens.empty()) {
      answer_->add_prompt(candidate.end.choice, event.prompt_tokens);
    }
    if (event.cycle) cycle = event.cycle;
    take(candidate, event, &progress);
    if (progress.reason) break;
  }
  // Of a prompt's candidates the first computes it.
  const bool is_first = candidate.end.choice % choices_.num_candidates == 0;
  const bool is_prompt_alone = !choices_.has_output && progress.reason;
  const bool has_news = !progress.tokens.empty() || is_prompt_alone;
  if (is_first && candidate.num_tokens == progress.tokens.size() && has_news) {
    exchange_->log.cached_tokens += events.front().prompt_tokens_cached;
  }
  if (has_news) {
    exchange_->count_tokens(progress.tokens.size(), cycle, &candidate.last_tokens);
  }
  progress.is_engine_done = events.back().finished.has_value();
  deliver(candidate, std::move(progress));
}

void Generation::take(Candidate& candidate, const StepEvent& event, Progress* progress) {
  if (!choices_.has_output) {
    if (event.token) progress->reason = FinishReason::kLength;
    return;
  }
  if (event.token) {
    progress->tokens.push_back(*event.token);
    ++candidate.num_tokens;
    candidate.logprob += static_cast<double>(event.token->logprob);
  }
  const auto add = [progress](text::TextDelta delta) {
    progress->text += delta.text;
    if (!delta.stopped) return;
    progress->reason = FinishReason::kStop;
    progress->stop_string = std::move(delta.stop);
  };
  const bool is_stop_token = event.finished == FinishReason::kStop;
  if (event.token && !is_stop_token) add(candidate.output.push(event.token->id));
  if (event.finished && !progress->reason) {
    add(candidate.output.finish());
    if (!progress->reason) progress->reason = *event.finished;
  }
}

void Generation::deliver(Candidate& candidate, Progress progress) {
  const AnswerPiece piece{progress.text, progress.tokens, candidate.end.choice};
  std::string out;
  if (is_streamed_) {
    answer_->stream_piece(piece, out);
  } else {
    answer_->add(piece);
  }
  if (answer_->is_done(piece.choice) && !progress.reason) progress.reason = FinishReason::kStop;
  if (progress.reason) return end(candidate, progress, std::move(out));
  if (out.empty()) return;
  show_all(candidate);
  exchange_->write(std::move(out));
}

// What is written now has all tokens of the candidate so far.
void Generation::show_all(Candidate& candidate) {
  exchange_->log.shown_tokens +=
      candidate.num_tokens - std::exchange(candidate.num_shown, candidate.num_tokens);
}

// What was held back as the begin of a stop string is no stop string any more.
void Generation::on_deadline(Candidate& candidate) {
  if (is_over_ || candidate.is_over) return;
  on_accepted(0);
  Progress progress;
  text::TextDelta rest = candidate.output.finish();
  progress.text = std::move(rest.text);
  progress.reason = FinishReason::kLength;
  progress.is_engine_done = progress.is_late = true;
  deliver(candidate, std::move(progress));
}

void Generation::end(Candidate& candidate, const Progress& progress, std::string out) {
  candidate.is_over = true;
  candidate.end.reason = *progress.reason;
  candidate.end.stop_string = progress.stop_string;
  candidate.end.is_late = progress.is_late;
  if (!progress.is_engine_done) engine_thread_.cancel(candidate.job);
  if (!is_streamed_) {
    answer_->end(candidate.end);
    const size_t prompt = candidate.end.choice / choices_.num_candidates;
    if (is_decided_at(prompt)) cancel_rest(prompt);
  }
  const bool is_last = std::ranges::all_of(candidates_, &Candidate::is_over);
  if (is_streamed_) {
    AnswerEnd end = candidate.end;
    end.is_last = is_last;
    if (is_last) end.usage = exchange_->log.usage();
    answer_->stream_end(end, out);
    show_all(candidate);
    if (!is_last) return exchange_->write(std::move(out));
  }
  if (is_last) finish(std::move(out));
}

bool Generation::is_decided_at(size_t prompt) const {
  const size_t begin = prompt * choices_.num_candidates;
  const auto content_of = [this, begin](size_t i) -> std::optional<std::string> {
    const Candidate& candidate = *candidates_[begin + i];
    if (!candidate.is_over || candidate.end.is_late) return std::nullopt;
    return answer_->content(begin + i);
  };
  return is_decided(choices_, choices_.num_candidates, content_of);
}

// The rest has nothing to add to what is decided.
void Generation::cancel_rest(size_t prompt) {
  const size_t begin = prompt * choices_.num_candidates;
  for (size_t i = begin; i < begin + choices_.num_candidates; ++i) {
    Candidate& candidate = *candidates_[i];
    if (std::exchange(candidate.is_over, true)) continue;
    candidate.end.is_late = true;
    answer_->end(candidate.end);
    engine_thread_.cancel(candidate.job);
  }
}

void Generation::finish(std::string out) {
  if (is_streamed_) {
    exchange_->write(std::move(out));
    std::vector<size_t> all(candidates_.size());
    std::iota(all.begin(), all.end(), size_t{0});
    return respond(all);
  }
  if (choices_.selection == Selection::kJudge) {
    const std::vector<CandidateScore> all_scores = scores(0);
    std::vector<std::string> texts;
    for (const size_t index : judged_candidates(all_scores)) {
      texts.push_back(all_scores[index].content);
    }
    const bool are_all_late = std::ranges::all_of(all_scores, &CandidateScore::is_late);
    if (texts.size() > 1 && !are_all_late) return ask_judge_(shared_from_this(), texts);
  }
  std::vector<size_t> chosen;
  for (size_t begin = 0; begin < candidates_.size(); begin += choices_.num_candidates) {
    const auto best = choose_candidates(choices_, scores(begin / choices_.num_candidates));
    for (const size_t index : best) chosen.push_back(begin + index);
  }
  respond(chosen);
}

std::vector<CandidateScore> Generation::scores(size_t prompt) const {
  std::vector<CandidateScore> scores;
  const size_t begin = prompt * choices_.num_candidates;
  for (size_t i = begin; i < begin + choices_.num_candidates; ++i) {
    const Candidate& candidate = *candidates_[i];
    const double count = static_cast<double>(std::max<size_t>(candidate.num_tokens, 1));
    scores.push_back({candidate.end.is_late, candidate.logprob / count, answer_->content(i)});
  }
  return scores;
}

void Generation::judge_with(Job job) {
  if (is_over_) return;
  judge_prompt_size_ = job.prompt.size();
  job.params.sampling.constraint = job.constraint.get();
  job.listener = std::shared_ptr<JobListener>(shared_from_this(), &verdict_);
  judge_job_ = engine_thread_.submit(std::move(job));
}

void Generation::on_verdict(std::span<const StepEvent> events) {
  if (is_over_) return;
  for (const StepEvent& event : events) {
    if (event.token) {
      ++exchange_->log.completion_tokens;
      ++exchange_->log.judge_tokens;
      verdict_text_ += tokenizer_.decode({&event.token->id, 1}, /*skip_special=*/true);
    }
    if (!event.finished) continue;
    size_t number = 0;
    const char* end = verdict_text_.data() + verdict_text_.size();
    const auto read = std::from_chars(verdict_text_.data(), end, number);
    return judged(read.ec == std::errc() && number > 0 ? std::optional(number - 1) : std::nullopt);
  }
}

void Generation::judged(std::optional<size_t> index) {
  if (is_over_) return;
  const std::vector<CandidateScore> all_scores = scores(0);
  const std::vector<size_t> judged = judged_candidates(all_scores);
  if (index && *index < judged.size()) return respond({&judged[*index], 1});
  respond(choose_candidates(choices_, all_scores));
}

void Generation::respond(std::span<const size_t> chosen) {
  is_over_ = true;
  GenerationLog& log = exchange_->log;
  const AnswerEnd& first = candidates_[chosen.front()]->end;
  const bool is_length = first.reason == FinishReason::kLength;
  log.outcome = first.is_late ? Outcome::kDeadline : is_length ? Outcome::kLength : Outcome::kStop;
  log.end = first.is_late ? "deadline" : is_length ? "length" : "stop";
  if (is_streamed_) return exchange_->finish();
  std::vector<AnswerEnd> ends;
  for (const size_t index : chosen) ends.push_back(candidates_[index]->end);
  ends.back().usage = log.usage();
  log.shown_tokens = log.completion_tokens - log.judge_tokens;
  std::string out;
  answer_->whole(ends, out);
  exchange_->respond({200, {{"Content-Type", "application/json"}}, std::move(out)});
}

void Generation::cancel_all() {
  std::vector<JobId> ids;
  for (const auto& candidate : candidates_) ids.push_back(candidate->job);
  if (judge_job_ != 0) ids.push_back(judge_job_);
  engine_thread_.cancel(std::move(ids));
}

// A stream that has begun carries its error as an event.
void Generation::on_failed(const Error& error) {
  if (std::exchange(is_over_, true)) return;
  cancel_all();
  const ApiError api_error = from_error(error);
  if (exchange_->log.has_started()) exchange_->log.outcome = Outcome::kFailed;
  exchange_->log.end = "error: " + error.message;
  if (!exchange_->is_streaming()) return exchange_->fail(api_error);
  std::string out;
  answer_->stream_error(api_error, out);
  exchange_->write_error(std::move(out));
  exchange_->finish();
}

void Generation::on_close(net::CloseReason reason) {
  if (std::exchange(is_over_, true)) return;
  exchange_->log.outcome = Outcome::kAborted;
  exchange_->log.end = net::close_reason_text(reason);
  cancel_all();
}

}  // namespace ultraspeed::server
