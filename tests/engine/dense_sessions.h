// The sessions whose drafts are compared with a dense second implementation's.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/engine.h"

namespace ultraspeed::test {

using Tokens = std::vector<int32_t>;

// Sampled, the third with a penalty.
inline engine::GenerationParams params_of(uint32_t index) {
  engine::GenerationParams params;
  params.max_tokens = 16;
  params.sampling.temperature = 1;
  params.sampling.logit_bias = {{3, 2.0F}};
  params.sampling.seed = 70 + index;
  if (index == 2) params.sampling.presence_penalty = 0.5F;
  return params;
}

// The texts of a session for each prompt, and of a fork of the first while they decode.
inline std::vector<Tokens> generate(engine::Engine& engine, std::span<const Tokens> prompts,
                                    engine::Acceptance acceptance = engine::Acceptance::kKeyed) {
  std::vector<engine::SessionId> ids;
  std::map<engine::SessionId, Tokens> texts;
  std::vector<engine::StepEvent> events;
  const auto step = [&] {
    events.clear();
    US_CHECK(engine.step(&events).has_value());
    for (const auto& event : events) {
      if (event.token) texts[event.session].push_back(event.token->id);
    }
  };
  for (uint32_t i = 0; i < prompts.size(); ++i) {
    engine::GenerationParams params = params_of(i);
    params.sampling.acceptance = acceptance;
    ids.push_back(engine.start(prompts[i], params).value());
  }
  while (texts[ids[0]].size() < 3) step();
  ids.push_back(engine.fork(ids[0], 99).value());
  while (!engine.idle()) step();
  std::vector<Tokens> result;
  for (const engine::SessionId id : ids) result.push_back(texts[id]);
  return result;
}

}  // namespace ultraspeed::test
