// The ranges of generation parameters, and the sentences about those outside.
#include "engine/params.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace ultraspeed::engine {
namespace {

constexpr uint32_t kVocabSize = 100;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The error's sentence; "" for none.
template <class Change>
std::string complaint(Change change) {
  GenerationParams params;
  change(params);
  const Status status = check_params(params, kVocabSize);
  if (status) return "";
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  return status.error().message;
}

struct FloatCase {
  float SamplingParams::*field;
  const char* name;
  std::vector<float> good;
  std::vector<float> bad;
};

TEST(Params, FloatsHaveRanges) {
  const std::vector<FloatCase> cases = {
      {&SamplingParams::temperature, "temperature is", {0, 1e-30F, 1, 100}, {-0.1F, 100.1F}},
      {&SamplingParams::top_p, "top_p is", {1e-9F, 0.5F, 1}, {0, -1, 1.001F}},
      {&SamplingParams::min_p, "min_p is", {0, 0.5F, 0.999F}, {-0.1F, 1}},
      {&SamplingParams::repetition_penalty, "repetition_penalty is", {0.01F, 1, 100}, {0, -1, 101}},
      {&SamplingParams::presence_penalty, "presence_penalty is", {-2, 0, 2}, {-2.1F, 2.1F}},
      {&SamplingParams::frequency_penalty, "frequency_penalty is", {-2, 0, 2}, {-2.1F, 2.1F}},
  };
  for (FloatCase c : cases) {
    for (const float good : c.good) {
      EXPECT_EQ(complaint([&](auto& params) { params.sampling.*c.field = good; }), "");
    }
    c.bad.insert(c.bad.end(), {kNan, kInfinity, -kInfinity});
    for (const float bad : c.bad) {
      const auto message = complaint([&](auto& params) { params.sampling.*c.field = bad; });
      EXPECT_EQ(message.find(c.name), 0u) << bad << ": " << message;
      EXPECT_NE(message.find("expected a number "), std::string::npos) << message;
    }
  }
}

TEST(Params, LogitBiasNamesTokensOfTheVocabularyOnce) {
  const auto with = [](std::vector<std::pair<int32_t, float>> logit_bias) {
    return complaint([&](auto& params) { params.sampling.logit_bias = logit_bias; });
  };
  EXPECT_EQ(with({{0, -100.0F}, {99, 100.0F}, {5, 0.0F}}), "");
  EXPECT_EQ(with({{100, 1.0F}}), "logit_bias names token 100, expected an id from 0 to 99");
  EXPECT_EQ(with({{-1, 1.0F}}), "logit_bias names token -1, expected an id from 0 to 99");
  EXPECT_EQ(with({{3, 100.5F}}),
            "logit_bias of token 3 is 100.5, expected a number from -100 to 100");
  EXPECT_NE(with({{3, kNan}}), "");
  EXPECT_EQ(with({{3, 1.0F}, {4, 1.0F}, {3, 2.0F}}),
            "logit_bias names token 3 twice, expected each token once");
}

TEST(Params, LogprobsAreBounded) {
  EXPECT_EQ(complaint([](auto& params) { params.sampling.num_logprobs = 128; }), "");
  EXPECT_EQ(complaint([](auto& params) { params.sampling.num_logprobs = 129; }),
            "num_logprobs is 129, expected 0 to 128");
}

TEST(Params, TokenIdsAreOfTheVocabulary) {
  const auto check = [](std::vector<int32_t> ids) {
    const Status status = check_token_ids("the prompt", ids, kVocabSize);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(check({0, 99}), "");
  EXPECT_EQ(check({}), "the prompt is empty, expected at least one token");
  EXPECT_EQ(check({1, 100}), "token 1 of the prompt is 100, expected an id from 0 to 99");
  EXPECT_EQ(check({-5}), "token 0 of the prompt is -5, expected an id from 0 to 99");
}

TEST(DefaultSampling, TakesTheCheckpointsWordAndIsGreedyUnlessItSamples) {
  model::GenerationConfig generation;
  generation.temperature = 0.6F;
  generation.top_p = 0.95F;
  generation.top_k = 20;
  generation.min_p = 0.1F;
  generation.repetition_penalty = 1.2F;
  EXPECT_EQ(default_sampling(generation).temperature, 0.0F);
  generation.do_sample = true;
  const SamplingParams sampling = default_sampling(generation);
  EXPECT_EQ(sampling.temperature, 0.6F);
  EXPECT_EQ(sampling.top_p, 0.95F);
  EXPECT_EQ(sampling.top_k, 20u);
  EXPECT_EQ(sampling.min_p, 0.1F);
  EXPECT_EQ(sampling.repetition_penalty, 1.2F);
}

}  // namespace
}  // namespace ultraspeed::engine
