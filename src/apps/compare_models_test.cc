#include "apps/compare_models.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

const std::vector<int32_t> kText = {1, 200, 33, 7, 150, 99, 4, 81, 255, 0, 17, 17, 63, 120, 5, 9};

// Two models that differ in their experts' numbers alone.
class CompareModels : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string name : {"/a", "/b"}) {
      std::filesystem::create_directory(folder_.path() + name);
      test::GeneratorOptions options;
      options.expert_format = tensor::WeightFormat::kBf16;
      auto generated = test::generate_checkpoint(options);
      for (test::StoredTensor& tensor : generated.tensors) {
        if (name == "/a" || tensor.name.find("experts.3.") == std::string::npos) continue;
        for (size_t i = 0; i < tensor.bytes.size(); i += 2) tensor.bytes[i] = std::byte{0};
      }
      ASSERT_TRUE(test::write_checkpoint(folder_.path() + name, options, generated));
    }
  }

  LoadedModel open(const std::string& name) const {
    ModelOptions options;
    options.directory = folder_.path() + name;
    options.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
    auto model = LoadedModel::open(options);
    EXPECT_TRUE(model) << model.error().message;
    return *std::move(model);
  }

  // log p of every token after each of the text's tokens but the last, by the runner of other
  // tests, in binary64.
  std::vector<std::vector<double>> log_probabilities(const std::string& name) const {
    auto runner = test::ModelRunner::open(folder_.path() + name, {});
    EXPECT_TRUE(runner) << runner.error().message;
    std::vector<std::vector<double>> all;
    for (size_t i = 0; i + 1 < kText.size(); ++i) {
      const auto top = runner->feed(std::span(kText).subspan(i, 1), 1, 256);
      EXPECT_TRUE(top) << top.error().message;
      std::vector<double> log_p(256);
      double sum = 0;
      for (const float logit : top->front().logits) sum += std::exp(static_cast<double>(logit));
      for (size_t k = 0; k < 256; ++k) {
        log_p[static_cast<size_t>(top->front().ids[k])] =
            static_cast<double>(top->front().logits[k]) - std::log(sum);
      }
      all.push_back(std::move(log_p));
    }
    return all;
  }

  test::TemporaryDirectory folder_;
};

TEST_F(CompareModels, AgreesWithTheDefinitions) {
  const auto p = log_probabilities("/a"), q = log_probabilities("/b");
  double kl = 0, largest = 0, p_nll = 0, q_nll = 0, same = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    double here = 0;
    for (size_t k = 0; k < 256; ++k) here += std::exp(p[i][k]) * (p[i][k] - q[i][k]);
    kl += here;
    largest = std::max(largest, here);
    p_nll -= p[i][static_cast<size_t>(kText[i + 1])];
    q_nll -= q[i][static_cast<size_t>(kText[i + 1])];
    const auto top = [](const std::vector<double>& all) {
      return std::max_element(all.begin(), all.end()) - all.begin();
    };
    same += top(p[i]) == top(q[i]) ? 1 : 0;
  }
  const auto count = static_cast<double>(p.size());
  ASSERT_GT(largest, 1e-5);  // else the test would compare rounding
  size_t progress = 0;
  const auto result =
      compare_models(open("/b"), open("/a"), {}, kText, {.window = 64, .stride = 32},
                     [&](size_t done) { progress = done; });
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(progress, p.size());
  EXPECT_EQ(result->statistics.num_tokens, p.size());
  EXPECT_NEAR(result->statistics.kl_mean, kl / count, 1e-3 * kl / count);
  EXPECT_NEAR(result->statistics.kl_max, largest, 1e-3 * largest);
  EXPECT_NEAR(result->statistics.agreement, same / count, 1e-9);
  EXPECT_NEAR(result->reference_nll, p_nll / count, 1e-5);
  EXPECT_NEAR(result->statistics.nll_mean, q_nll / count, 1e-5);
}

// Windows cut the context, and score every token once: as `score` does.
TEST_F(CompareModels, WindowsAreThoseOfScore) {
  const LoadedModel model = open("/a");
  const auto engine = model.open_engine({}, 1);
  ASSERT_TRUE(engine) << engine.error().message;
  const auto ignore = [](size_t) {};
  for (const ScoreWindows& windows :
       {ScoreWindows{.window = 6, .stride = 2}, ScoreWindows{.window = 15, .stride = 14}}) {
    const auto nll = score_tokens(**engine, kText, windows, ignore);
    ASSERT_TRUE(nll) << nll.error().message;
    const auto result = compare_models(open("/a"), open("/a"), {}, kText, windows, ignore);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->statistics.num_tokens, nll->size());
    EXPECT_NEAR(result->reference_nll, mean_of(*nll), 1e-5);
    EXPECT_EQ(result->statistics.kl_max, 0);
    EXPECT_NEAR(result->statistics.agreement, 1, 1e-12);
  }
}

TEST_F(CompareModels, InputsThatCannotBeCompared) {
  const auto compare = [&](const std::vector<int32_t>& text) {
    return compare_models(open("/a"), open("/b"), {}, text, {.window = 8, .stride = 4},
                          [](size_t) {});
  };
  EXPECT_NE(compare({1, 2}).error().message.find("at least 3"), std::string::npos);
  EXPECT_NE(compare({1, 2, 256, 4}).error().message.find("token id 256"), std::string::npos);
  std::filesystem::remove_all(folder_.path() + "/b");
  std::filesystem::create_directory(folder_.path() + "/b");
  test::GeneratorOptions other;
  other.vocab_size = 128;
  ASSERT_TRUE(test::write_checkpoint(folder_.path() + "/b", other));
  EXPECT_NE(compare({1, 2, 3, 4}).error().message.find("one vocabulary"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::apps
