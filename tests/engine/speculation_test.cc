// The bundled model with every drafter: a text is a function of prompt, seed and parameters, the
// same whatever is drafted, however wide the steps are, and forked or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "engine/model_texts.h"
#include "support/mtp_generator.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

TEST(SpeculationOnTheModel, NoDrafterChangesATextOfPackedSessions) {
  std::vector<size_t> indices = {0, 4};
  if (test::kIsSanitized) indices.pop_back();
  auto requests = make_requests(indices, static_cast<uint32_t>(9 * test::test_scale()));
  const auto expected = reference_texts(&requests);
  const auto cases = test::tiny_mimo_cases();
  for (size_t i = 0; i < indices.size(); ++i) {
    const auto& golden = cases[indices[i]].greedy_ids;
    const std::vector<int32_t>& greedy = expected[2 * i].tokens;
    EXPECT_TRUE(std::equal(greedy.begin(), greedy.begin() + 9, golden.begin()));
  }
  check({{DrafterKind::kSuffix, 1}, 8, 2}, requests, expected, false);
  check({{DrafterKind::kRandom, 1}, 16, 1}, requests, expected, false);
  check({{DrafterKind::kReplay, 3}, 32, 2}, requests, expected, true);
  const test::TinyMimoWithMtp with_mtp(3);
  check(mtp_setup(with_mtp.path(), 8, 2), requests, expected, true);
  check(mtp_setup(with_mtp.path(), 16, 1), requests, expected, false);
  check(mtp_setup(with_mtp.path(), 32, 2), requests, expected, false);
}

TEST(SpeculationOnTheModel, SuffixDraftsOfARepetitivePromptAreAccepted) {
  Request request;
  for (int i = 0; i < 40; ++i) request.prompt.push_back(740 + i % 8);
  request.params.max_tokens = 24;
  request.params.sampling.temperature = 0;
  const auto engine = open({.drafter = {DrafterKind::kSuffix, 1}});
  SpeculationStats stats;
  generate(*engine, {request}, &stats);
  EXPECT_GT(stats.accepted_length(), 1.5);
  EXPECT_LT(stats.num_cycles(), 16u);
}

TEST(SpeculationOnTheModel, ForksAreSessionsOfTheirOwn) {
  const auto cases = test::tiny_mimo_cases();
  GenerationParams params;
  params.max_tokens = 8;
  params.sampling.temperature = 4;
  const auto engine = open({.drafter = {DrafterKind::kSuffix, 1}, .decode_width = 16});
  for (const size_t index : {size_t{0}, size_t{10}}) {  // 33 and 141 tokens; the window is 128
    const auto& prompt = cases[index].prompt_ids;
    std::vector<Request> requests;
    for (uint64_t seed = 50; seed < 53; ++seed) {
      params.sampling.seed = seed;
      requests.push_back({prompt, params});
    }
    SpeculationStats stats;
    const auto expected = generate(*engine, requests, &stats);
    EXPECT_NE(expected[1], expected[2]);

    std::map<SessionId, Text> texts;
    const SessionId first = engine->start(prompt, requests[0].params).value();
    run_prompt(*engine, prompt.size(), &texts);
    const SessionId second = engine->fork(first, 51).value();
    const SessionId third = engine->fork(first, 52).value();
    run(*engine, &texts, &stats);
    EXPECT_EQ(texts[first], expected[0]);
    EXPECT_EQ(texts[second], expected[1]);
    EXPECT_EQ(texts[third], expected[2]);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
