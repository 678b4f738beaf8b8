// Programs whose ranks keep their shares of the logits: they are proven, choose what one rank
// chooses, bit by bit, whatever the parameters, and send what docs/ranks.md says.
#include <gtest/gtest.h>

#include "base/check.h"
#include "cpu/executor.h"
#include "program/access.h"
#include "program/logit_shards.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using program::ColumnSampling;
using program::LogitAdjustment;

// Shares of 193 ids on 8 ranks: a piece of the sum begins on one rank and ends five ranks later.
constexpr uint32_t kVocabulary = 1544;
constexpr uint32_t kWidth = 8;

struct Cut {
  uint32_t ranks, workers;
};

// A column for each way to choose; some of these need all logits.
class Choices {
 public:
  Choices() {
    for (uint32_t id = 0; id < kVocabulary; id += 3) {
      adjustments_.push_back({static_cast<int32_t>(id), 1.5F, id % 2 == 0 ? -2.0F : 3.0F});
    }
    mask_.assign(program::token_mask_words(kVocabulary), 0x8421084210842108);
  }

  ColumnSampling at(uint32_t i) const {
    ColumnSampling s;
    s.seed = 11;
    s.temperature = i % 3 == 0 ? 0 : 1.1F;
    s.num_logprobs = i % 4 == 0 ? 20 : 0;
    if (i % 8 == 2) s.top_k = 40, s.top_p = 0.9F;
    if (i % 8 == 4) s.min_p = 0.02F;
    if (i % 8 == 5) s.top_p = 0.8F;
    if (i % 8 == 7) s.proposed_token_id = 77;
    if (i % 4 == 1) s.draws_draft = true;
    if (i % 5 == 1) s.adjustments = adjustments_;
    if (i % 7 == 2) s.allowed = mask_;
    if (i % 11 == 8) s.forced_token_id = 1500;
    if (i % 13 == 6) s.num_logprobs = kVocabulary;
    return s;
  }

 private:
  std::vector<LogitAdjustment> adjustments_;
  std::vector<uint64_t> mask_;
};

class LogitSharesTest : public testing::Test {
 protected:
  void SetUp() override {
    GeneratorOptions generator;
    generator.vocab_size = kVocabulary;
    generator.intermediate_size = 512;
    generator.embedding_format = tensor::WeightFormat::kBf16;
    generator.num_mtp_layers = 2;
    US_CHECK(write_checkpoint(directory_.path(), generator).has_value());
  }

  ModelRunner open(RunnerOptions options) const {
    options.max_context = 64;
    options.width = kWidth;
    auto runner = ModelRunner::open(directory_.path(), options);
    US_CHECK(runner.has_value(), "{}", runner.error().message);
    return std::move(*runner);
  }

  static RunnerOptions shares(Cut cut) {
    RunnerOptions options;
    options.num_ranks = cut.ranks;
    options.num_workers = cut.workers;
    options.logits = plan::LogitsPlace::kShares;
    return options;
  }

  // Four steps of a sequence; every column but each fifth wants a token.
  std::vector<program::ColumnOutput> run(ModelRunner* runner) const {
    std::vector<program::ColumnOutput> outputs;
    for (uint32_t step = 0, i = 0; step < 4; ++step) {
      std::vector<program::Column> columns(kWidth - step);
      for (uint32_t t = 0; t < columns.size(); ++t, ++i) {
        columns[t].token_id = static_cast<int32_t>(37 * i % kVocabulary);
        columns[t].position = i;
        columns[t].is_drafted = is_drafted_ && t % 4 != 0;
        columns[t].wants_logits = is_drafted_ || i % 5 != 4;
        columns[t].sampling = choices_.at(i);
      }
      const auto output = runner->step(columns);
      US_CHECK(output.has_value(), "{}", output.error().message);
      outputs.insert(outputs.end(), output->columns.begin(), output->columns.end());
    }
    return outputs;
  }

