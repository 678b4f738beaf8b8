// The bundled model with a DFlash drafter of random weights: no text changes, alone, packed or
// forked; what Engine::open refuses; that drafts which are right are accepted, and what drawing
// them is worth.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "model/drafter.h"
#include "model/weights.h"
#include "support/dequantize.h"
#include "support/drafter_generator.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::engine {
namespace {

// Greedy, sampled with a bias, and sampled with penalties, for which the host drafts.
std::vector<Request> make_dflash_requests(uint32_t max_tokens) {
  std::vector<Request> requests = make_requests({0, 4}, max_tokens);
  requests.push_back(requests[0]);
  SamplingParams& sampling = requests.back().params.sampling;
  sampling.temperature = 0.9F;
  sampling.top_p = 0.95F;
  sampling.seed = 77;
  sampling.logit_bias = {{11, 1.5F}, {20, -2.0F}};
  return requests;
}

TEST(Dflash, NoTextChanges) {
  auto requests = make_dflash_requests(static_cast<uint32_t>(9 * test::test_scale()));
  const auto expected = reference_texts(&requests);
  const TinyDrafter mimo(true);
  check(mimo.setup(8, 8, 2), requests, expected, true);
  check(mimo.setup(4, 16, 1), requests, expected, false);
  const TinyDrafter zlab(false);
  check(zlab.setup(4, 8, 1), requests, expected, true);
  check(zlab.setup(8, 32, 2), requests, expected, false);
}

TEST(Dflash, StepsWithoutDraftsChangeNoText) {
  auto requests = make_dflash_requests(static_cast<uint32_t>(9 * test::test_scale()));
  const auto expected = reference_texts(&requests);
  for (size_t i = 0; i < requests.size(); i += 2) requests[i].params.speculates = false;
  const TinyDrafter mimo(true);
  auto setup = mimo.setup(8, 16, 2);
  setup.has_plain_decode = true;
  check(setup, requests, expected, false);
}

// Or what was written without drafts would be drafted worse when it is a prompt's begin.
TEST(Dflash, StepsWithoutDraftsKeepTheDraftersContext) {
  auto setup = bundled_setup(8, 2);
  setup.has_plain_decode = true;
  setup.num_cached_prefixes = 2;
  const auto engine = open(setup), fresh = open(setup);
  Request request = make_requests({0}, test::kIsSanitized ? 30 : 60)[0];
  request.params.speculates = false;
  SpeculationStats plain, known, unknown;
  const Text text = generate(*engine, {request}, &plain).front();
  EXPECT_EQ(plain.accepted_length(), 1);
  request.prompt.insert(request.prompt.end(), text.tokens.begin(), text.tokens.end() - 1);
  request.params.speculates = true;
  EXPECT_EQ(generate(*engine, {request}, &known), generate(*fresh, {request}, &unknown));
  EXPECT_GT(unknown.accepted_length(), 4);
  EXPECT_GT(known.accepted_length(), 0.8 * unknown.accepted_length());
}

TEST(Dflash, ASelectorChangesNoText) {
  auto requests = make_dflash_requests(static_cast<uint32_t>(9 * test::test_scale()));
  const auto expected = reference_texts(&requests);
  const TinyDrafter selecting(true, false, 16);
  check(selecting.setup(8, 8, 2), requests, expected, true);
  check(selecting.setup(4, 16, 1), requests, expected, false);
}

// What the tools run on a processor.
TEST(Dflash, DraftsInInt8ChangeNoTextInF32) {
  auto requests = make_dflash_requests(static_cast<uint32_t>(9 * test::test_scale()));
  const auto expected = reference_texts(&requests);
  auto setup = bundled_setup(8, 2);
  setup.make_executor = [] { return cpu::make_cpu_executor({.int8_drafts = true}); };
  check(setup, requests, expected, true);
  SpeculationStats stats;
  const std::vector<Request> greedy = {requests[0]};
  const auto engine = open(setup);
  EXPECT_EQ(generate(*engine, greedy, &stats)[0], expected[0]);
  EXPECT_GT(stats.accepted_length(), 1.5);
}

// What is drawn is drawn from the drafter's own distribution, whatever a selector would choose.
TEST(Dflash, ASelectorLeavesDrawnDraftsAsTheyAre) {
  const TinyDrafter plain(true), selecting(true, false, 16);
  GenerationParams params;
  params.max_tokens = 12;
  params.sampling.temperature = 20;
  params.sampling.top_k = 4000;
  params.sampling.seed = 5;
  params.sampling.acceptance = Acceptance::kRejection;
  const std::vector<Request> request = {{{740, 741, 742}, params}};
  SpeculationStats first, second;
  const auto on_plain = open(plain.setup(8, 8, 1)), on_selecting = open(selecting.setup(8, 8, 1));
  EXPECT_EQ(generate(*on_plain, request, &first), generate(*on_selecting, request, &second));
  EXPECT_EQ(first.acceptance(), second.acceptance());
  EXPECT_GT(first.accepted_length(), 1);
}

TEST(Dflash, ForksAreSessionsOfTheirOwn) {
  const TinyDrafter drafter(false);
  const auto cases = test::tiny_mimo_cases();
  const auto engine = open(drafter.setup(8, 16, 2));
  GenerationParams params;
  params.max_tokens = 8;
  params.sampling.temperature = 4;
  const auto& prompt = cases[10].prompt_ids;  // 141 tokens; the target's window is 128
  std::vector<Request> requests;
  for (uint64_t seed = 50; seed < 52; ++seed) {
    params.sampling.seed = seed;
    requests.push_back({prompt, params});
  }
  const auto expected = reference_texts(&requests);
  std::map<SessionId, Text> texts;
  SpeculationStats stats;
  const SessionId first = engine->start(prompt, requests[0].params).value();
  run_prompt(*engine, prompt.size(), &texts);
  const SessionId second = engine->fork(first, 51).value();
  run(*engine, &texts, &stats);
  EXPECT_EQ(texts[first], expected[0]);
  EXPECT_EQ(texts[second], expected[1]);
}

// The logits of all drafts of a silent drafter: those of its mask embedding.
std::vector<float> silent_logits(const test::GeneratedDrafter& drafter) {
  const auto config = model::ModelConfig::load(kModel);
  const auto checkpoint = model::Checkpoint::open(kModel);
  const model::WeightLoader loader(*checkpoint, *config);
  const model::WeightSource head{.role = model::TensorRole::kLmHead};
  const model::WeightShape shape = loader.shape(head).value();
  std::vector<std::byte> packed(shape.bytes);
  EXPECT_TRUE(loader.load(head, packed));
  const std::vector<float> rows = test::dequantize(shape, packed);
  const auto& mask = drafter.mask_embedding;
  const float squares = std::inner_product(mask.begin(), mask.end(), mask.begin(), 0.0F);
  const float factor = 1 / std::sqrt(squares / static_cast<float>(mask.size()));
  std::vector<float> logits(shape.rows);
  for (size_t id = 0; id < shape.rows; ++id) {
    for (size_t i = 0; i < shape.columns; ++i) {
      logits[id] +=
          rows[id * shape.columns + i] * (mask[i] * factor) * drafter.at("norm.weight")[i];
    }
  }
  return logits;
}

// The likeliest of them.
int32_t silent_draft(const test::GeneratedDrafter& drafter) {
  const std::vector<float> logits = silent_logits(drafter);
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

TEST(Dflash, RightDraftsAreAccepted) {
  const TinyDrafter drafter(true, true);
  const int32_t drafted = silent_draft(drafter.weights());
  GenerationParams params;
  params.max_tokens = 25;  // 24 after the prefill's
  params.sampling.temperature = 0;
  params.sampling.logit_bias = {{drafted, 100.0F}};
  std::vector<Request> requests = {{{740, 741, 742}, params}};
  params.sampling.temperature = 8;
  params.sampling.logit_bias = {{drafted, 100.0F}, {(drafted + 1) % 12288, 92.0F}};
  requests.push_back({{740, 741, 742}, params});
  const auto expected = reference_texts(&requests);
  EXPECT_EQ(expected[0].tokens, std::vector<int32_t>(25, drafted));
  for (const uint32_t block_size : {4u, 8u}) {
    const auto engine = open(drafter.setup(block_size, 8, 2));
    SpeculationStats right, mixed;
    EXPECT_EQ(generate(*engine, {requests[0]}, &right).front(), expected[0]);
    EXPECT_EQ(right.num_cycles(), 24 / block_size);
    EXPECT_EQ(right.acceptance(), std::vector<double>(block_size - 1, 1));
    EXPECT_EQ(generate(*engine, {requests[1]}, &mixed).front(), expected[1]);
    EXPECT_GT(mixed.accepted_length(), 1.2);
    EXPECT_LT(mixed.accepted_length(), block_size - 1);
  }
}

// A drafter whose q is near p, and p far from certain: sum min(p, q) is large where p of the
// likeliest draft is small. Biases make the target's eight likeliest tokens the drafter's, and a
// high temperature both nearly even: rejection accepts some 0.85 of the drafts, and a drafter
// without chance, which keyed acceptance asks for, p of its one draft, about an eighth.
TEST(Dflash, DrawnDraftsAreAcceptedWhereTheLikeliestIsNot) {
  const TinyDrafter drafter(true, true);
  const std::vector<float> logits = silent_logits(drafter.weights());
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::sort(ids, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  GenerationParams params;
  params.max_tokens = 65;
  params.sampling.temperature = 12;
  params.sampling.top_k = 8;
  params.sampling.seed = 3;
  const float largest = logits[static_cast<size_t>(ids[0])];
  for (size_t i = 0; i < params.sampling.top_k; ++i) {
    const float below = largest - logits[static_cast<size_t>(ids[i])];
    params.sampling.logit_bias.emplace_back(ids[i], 90 - below);
  }
  const auto engine = open(drafter.setup(8, 8, 1));
  SpeculationStats keyed, rejection;
  Request request{{740, 741, 742}, params};
  generate(*engine, {request}, &keyed);
  request.params.sampling.acceptance = Acceptance::kRejection;
  const Text text = generate(*engine, {request}, &rejection).front();
  for (const int32_t id : text.tokens) {
    EXPECT_LT(std::ranges::find(ids, id) - ids.begin(), 8);
  }
  EXPECT_LT(keyed.accepted_length(), 1.6);
  EXPECT_GT(rejection.accepted_length(), 2.5);
  // A function of target, parameters, drafter and block.
  EXPECT_EQ(generate(*open(drafter.setup(8, 16, 2)), {request}, &rejection).front(), text);
}

TEST(Dflash, RefusesWhatDoesNotFit) {
  const TinyDrafter drafter(true);
  const auto config = model::ModelConfig::load(kModel);
  const auto checkpoint = model::Checkpoint::open(kModel);
  const auto refusal = [&](const EngineOptions& options) {
    const auto engine = Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}),
                                     cpu::cpu_limits(1), options, {});
    return engine ? "" : engine.error().message;
  };
  EngineOptions options;
  options.max_context = 64;
  options.drafter.kind = DrafterKind::kDflash;
  options.dflash = &drafter.drafter();
  options.decode_width = options.block_size = 9;
  EXPECT_EQ(refusal(options), "block_size is 9, expected 1 to 8, the tokens of a block in " +
                                  drafter.path() + "/config.json");
}

