// One generation from the engine's events to the client: the candidates' texts, stop strings, the
// choice among them, answer, usage. A candidate ends with the engine, a stop string, an answer that
// has enough, or its deadline; all of them with an error or a client that hangs up. Lives on the
// event-loop thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/answer.h"
#include "server/candidate_choice.h"
#include "server/engine_thread.h"
#include "server/exchange.h"
#include "server/generation_request.h"
#include "server/output_text.h"

namespace ultraspeed::server {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Has judge_with() or judged() called, on the event-loop thread.
  using AskJudge =
      std::function<void(std::shared_ptr<Generation>, const std::vector<std::string>& texts)>;

  // REQUIRES: the engine thread and the tokenizer outlive it; outputs has one for each candidate of
  // each prompt.
  Generation(std::shared_ptr<Exchange> exchange, std::unique_ptr<Answer> answer,
             std::vector<OutputText> outputs, const ChoiceOptions& choices, bool is_streamed,
             EngineThread& engine_thread, const text::Tokenizer& tokenizer);

  // Before start(): who is asked with Selection::kJudge.
  void set_judge(AskJudge ask) { ask_judge_ = std::move(ask); }
  // The job whose answer is the number of the best text, from 1 on.
  void judge_with(Job job);
  // With what it has in common with the candidates: group, rank, cache domain.
  Job judge_job() const { return judge_template_; }
  const access::Identity& identity() const { return exchange_->identity; }  // who asks
  // Without an index the likeliest candidate is taken.
  void judged(std::optional<size_t> index);

  // For each prompt the job of its first candidate; the others have the same but for seeds, which
  // follow its own. Constraints, if there are any, become those of the parameters.
  void start(std::vector<Job> jobs);

 private:
  // What a step, or the end, adds to the answer.
  struct Progress {
    std::string text;
    std::vector<engine::Token> tokens;
    std::optional<engine::FinishReason> reason;
    std::string stop_string;  // that was found, or empty
    bool is_engine_done = false;
    bool is_late = false;
  };

  // One candidate's part. Owned by the generation, which its users' pointers keep alive.
  class Candidate final : public JobListener {
   public:
    Candidate(Generation& generation, size_t index, OutputText text)
        : output(std::move(text)), generation_(generation) {
      end.choice = index;
    }
    void on_accepted(size_t queue_position) override { generation_.on_accepted(queue_position); }
    void on_started(std::chrono::steady_clock::time_point time) override {
      generation_.on_started(time);
    }
    void on_step(std::span<const engine::StepEvent> events) override {
      generation_.on_step(*this, events);
    }
    void on_failed(const Error& error) override { generation_.on_failed(error); }
    void on_deadline() override { generation_.on_deadline(*this); }

    OutputText output;
    JobId job = 0;
    bool is_over = false;
    AnswerEnd end;  // but for the usage
    size_t num_tokens = 0;
    size_t num_shown = 0;                               // of them, in what was written
    std::chrono::steady_clock::time_point last_tokens;  // when they came; the epoch: none
    double logprob = 0;                                 // of all tokens

   private:
    Generation& generation_;
  };

  // What the judge says.
  class Verdict final : public JobListener {
   public:
    explicit Verdict(Generation& generation) : generation_(generation) {}
    void on_accepted(size_t) override {}
    void on_started(std::chrono::steady_clock::time_point) override {
      generation_.exchange_->log.prompt_tokens += generation_.judge_prompt_size_;
    }
    void on_step(std::span<const engine::StepEvent> events) override {
      generation_.on_verdict(events);
    }
    void on_failed(const Error&) override { generation_.judged(std::nullopt); }
    void on_deadline() override { generation_.judged(std::nullopt); }

   private:
    Generation& generation_;
  };

  void show_all(Candidate& candidate);
  void on_accepted(size_t queue_position);
  void on_started(std::chrono::steady_clock::time_point time);
  void on_step(Candidate& candidate, std::span<const engine::StepEvent> events);
  void on_deadline(Candidate& candidate);
  void on_failed(const Error& error);
  void on_close(net::CloseReason reason);
  void take(Candidate& candidate, const engine::StepEvent& event, Progress* progress);
  void deliver(Candidate& candidate, Progress progress);
  void end(Candidate& candidate, const Progress& progress, std::string out);
  bool is_decided_at(size_t prompt) const;
  void cancel_rest(size_t prompt);
  void finish(std::string out);
  std::vector<CandidateScore> scores(size_t prompt) const;
  void respond(std::span<const size_t> chosen);
  void on_verdict(std::span<const engine::StepEvent> events);
  void cancel_all();

  const std::shared_ptr<Exchange> exchange_;
  const std::unique_ptr<Answer> answer_;
  const ChoiceOptions choices_;
  const bool is_streamed_;
  EngineThread& engine_thread_;
  std::vector<std::unique_ptr<Candidate>> candidates_;
  Job judge_template_;
  size_t judge_prompt_size_ = 0;
  AskJudge ask_judge_;
  Verdict verdict_{*this};
  JobId judge_job_ = 0;  // 0: none
  std::string verdict_text_;
  const text::Tokenizer& tokenizer_;
  bool has_begun_ = false;  // to be answered
  bool is_over_ = false;
};

}  // namespace ultraspeed::server
