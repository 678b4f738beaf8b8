// For the tests of speculation on the bundled model: requests, and the texts that every drafter,
// width and thread count must give for them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/executor.h"
#include "engine/engine.h"
#include "engine/speculation.h"
#include "golden/golden_case.h"
#include "model/drafter.h"

namespace ultraspeed::engine {

inline const std::string kModel = US_SOURCE_DIR "/models/tiny-mimo";

struct Request {
  std::vector<int32_t> prompt;
  GenerationParams params;
};

struct Text {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;

  bool operator==(const Text&) const = default;
};

struct Setup {
  DrafterOptions drafter = {};
  uint32_t decode_width = 8;
  uint32_t num_threads = 1;
  uint32_t block_size = 8;
  const model::Drafter* dflash = nullptr;
  program::Activations activations = program::Activations::kF32;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
  std::string directory = kModel;  // or a copy with MTP layers
  std::function<std::unique_ptr<program::Executor>()> make_executor = {};  // the CPU's
  uint32_t prefill_width = 0;        // EngineOptions::prefill_width
  uint32_t num_cached_prefixes = 0;  // EngineOptions::num_cached_prefixes
  uint32_t num_kv_pages = 0;         // EngineOptions::num_kv_pages
  bool has_plain_decode = false;     // EngineOptions::has_plain_decode
};

inline std::string setup_name(const Setup& setup) {
  return fmt::format("drafter {}:{}, width {}, prefill {}, threads {}, block {}, {}, KV cache {}",
                     static_cast<int>(setup.drafter.kind), setup.drafter.tokens_per_cycle,
                     setup.decode_width, setup.prefill_width, setup.num_threads, setup.block_size,
                     program::activations_name(setup.activations),
                     program::kv_cache_type_name(setup.kv_cache));
}

// Of a model with three MTP layers.
inline Setup mtp_setup(const std::string& directory, uint32_t decode_width, uint32_t num_threads) {
  Setup setup{{DrafterKind::kMtp, 1}, decode_width, num_threads, 4};
  setup.directory = directory;
  return setup;
}

// The trained drafter beside the bundled model.
inline Setup bundled_setup(uint32_t decode_width, uint32_t num_threads) {
  static const auto drafter = model::Drafter::open(kModel + "/dflash");
  EXPECT_TRUE(drafter) << drafter.error().message;
  return {{DrafterKind::kDflash, 1}, decode_width, num_threads, 8, &*drafter};
}

inline std::unique_ptr<Engine> open(const Setup& setup) {
  const auto config = model::ModelConfig::load(setup.directory);
  const auto checkpoint = model::Checkpoint::open(setup.directory);
  EXPECT_TRUE(config && checkpoint);
  EngineOptions options;
  options.max_context = 1024;
  options.decode_width = setup.decode_width;
  options.prefill_width = setup.prefill_width;
  options.num_cached_prefixes = setup.num_cached_prefixes;
  options.num_kv_pages = setup.num_kv_pages;
  options.drafter = setup.drafter;
  options.block_size = setup.block_size;
  options.dflash = setup.dflash;
  options.has_plain_decode = setup.has_plain_decode;
  auto executor =
      setup.make_executor
          ? setup.make_executor()
          : cpu::make_cpu_executor({.activations = setup.activations, .kv_cache = setup.kv_cache});
  auto engine = Engine::open(*config, *checkpoint, std::move(executor),
                             cpu::cpu_limits(setup.num_threads), options, {});
  EXPECT_TRUE(engine) << engine.error().message;
  return std::move(engine).value();
}

// A greedy and a sampled text for each of some golden prompts.
inline std::vector<Request> make_requests(const std::vector<size_t>& indices, uint32_t max_tokens) {
  std::vector<Request> requests;
  const auto cases = test::tiny_mimo_cases();
  for (const size_t index : indices) {
    GenerationParams params;
    params.max_tokens = max_tokens;
    params.sampling.temperature = 0;
    requests.push_back({cases[index].prompt_ids, params});
    params.sampling.temperature = 0.8F;
    params.sampling.seed = 1000 + index;
    params.sampling.repetition_penalty = 1.05F;
    params.sampling.frequency_penalty = 0.125F;
    requests.push_back({cases[index].prompt_ids, params});
  }
  return requests;
}

inline void run(Engine& engine, std::map<SessionId, Text>* texts, SpeculationStats* stats) {
  std::vector<StepEvent> events;
  while (!engine.idle()) {
    events.clear();
    const Status status = engine.step(&events);
    ASSERT_TRUE(status) << status.error().message;
    for (const StepEvent& event : events) {
      if (event.cycle) stats->add(*event.cycle);
      if (!event.token) continue;
      (*texts)[event.session].tokens.push_back(event.token->id);
      (*texts)[event.session].logprobs.push_back(event.token->logprob);
    }
  }
}

// Runs the only session, whose prompt has `prompt_size` tokens, to its first token.
inline void run_prompt(Engine& engine, size_t prompt_size, std::map<SessionId, Text>* texts) {
  for (uint32_t done = 0; done < prompt_size;) {
    std::vector<StepEvent> events;
    ASSERT_TRUE(engine.step(&events));
    const StepEvent& event = events.back();
    done = event.prompt_tokens_done;
    if (event.token) (*texts)[event.session] = {{event.token->id}, {event.token->logprob}};
  }
}

// The texts of requests that run together.
inline std::vector<Text> generate(Engine& engine, const std::vector<Request>& requests,
                                  SpeculationStats* stats) {
  std::map<SessionId, Text> texts;  // ids ascend in order of start
  for (const Request& request : requests) {
    texts[engine.start(request.prompt, request.params).value()] = {};
  }
  run(engine, &texts, stats);
  std::vector<Text> result;
  for (auto& [id, text] : texts) result.push_back(std::move(text));
  return result;
}

// What every setup must give, and this one with one column a step, one session at a time.
inline std::vector<Text> reference_texts(std::vector<Request>* requests, const Setup& setup = {}) {
  const auto engine = open(setup);
  std::vector<Text> texts;
  SpeculationStats stats;
  for (Request& request : *requests) {
    texts.push_back(generate(*engine, {request}, &stats).front());
    request.params.expected_output = texts.back().tokens;
  }
  return texts;
}

inline const std::vector<DrafterOptions>& all_drafters() {
  static const auto drafters = [] {
    std::vector<DrafterOptions> list = {
        {DrafterKind::kNone, 1}, {DrafterKind::kSuffix, 1}, {DrafterKind::kRandom, 1}};
    for (uint32_t n = 1; n <= 8; ++n) list.push_back({DrafterKind::kReplay, n});
    return list;
  }();
  return drafters;
}

inline void check(const Setup& setup, const std::vector<Request>& requests,
                  const std::vector<Text>& expected, bool also_alone) {
  SCOPED_TRACE(setup_name(setup));
  const auto engine = open(setup);
  SpeculationStats packed;
  EXPECT_EQ(generate(*engine, requests, &packed), expected);
  if (!also_alone) return;
  SpeculationStats alone;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(generate(*engine, {requests[i]}, &alone).front(), expected[i]);
  }
  if (setup.drafter.kind != DrafterKind::kReplay) return;
  size_t num_cycles = 0;
  for (const Text& text : expected) {
    num_cycles += (text.tokens.size() - 2) / setup.drafter.tokens_per_cycle + 1;
  }
  EXPECT_EQ(alone.num_cycles(), num_cycles);
}

}  // namespace ultraspeed::engine