TEST(Dflash, LacksATensor) {
  const TinyDrafter drafter(true);
  const auto config = model::ModelConfig::load(kModel);
  const auto checkpoint = model::Checkpoint::open(kModel);
  test::GeneratedDrafter fewer = drafter.weights();
  std::erase_if(fewer.tensors, [](const auto& tensor) {
    return tensor.name == "layers.1.self_attn.k_norm.weight";
  });
  ASSERT_TRUE(test::write_checkpoint_files(drafter.path(), fewer.tensors, 1, {{"format", "pt"}}));
  const auto incomplete = model::Drafter::open(drafter.path());
  ASSERT_TRUE(incomplete) << incomplete.error().message;
  EngineOptions options;
  options.drafter.kind = DrafterKind::kDflash;
  options.dflash = &*incomplete;
  bool has_loaded = false;
  const auto engine =
      Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}), cpu::cpu_limits(1), options,
                   [&](uint64_t, uint64_t) { has_loaded = true; });
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kNotFound);
  EXPECT_NE(engine.error().message.find("layers.1.self_attn.k_norm.weight"), std::string::npos)
      << engine.error().message;
  EXPECT_FALSE(has_loaded);
}

// The drafter's bytes are part of the progress.
TEST(Dflash, WeightsAreCountedAsTheyLoad) {
  const TinyDrafter drafter(true);
  const auto config = model::ModelConfig::load(kModel);
  const auto checkpoint = model::Checkpoint::open(kModel);
  const auto total_with = [&](const model::Drafter* dflash) {
    EngineOptions options;
    options.max_context = 64;
    options.dflash = dflash;
    if (dflash != nullptr) options.drafter.kind = DrafterKind::kDflash;
    std::pair<uint64_t, uint64_t> last;
    const auto engine =
        Engine::open(*config, *checkpoint, cpu::make_cpu_executor({}), cpu::cpu_limits(1), options,
                     [&](uint64_t done, uint64_t total) {
                       last = {done, total};
                     });
    EXPECT_TRUE(engine) << engine.error().message;
    EXPECT_EQ(last.first, last.second);
    return last.second;
  };
  uint64_t drafter_bytes = 0;
  for (const auto& tensor : drafter.weights().tensors) drafter_bytes += tensor.bytes.size();
  // Norms and sinks are BF16 in the file and F32 when packed.
  EXPECT_GT(total_with(&drafter.drafter()), total_with(nullptr) + drafter_bytes);
}

}  // namespace
}  // namespace ultraspeed::engine
