// One generation from the engine's events to the client: text, stop strings, answer, usage; ends
// with the engine, a stop string, an answer that has enough, an error, or a client that hangs up.
// Lives on the event-loop thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/answer.h"
#include "server/engine_thread.h"
#include "server/exchange.h"
#include "server/output_text.h"

namespace ultraspeed::server {

class Generation final : public JobListener, public std::enable_shared_from_this<Generation> {
 public:
  // REQUIRES: the engine thread outlives it.
  Generation(std::shared_ptr<Exchange> exchange, std::unique_ptr<Answer> answer, OutputText output,
             bool is_streamed, EngineThread& engine_thread);

  // The constraint, if there is one, becomes that of the parameters.
  void start(std::vector<int32_t> prompt, engine::GenerationParams params,
             std::shared_ptr<const engine::TokenConstraint> constraint);

  void on_accepted() override;
  void on_started(std::chrono::steady_clock::time_point time) override {
    exchange_->log.started = time;
  }
  void on_step(std::span<const engine::StepEvent> events) override;
  void on_failed(const Error& error) override;

 private:
  // What a step, or the end, adds to the answer.
  struct Progress {
    std::string text;
    std::vector<engine::Token> tokens;
    std::optional<engine::FinishReason> reason;
    std::string stop_string;  // that was found, or empty
    bool is_engine_done = false;
  };
  void take(const engine::StepEvent& event, Progress* progress);
  void deliver(Progress progress);
  void end(const Progress& progress, std::string out);
  void on_close(net::CloseReason reason);

  const std::shared_ptr<Exchange> exchange_;
  const std::unique_ptr<Answer> answer_;
  OutputText output_;
  const bool is_streamed_;
  EngineThread& engine_thread_;
  JobId job_ = 0;
  bool is_over_ = false;
};

}  // namespace ultraspeed::server
