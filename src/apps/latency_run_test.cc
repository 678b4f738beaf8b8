// The times of prompts and of a stream beside them, by a clock that a scripted engine moves.
#include "apps/latency_run.h"

#include <gtest/gtest.h>

#include <map>

namespace ultraspeed::apps {
namespace {

// Takes prompts in chunks of 100 tokens, 10 ms each, the last of which gives the first token, in
// turns with decode steps of 1 ms that give every other session a token.
class ClockedEngine final : public engine::Engine {
 public:
  Result<engine::SessionId> start(std::span<const int32_t> prompt,
                                  const engine::GenerationParams&) override {
    sessions_[++last_] = (prompt.size() + 99) / 100;
    return last_;
  }
  Result<engine::SessionId> fork(engine::SessionId, uint64_t) override {
    return make_error(ErrorCode::kUnsupported, "no forks");
  }
  Status step(std::vector<engine::StepEvent>* events) override {
    const auto waiting = std::ranges::find_if(sessions_, [](auto& it) { return it.second > 0; });
    const bool has_stream = std::ranges::any_of(sessions_, [](auto& it) { return it.second == 0; });
    if (waiting != sessions_.end() && (!has_stream || !has_prefilled_)) {
      has_prefilled_ = true;
      now_ms += 10;
      if (--waiting->second == 0) give(waiting->first, events);
      return {};
    }
    has_prefilled_ = false;
    now_ms += 1;
    for (const auto& [id, chunks] : sessions_) {
      if (chunks == 0) give(id, events);
    }
    return {};
  }
  void cancel(engine::SessionId session) override { sessions_.erase(session); }
  bool idle() const override { return sessions_.empty(); }
  Result<std::vector<float>> score(std::span<const int32_t>,
                                   const std::function<void(uint32_t)>&) override {
    return make_error(ErrorCode::kUnsupported, "no scores");
  }
  uint32_t max_context() const override { return 1000; }
  std::string_view device() const override { return "none"; }
  const std::vector<program::Program>& programs() const override { return programs_; }

  double now_ms = 0;
  uint32_t most_tokens = ~0u;  // of a session

 private:
  void give(engine::SessionId id, std::vector<engine::StepEvent>* events) {
    engine::StepEvent& event = events->emplace_back();
    event.session = id;
    event.token = engine::Token{};
    if (++num_tokens_[id] == most_tokens) event.finished = engine::FinishReason::kLength;
  }

  engine::SessionId last_ = 0;
  std::map<engine::SessionId, size_t> sessions_;  // chunks that are left of its prompt
  std::map<engine::SessionId, uint32_t> num_tokens_;
  bool has_prefilled_ = false;
  std::vector<program::Program> programs_;
};

LatencyOptions options_of(ClockedEngine& engine) {
  LatencyOptions options;
  options.prompt_tokens = {100, 300};
  options.repeat = 2;
  options.alone_steps = 5;
  options.now_ms = [&engine] { return engine.now_ms; };
  return options;
}

TEST(Latency, OfPromptsAndOfTheStreamBesideThem) {
  ClockedEngine engine;
  const auto samples = measure_latency(engine, options_of(engine));
  ASSERT_TRUE(samples) << samples.error().message;
  ASSERT_EQ(samples->size(), 2u);
  const LatencySamples& longer = samples->back();
  EXPECT_EQ(longer.prompt_tokens, 300u);
  EXPECT_EQ(longer.first_token_ms, (std::vector<double>{30, 30}));
  // Three chunks with two decode steps between them.
  EXPECT_EQ(longer.beside_first_token_ms, (std::vector<double>{32, 32}));
  EXPECT_EQ(longer.beside_gaps_ms, (std::vector<double>{11, 11, 11, 11, 11, 11}));
  EXPECT_EQ(longer.alone_gaps_ms, std::vector<double>(5, 1));
  EXPECT_TRUE(engine.idle());

  const TextTable table = latency_table(*samples);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[1], (std::vector<std::string>{"300", "30.000", "10000", "32.000", "11.000",
                                                     "11.000", "1.000", "1.000", "11.000"}));
}

TEST(Latency, StreamThatEndsIsAnError) {
  ClockedEngine engine;
  engine.most_tokens = 18;
  const auto samples = measure_latency(engine, options_of(engine));
  ASSERT_FALSE(samples);
  EXPECT_EQ(samples.error().message,
            "the stream ended while it was measured, after 1000 tokens at most; measure shorter "
            "prompts or wider prefill steps");
  EXPECT_TRUE(engine.idle());
}

}  // namespace
}  // namespace ultraspeed::apps
