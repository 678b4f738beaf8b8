// For tests: another engine, with what it was asked to do and when.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace ultraspeed::apps {

class WatchedEngine final : public engine::Engine {
 public:
  explicit WatchedEngine(engine::Engine& watched) : watched_(watched) {}

  // When it had taken the newest session.
  std::chrono::steady_clock::time_point last_start() const { return last_start_; }
  size_t num_steps() const { return num_steps_; }

  Result<engine::SessionId> start(std::span<const int32_t> prompt,
                                  const engine::GenerationParams& params) override {
    auto session = watched_.start(prompt, params);
    last_start_ = std::chrono::steady_clock::now();
    return session;
  }
  Result<engine::SessionId> fork(engine::SessionId session, uint64_t seed) override {
    return watched_.fork(session, seed);
  }
  Status step(std::vector<engine::StepEvent>* events) override {
    ++num_steps_;
    return watched_.step(events);
  }
  void cancel(engine::SessionId session) override { watched_.cancel(session); }
  bool idle() const override { return watched_.idle(); }
  Result<std::vector<float>> score(std::span<const int32_t> tokens,
                                   const std::function<void(uint32_t)>& progress) override {
    return watched_.score(tokens, progress);
  }
  engine::KvUsage kv_usage() const override { return watched_.kv_usage(); }
  uint32_t max_context() const override { return watched_.max_context(); }
  std::string_view device() const override { return watched_.device(); }
  const std::vector<program::Program>& programs() const override { return watched_.programs(); }

 private:
  engine::Engine& watched_;
  std::atomic<std::chrono::steady_clock::time_point> last_start_{};
  std::atomic<size_t> num_steps_ = 0;
};

}  // namespace ultraspeed::apps
