// For the tests of executors: sessions that come and go at random.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "engine/model_texts.h"

namespace ultraspeed::engine {

// num_steps steps in which sessions of these requests start and are cancelled; each text is, as far
// as it comes, the expected one.
inline void expect_texts_in_company(Engine& engine, const std::vector<Request>& requests,
                                    const std::vector<Text>& expected, uint32_t num_steps) {
  std::mt19937 random(5);
  struct Running {
    size_t request = 0;
    Text text;
  };
  std::map<SessionId, Running> running;
  const auto expect_begins = [&](const Running& session) {
    const Text& all = expected[session.request];
    ASSERT_LE(session.text.tokens.size(), all.tokens.size());
    EXPECT_TRUE(std::ranges::equal(session.text.tokens,
                                   std::span(all.tokens).first(session.text.tokens.size())));
    EXPECT_TRUE(std::ranges::equal(session.text.logprobs,
                                   std::span(all.logprobs).first(session.text.tokens.size())));
  };
  uint32_t num_finished = 0, num_cancelled = 0;
  for (uint32_t step = 0; step < num_steps; ++step) {
    if (running.empty() || (running.size() < 4 && random() % 3 == 0)) {
      const size_t i = random() % requests.size();
      const auto id = engine.start(requests[i].prompt, requests[i].params);
      ASSERT_TRUE(id) << id.error().message;
      running[*id].request = i;
    }
    if (random() % 24 == 0) {
      const auto victim = std::next(running.begin(), random() % running.size());
      engine.cancel(victim->first);
      expect_begins(victim->second);
      running.erase(victim);
      ++num_cancelled;
      continue;
    }
    std::vector<StepEvent> events;
    const Status status = engine.step(&events);
    ASSERT_TRUE(status) << status.error().message;
    for (const StepEvent& event : events) {
      Text& text = running[event.session].text;
      if (event.token) {
        text.tokens.push_back(event.token->id);
        text.logprobs.push_back(event.token->logprob);
      }
      if (!event.finished) continue;
      EXPECT_EQ(text, expected[running[event.session].request]);
      running.erase(event.session);
      ++num_finished;
    }
  }
  EXPECT_GT(num_finished, 100u);
  EXPECT_GT(num_cancelled, 50u);
}

}  // namespace ultraspeed::engine
