// For the tests of prefixes and preemption: prompts that begin alike, and their texts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/model_texts.h"

namespace ultraspeed::engine {

struct ConversationLimits {
  uint32_t max_context = 0;  // the engine's
  uint32_t vocab_size = 0;   // ids are below this
};

// Conversations that go on, part, come together and are broken off.
class Conversations {
 public:
  Conversations(Engine& engine, const ConversationLimits& limits)
      : engine_(engine), limits_(limits) {}

  void run(int num_operations) {
    for (int i = 0; i < num_operations; ++i) {
      const uint32_t choice = below(20);
      if (choice < 2 && active_.size() < 4) {
        start();
      } else if (choice == 2 && below(3) == 0) {
        cancel();
      } else {
        step();
      }
    }
    while (!engine_.idle()) step();
  }

  // What engine, one text at a time, gives for all of them.
  void expect_texts_of(Engine& engine) const {
    SpeculationStats stats;
    for (const auto& [id, request] : requests_) {
      const Text whole = generate(engine, {request}, &stats).front();
      const auto found = texts_.find(id);
      const Text text = found == texts_.end() ? Text() : found->second;
      if (!cancelled_.contains(id)) {
        EXPECT_EQ(text, whole);
        continue;
      }
      ASSERT_LE(text.tokens.size(), whole.tokens.size());
      EXPECT_TRUE(std::equal(text.tokens.begin(), text.tokens.end(), whole.tokens.begin()));
      EXPECT_TRUE(std::equal(text.logprobs.begin(), text.logprobs.end(), whole.logprobs.begin()));
    }
  }

  size_t num_taken_over() const { return took_over_.size(); }

 private:
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  void start() {
    Request request;
    if (!requests_.empty() && below(4) != 0) {
      const auto& [id, earlier] =
          *std::next(requests_.begin(), below(static_cast<uint32_t>(requests_.size())));
      request.prompt = earlier.prompt;
      const auto& output = texts_[id].tokens;
      if (below(2) == 0) request.prompt.insert(request.prompt.end(), output.begin(), output.end());
      if (below(4) == 0) request.prompt.resize(1 + below(400));
    }
    const uint32_t num_new = below(4) == 0 ? limits_.max_context / 2 : 60;
    for (uint32_t i = 1 + below(num_new); i > 0; --i) {
      request.prompt.push_back(static_cast<int32_t>(below(limits_.vocab_size)));
    }
    const uint32_t longest = limits_.max_context - 100;
    if (request.prompt.size() > longest) request.prompt.resize(longest);
    request.params.max_tokens = 1 + below(40);
    request.params.ignore_eos = true;
    request.params.sampling.temperature = below(2) == 0 ? 0.0F : 1.0F;
    request.params.sampling.seed = random_();
    if (below(3) == 0) request.params.sampling.repetition_penalty = 1.25F;
    const auto id = engine_.start(request.prompt, request.params);
    if (!id) return;  // no pages
    requests_.emplace(*id, std::move(request));
    active_.push_back(*id);
  }

  void cancel() {
    if (active_.empty()) return;
    const size_t index = below(static_cast<uint32_t>(active_.size()));
    engine_.cancel(active_[index]);
    cancelled_.insert(active_[index]);
    active_.erase(active_.begin() + static_cast<ptrdiff_t>(index));
  }

  void step() {
    std::vector<StepEvent> events;
    const Status status = engine_.step(&events);
    ASSERT_TRUE(status) << status.error().message;
    for (const StepEvent& event : events) {
      if (event.prompt_tokens_cached > 0) took_over_.insert(event.session);
      if (event.token) {
        texts_[event.session].tokens.push_back(event.token->id);
        texts_[event.session].logprobs.push_back(event.token->logprob);
      }
      if (event.finished) std::erase(active_, event.session);
    }
  }

  Engine& engine_;
  ConversationLimits limits_;
  std::mt19937_64 random_{3};
  std::map<SessionId, Request> requests_;
  std::map<SessionId, Text> texts_;
  std::vector<SessionId> active_;
  std::set<SessionId> cancelled_;
  std::set<SessionId> took_over_;
};

}  // namespace ultraspeed::engine
