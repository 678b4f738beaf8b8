// The engine's greedy texts of a golden checkpoint, whatever drafts, whatever the block.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "golden/golden_case.h"
#include "model/checkpoint.h"

namespace ultraspeed::test {

// The ids of one greedy request, as many as the golden text has.
inline std::vector<int32_t> greedy_text(engine::Engine* engine, const GoldenCase& golden) {
  engine::GenerationParams params;
  params.sampling.temperature = 0;
  params.max_tokens = static_cast<uint32_t>(golden.greedy_ids.size());
  params.ignore_eos = true;
  std::vector<int32_t> text;
  const auto started = engine->start(golden.prompt_ids, params);
  EXPECT_TRUE(started) << started.error().message;
  for (bool is_running = started.has_value(); is_running;) {
    std::vector<engine::StepEvent> events;
    const Status status = engine->step(&events);
    EXPECT_TRUE(status) << status.error().message;
    if (!status) return text;
    for (const engine::StepEvent& event : events) {
      if (event.token) text.push_back(event.token->id);
      if (event.finished) is_running = false;
    }
  }
  return text;
}

inline void expect_engine_texts(
    const std::string& directory,
    const std::function<std::unique_ptr<program::Executor>()>& make_executor,
    const program::DeviceLimits& limits) {
  const auto config = model::ModelConfig::load(directory);
  const auto checkpoint = model::Checkpoint::open(directory);
  ASSERT_TRUE(config && checkpoint);
  engine::EngineOptions options;
  options.max_context = 512;
  for (const auto& [drafter, block] : {std::pair(engine::DrafterKind::kNone, 1u),
                                       {engine::DrafterKind::kSuffix, 4u},
                                       {engine::DrafterKind::kRandom, 8u}}) {
    options.drafter.kind = drafter;
    options.block_size = block;
    auto engine =
        engine::Engine::open(*config, *checkpoint, make_executor(), limits, options, nullptr);
    ASSERT_TRUE(engine) << engine.error().message;
    for (const GoldenCase& golden : reference_cases(directory)) {
      EXPECT_EQ(greedy_text(engine->get(), golden), golden.greedy_ids)
          << directory << ", " << golden.name << ", block " << block;
    }
  }
}

}  // namespace ultraspeed::test