  static void expect_same(const std::vector<program::ColumnOutput>& outputs,
                          const std::vector<program::ColumnOutput>& expected,
                          const std::string& what) {
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_EQ(outputs[i].token_id, expected[i].token_id) << what << ", column " << i;
      EXPECT_EQ(outputs[i].logprob, expected[i].logprob) << what << ", column " << i;
      EXPECT_EQ(outputs[i].logit, expected[i].logit) << what << ", column " << i;
      EXPECT_EQ(outputs[i].accepted, expected[i].accepted) << what << ", column " << i;
      EXPECT_EQ(outputs[i].drafted_id, expected[i].drafted_id) << what << ", column " << i;
      EXPECT_EQ(outputs[i].top_logprobs, expected[i].top_logprobs) << what << ", column " << i;
      EXPECT_EQ(outputs[i].proposed_ids, expected[i].proposed_ids) << what << ", column " << i;
      EXPECT_EQ(outputs[i].proposed_logits, expected[i].proposed_logits) << what << ", " << i;
    }
  }

  TemporaryDirectory directory_;
  Choices choices_;
  bool is_drafted_ = false;  // in blocks of four
};

constexpr Cut kCuts[] = {{1, 2}, {2, 1}, {2, 3}, {4, 2}, {8, 1}, {8, 2}};

TEST_F(LogitSharesTest, RanksChooseWhatOneRankChooses) {
  ModelRunner alone = open({});
  const auto expected = run(&alone);
  for (const Cut& cut : kCuts) {
    const std::string what = fmt::format("{} ranks x {} workers", cut.ranks, cut.workers);
    RunnerOptions options = shares(cut);
    ModelRunner runner = open(options);
    expect_same(run(&runner), expected, what);
    options.logits = plan::LogitsPlace::kRankZero;
    ModelRunner gathered = open(options);
    expect_same(run(&gathered), expected, what + ", gathered");
  }
}

TEST_F(LogitSharesTest, RandomOrdersOverPoisonGiveTheSameBits) {
  ModelRunner alone = open({});
  const auto expected = run(&alone);
  const int orders = scaled(20);
  for (const Cut& cut : kCuts) {
    RunnerOptions options = shares(cut);
    options.make_executor = [=] { return cpu::make_shuffled_executor(cut.workers); };
    ModelRunner runner = open(options);
    for (int i = 0; i < orders && !HasFailure(); ++i) {
      expect_same(run(&runner), expected,
                  fmt::format("{} ranks x {} workers, order {}", cut.ranks, cut.workers, i));
    }
  }
}

// What drafts, on one rank and from shares.
class DraftSharesTest : public LogitSharesTest {
 protected:
  // `what` changes the options of all runs.
  void expect_alike(const std::function<void(RunnerOptions*)>& what, bool is_drafted) {
    is_drafted_ = is_drafted;
    RunnerOptions options;
    what(&options);
    ModelRunner alone = open(options);
    const auto expected = run(&alone);
    for (const Cut& cut : kCuts) {
      options = shares(cut);
      what(&options);
      ModelRunner threads = open(options);
      expect_same(run(&threads), expected, fmt::format("{} ranks", cut.ranks));
      options.make_executor = [] { return cpu::make_shuffled_executor(5); };
      ModelRunner runner = open(options);
      for (int i = 0; i < scaled(3); ++i) {
        expect_same(run(&runner), expected, fmt::format("{} ranks, order {}", cut.ranks, i));
      }
    }
  }

  TemporaryDirectory drafter_;
};

TEST_F(DraftSharesTest, MtpHeadsProposeTheSame) {
  expect_alike([](RunnerOptions* options) { options->has_mtp = true; }, false);
}

TEST_F(DraftSharesTest, DrafterAndSelectorDraftTheSame) {
  for (const uint32_t rank : {0u, 5u}) {
    DrafterOptions drafter;
    drafter.vocab_size = kVocabulary;
    drafter.selector_rank = rank;
    ASSERT_TRUE(write_drafter(drafter_.path(), drafter));
    expect_alike([this](RunnerOptions* options) { options->drafter = drafter_.path(); }, true);
  }
}

}  // namespace
}  // namespace ultraspeed::test
