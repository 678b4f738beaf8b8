// Texts of the bundled model with every drafter, decode width and thread count, packed and alone.
// With US_TEST_SCALE above 1, as ./bootstrap soak sets it, all golden prompts, 500 generated ones
// and all replay lengths at all widths; otherwise some of each kind, through every setup.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/mtp_generator.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

constexpr size_t kMaxSessions = 8;  // of an engine that open() opens

bool is_full() {
  return test::test_scale() > 1;
}

// Of the golden prompts, which are code, mathematics or an agent's.
std::vector<size_t> golden_indices() {
  if (!is_full()) return {0, 9, 10};  // 9 is longer than an attention chunk
  std::vector<size_t> all(test::tiny_mimo_cases().size());
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The texts of any number of requests, as many together as the engine has room for.
std::vector<Text> generate_all(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Text> texts;
  SpeculationStats stats;
  for (size_t begin = 0; begin < requests.size(); begin += kMaxSessions) {
    const auto first = requests.begin() + static_cast<ptrdiff_t>(begin);
    const size_t count = std::min(kMaxSessions, requests.size() - begin);
    auto some = generate(engine, {first, first + static_cast<ptrdiff_t>(count)}, &stats);
    std::ranges::move(some, std::back_inserter(texts));
  }
  return texts;
}

// Pieces of golden texts, which look like what people write, and, a third of them, random ids;
// greedy or sampled by chance, so that every setup gets all kinds.
std::vector<Request> generated_requests(size_t count, uint32_t max_tokens) {
  std::mt19937 random(5);
  const auto below = [&](size_t n) { return random() % n; };
  const auto cases = test::tiny_mimo_cases();
  std::vector<Request> requests(count);
  for (size_t i = 0; i < count; ++i) {
    Request& request = requests[i];
    const size_t size = 1 + below(40);
    const auto& golden = cases[below(cases.size())];
    std::vector<int32_t> source = golden.prompt_ids;
    source.insert(source.end(), golden.greedy_ids.begin(), golden.greedy_ids.end());
    const bool is_random = below(3) == 0;
    const size_t begin = below(source.size() - std::min(size, source.size() - 1));
    for (size_t at = 0; at < size; ++at) {
      const size_t from = std::min(begin + at, source.size() - 1);
      request.prompt.push_back(is_random ? static_cast<int32_t>(below(12'288)) : source[from]);
    }
    request.params.max_tokens = max_tokens;
    request.params.sampling.temperature = below(2) == 0 ? 0.0F : 0.9F;
    request.params.sampling.seed = i;
  }
  return requests;
}

// In full every width with every number of threads.
std::vector<Setup> all_setups(const TinyDrafter& dflash, const test::TinyMimoWithMtp& mtp) {
  std::vector<Setup> setups;
  for (const uint32_t width : {8u, 16u, 32u}) {
    for (const uint32_t threads : {1u, 2u}) {
      if (!is_full() && (threads == 2) != (width == 16)) continue;
      setups.push_back({{DrafterKind::kNone, 1}, width, threads});
      setups.push_back({{DrafterKind::kSuffix, 1}, width, threads});
      setups.push_back({{DrafterKind::kRandom, 1}, width, threads});
      setups.push_back({{DrafterKind::kReplay, 3}, width, threads});
      setups.push_back(dflash.setup(8, width, threads));
      setups.push_back(bundled_setup(width, threads));
      setups.push_back(mtp_setup(mtp.path(), width, threads));
    }
  }
  return setups;
}

// In full at every width, else each at one.
TEST(SpeculationMatrix, EveryReplayLength) {
  auto requests = make_requests({0, 4}, 10);
  const auto expected = reference_texts(&requests);
  for (const DrafterOptions& drafter : all_drafters()) {
    if (drafter.kind != DrafterKind::kReplay) continue;
    const uint32_t turn = drafter.tokens_per_cycle % 3;
    if (is_full() || turn == 0) check({drafter, 16, 2}, requests, expected, false);
    if (is_full() || turn == 1) check({drafter, 32, 1}, requests, expected, false);
    if (is_full() || turn == 2) check({drafter, 8, 1}, requests, expected, true);
  }
}

// Each greedy or sampled, in full both.
void check_golden_prompts(program::Activations activations) {
  std::vector<Request> requests;
  for (const size_t index : golden_indices()) {
    const auto both = make_requests({index}, 8);
    if (is_full() || index % 2 == 0) requests.push_back(both[0]);
    if (is_full() || index % 2 == 1) requests.push_back(both[1]);
  }
  const auto expected = reference_texts(&requests, {.activations = activations});
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  for (auto setup : all_setups(dflash, mtp)) {
    setup.activations = activations;
    SCOPED_TRACE(setup_name(setup));
    const auto engine = open(setup);
    EXPECT_EQ(generate_all(*engine, requests), expected);
    if (setup.decode_width > 8) continue;  // alone, the other columns stay empty
    SpeculationStats stats;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(generate(*engine, {requests[i]}, &stats).front(), expected[i]) << "alone";
    }
  }
}

TEST(SpeculationMatrix, GoldenPromptsWithEverySetup) {
  check_golden_prompts(program::Activations::kF32);
}

// What it was trained for: most of what it drafts is taken.
TEST(SpeculationMatrix, TheBundledDrafterKnowsItsModel) {
  auto requests = make_requests({4}, 64);
  requests.resize(1);  // greedy
  const auto expected = reference_texts(&requests);
  const auto engine = open(bundled_setup(8, 2));
  SpeculationStats stats;
  EXPECT_EQ(generate(*engine, requests, &stats), expected);
  EXPECT_GT(stats.accepted_length(), 4);
}

// Two in each setup, with a scale of 36 all in all of them.
TEST(SpeculationMatrix, GeneratedPrompts) {
  auto requests = generated_requests(is_full() ? 500 : 36, 8);
  const auto expected = reference_texts(&requests);
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  const auto setups = all_setups(dflash, mtp);
  const auto setups_each = std::min(setups.size(), static_cast<size_t>(test::test_scale()));
  for (size_t s = 0; s < setups.size(); ++s) {
    SCOPED_TRACE(setup_name(setups[s]));
    std::vector<Request> some;
    std::vector<Text> some_expected;
    for (size_t i = 0; i < requests.size(); ++i) {
      if ((s + setups.size() - i % setups.size()) % setups.size() >= setups_each) continue;
      some.push_back(requests[i]);
      some_expected.push_back(expected[i]);
    }
    EXPECT_EQ(generate_all(*open(setups[s]), some), some_expected);
  }
}

// Two golden prompts; in full all of them, too, with every setup.
TEST(SpeculationMatrix, Int8TextsDependOnNothingElseEither) {
  auto requests = make_requests({0, 4}, 10);
  constexpr auto kInt8 = program::Activations::kInt8;
  const auto expected = reference_texts(&requests, {.activations = kInt8});
  for (const DrafterOptions& drafter : all_drafters()) {
    const uint32_t length = drafter.tokens_per_cycle;  // 1 of all but replay
    if (!is_full() && length != 1 && length != 4) continue;
    check({.drafter = drafter, .num_threads = 2, .activations = kInt8}, requests, expected, true);
    check({.drafter = drafter, .decode_width = 16, .activations = kInt8}, requests, expected,
          false);
    check({.drafter = drafter, .decode_width = 32, .num_threads = 2, .activations = kInt8},
          requests, expected, false);
  }
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  for (auto setup : {dflash.setup(8, 8, 2), bundled_setup(8, 1), mtp_setup(mtp.path(), 16, 1)}) {
    setup.activations = kInt8;
    check(setup, requests, expected, true);
  }
  if (is_full()) check_golden_prompts(kInt8);
}

TEST(SpeculationMatrix, RoundedTextsDependOnNothingElseEither) {
  auto requests = make_requests({9}, 10);  // longer than an attention chunk
  const TinyDrafter dflash(true);
  const test::TinyMimoWithMtp mtp(3);
  for (const auto& [activations, kv_cache] :
       {std::pair(program::Activations::kW4a16, program::KvCacheType::kBf16),
        std::pair(program::Activations::kW4a8, program::KvCacheType::kFp8)}) {
    const auto expected =
        reference_texts(&requests, {.activations = activations, .kv_cache = kv_cache});
    EXPECT_NE(expected, reference_texts(&requests));
    for (auto setup : {engine::Setup{{DrafterKind::kNone, 1}, 8, 2},
                       engine::Setup{{DrafterKind::kSuffix, 1}, 16},
                       engine::Setup{{DrafterKind::kReplay, 3}, 32, 2}, dflash.setup(8, 8, 2),
                       bundled_setup(16, 1), mtp_setup(mtp.path(), 16, 1)}) {
      setup.activations = activations;
      setup.kv_cache = kv_cache;
      check(setup, requests, expected, false);
    }
  }
}

}  // namespace
}  // namespace ultraspeed::engine
