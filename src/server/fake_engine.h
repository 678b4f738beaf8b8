// A scripted engine for the server's tests: it "generates" given tokens, one or more a step, and
// records what it was asked. Members above the line are set before the server starts or are atomic;
// the rest is safe from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace ultraspeed::server {

class FakeEngine final : public engine::Engine {
 public:
  struct Start {
    std::vector<int32_t> prompt;
    engine::GenerationParams params;
  };

  // What every session generates; the last token is the stop token. Without an end, it repeats
  // until max_tokens or cancel().
  std::vector<int32_t> reply = {2};
  std::atomic<bool> is_endless = false;
  size_t max_sessions = 8;
  uint32_t context = 1000;
  // If it is not empty: what the session of a seed generates instead, [seed % size].
  std::vector<std::vector<int32_t>> replies_by_seed;
  std::vector<int32_t> judge_reply;  // if it is not empty: of sessions with a constraint
  bool follows_constraints = false;  // those leave one token at a time: a text written beforehand
  std::atomic<size_t> tokens_per_step = 1;
  uint32_t cached_tokens = 0;  // of every prompt
  size_t prefill_width = 64;
  std::optional<Error> start_error;
  std::atomic<int> step_delay_us = 0;
  std::atomic<int> step_period_us = 0;  // above 0: when steps come, late ones made up for
  std::atomic<bool> fails_steps = false;
  std::atomic<bool> is_paused = false;  // steps of the decode phase give nothing
  bool records_starts = true;
  bool records_times = false;

  // ---
  std::vector<Start> starts() const {
    const std::lock_guard lock(mutex_);
    return starts_;
  }
  // When each token was made, of all sessions.
  std::vector<std::chrono::steady_clock::time_point> token_times() const {
    const std::lock_guard lock(mutex_);
    return token_times_;
  }
  size_t num_forks() const {
    const std::lock_guard lock(mutex_);
    return num_forks_;
  }
  size_t num_cancelled() const {
    const std::lock_guard lock(mutex_);
    return num_cancelled_;
  }
  size_t num_active() const {
    const std::lock_guard lock(mutex_);
    return sessions_.size();
  }
  bool wait_for_starts(size_t count) {
    return wait([this, count] { return starts_.size() >= count; });
  }
  bool wait_for_cancels(size_t count) {
    return wait([this, count] { return num_cancelled_ >= count; });
  }

  Result<engine::SessionId> start(std::span<const int32_t> prompt,
                                  const engine::GenerationParams& params) override;
  Result<engine::SessionId> fork(engine::SessionId session, uint64_t seed) override;
  Status step(std::vector<engine::StepEvent>* events) override;
  void cancel(engine::SessionId session) override;
  bool idle() const override { return num_active() == 0; }
  Result<std::vector<float>> score(std::span<const int32_t>,
                                   const std::function<void(uint32_t)>&) override {
    return make_error(ErrorCode::kUnsupported, "the fake engine does not score");
  }
  uint32_t max_context() const override { return context; }
  std::string_view device() const override { return "none"; }
  const std::vector<program::Program>& programs() const override { return programs_; }

 private:
  struct Session {
    Start start;
    bool is_constrained = false;
    std::vector<int32_t> forced;  // what its constraint leaves
    size_t num_prefilled = 0;
    size_t num_generated = 0;
  };

  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), condition);
  }
  // Returns whether the session has ended.
  bool advance(engine::SessionId id, Session& session, std::vector<engine::StepEvent>* events);
  const std::vector<int32_t>& reply_of(const Session& session) const;
  engine::Token token(const Session& session) const;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<engine::SessionId, Session> sessions_;
  engine::SessionId last_session_ = 0;
  std::vector<Start> starts_;
  std::vector<std::chrono::steady_clock::time_point> token_times_;
  size_t num_forks_ = 0;
  size_t num_cancelled_ = 0;
  std::chrono::steady_clock::time_point last_step_;
  std::vector<program::Program> programs_;
};

}  // namespace ultraspeed::server
