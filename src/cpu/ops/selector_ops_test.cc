// Nominate and the selecting Propose against a plain search of all tokens and all scores in f64.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/philox.h"
#include "cpu/ops/op_harness.h"
#include "cpu/ops/sample.h"
#include "support/scale.h"

namespace ultraspeed::cpu {
namespace {

// A block of `rows` columns of a sequence: an anchor and masks.
void add_block(OpHarness* harness, uint32_t rows, uint32_t sequence, int32_t anchor) {
  for (uint32_t i = 0; i < rows; ++i) {
    program::Column& column = harness->column(i == 0 ? anchor : 0, 7 + i, sequence);
    column.is_drafted = i > 0;
    column.wants_logits = true;
  }
}

std::vector<uint32_t> ids_of(OpHarness* harness, const program::NominateOperands& op, uint32_t t) {
  const uint32_t* words = harness->words(op.nominees) + size_t{2} * t * op.num_nominees;
  return {words, words + op.num_nominees};
}

TEST(Nominate, TakesTheLargestInOrderAndTheLowerOfEquals) {
  OpHarness harness(3, 1);
  program::NominateOperands op;
  op.logits = harness.buffer({9, 9, 9, 9, 9, 1, 5, 3, 5, 4, 2, 7, 7, 7, 8});
  op.nominees = harness.buffer(std::vector<float>(18, NAN));
  op.vocab_size = 5;
  op.num_nominees = 3;
  add_block(&harness, 3, 0, 1);
  harness.load();
  harness.words(op.nominees)[0] = 77;
  ASSERT_TRUE(harness.run(op, 0, 3));
  EXPECT_EQ(harness.words(op.nominees)[0], 77u);  // the anchor
  EXPECT_EQ(ids_of(&harness, op, 1), (std::vector<uint32_t>{1, 3, 4}));
  EXPECT_EQ(ids_of(&harness, op, 2), (std::vector<uint32_t>{4, 1, 2}));
  const float* logits = harness.values(op.nominees) + 6 + 3;
  EXPECT_EQ(std::vector<float>(logits, logits + 3), (std::vector<float>{5, 5, 4}));
}

TEST(Nominate, LeavesPlacesEmptyWhereThereAreNoTokens) {
  OpHarness harness(2, 1);
  program::NominateOperands op;
  op.logits = harness.buffer({9, 9, 1, 5});
  op.nominees = harness.buffer(std::vector<float>(16, NAN));
  op.vocab_size = 2;
  op.num_nominees = 4;
  add_block(&harness, 2, 0, 1);
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(ids_of(&harness, op, 1), (std::vector<uint32_t>{1, 0, program::kNoId, program::kNoId}));
}

// What Propose would draw is the only nominee, and so what the selector chooses.
TEST(Nominate, HasWhatIsDrawnAlone) {
  OpHarness harness(2, 1);
  program::NominateOperands op;
  const std::vector<float> logits = {9, 9, 9, 1, 2, 1.5F};
  op.logits = harness.buffer(logits);
  op.nominees = harness.buffer(std::vector<float>(8, NAN));
  op.vocab_size = 3;
  op.num_nominees = 2;
  add_block(&harness, 2, 0, 1);
  harness.load();
  program::ColumnSampling& sampling = harness.column_at(0).sampling;
  sampling.temperature = 2;
  sampling.draws_draft = true;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    sampling.seed = seed;
    ASSERT_TRUE(harness.run(op, 0, 2));
    const uint32_t drawn = draw_draft(std::span(logits).subspan(3), 7, sampling);
    EXPECT_EQ(ids_of(&harness, op, 1), (std::vector<uint32_t>{drawn, program::kNoId}));
  }
}

// Two sequences: three masks after token 2, and after a column that drafts nothing one mask
// after 5.
class SelectingPropose : public testing::Test {
 protected:
  static constexpr uint32_t kWidth = 8, kColumns = 7, kVocab = 40, kNominees = 5;

  void prepare(uint32_t rank, uint64_t seed) {
    harness_.emplace(kWidth, 1);
    rank_ = rank;
    uint64_t stream = 0;
    const auto numbers = [&](uint32_t count, double scale) {
      std::vector<float> values;
      ++stream;
      for (uint32_t i = 0; i < count; ++i) {
        const double noise = gumbel_from_bits(random_bits(seed, stream, i)) - 0.577;
        values.push_back(static_cast<float>(noise * scale));
      }
      return values;
    };
    logits_ = numbers(kWidth * kVocab, 1);
    rows_ = numbers(kWidth * rank, 1);
    predecessors_ = numbers(kVocab * rank, 1);
    successors_ = numbers(kVocab * rank, 2 / std::sqrt(static_cast<double>(rank)));
    nominate_.logits = harness_->buffer(logits_);
    nominate_.nominees = harness_->buffer(std::vector<float>(2 * kWidth * kNominees, NAN));
    nominate_.vocab_size = kVocab;
    nominate_.num_nominees = kNominees;
    propose_.logits = nominate_.logits;
    propose_.drafted = harness_->buffer(std::vector<float>(kWidth, 0));
    propose_.vocab_size = kVocab;
    propose_.selector = {nominate_.nominees,
                         harness_->buffer(rows_),
                         harness_->weight(kVocab, rank, predecessors_),
                         harness_->weight(kVocab, rank, successors_),
                         kNominees,
                         static_cast<uint16_t>(rank)};
    add_block(&*harness_, 4, 0, 2);
    harness_->column(3, 9, 1);
    add_block(&*harness_, 2, 2, 5);
    harness_->load();
  }

  // By sorting all tokens; the choice and by how much it won.
  std::pair<uint32_t, double> expected(uint32_t t, uint32_t before) {
    std::vector<uint32_t> ids(kVocab);
    std::iota(ids.begin(), ids.end(), 0u);
    const float* logits = &logits_[size_t{t} * kVocab];
    std::ranges::stable_sort(ids, [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    std::vector<std::pair<double, uint32_t>> scores;
    for (uint32_t i = 0; i < kNominees; ++i) {
      double score = logits[ids[i]];
      for (uint32_t r = 0; r < rank_; ++r) {
        score += double{successors_[size_t{ids[i]} * rank_ + r]} *
                 predecessors_[size_t{before} * rank_ + r] * rows_[t * rank_ + r];
      }
      const program::Column& column = harness_->column_at(t - 1);
      if (column.sampling.temperature > 0) {
        score = score / column.sampling.temperature +
                gumbel_from_bits(random_bits(column.sampling.seed, column.position, ids[i]));
      }
      scores.emplace_back(score, ids[i]);
    }
    std::ranges::sort(scores, std::greater());
    return {scores[0].second, scores[0].first - scores[1].first};
  }

  std::optional<OpHarness> harness_;
  program::NominateOperands nominate_;
  program::ProposeOperands propose_;
  uint32_t rank_ = 0;
  std::vector<float> logits_, rows_, predecessors_, successors_;
};

TEST_F(SelectingPropose, ChoosesTheBestNomineeAfterTheOneBefore) {
  uint32_t num_unlike_likeliest = 0;
  const auto trials = static_cast<uint32_t>(test::scaled(20));
  for (uint32_t seed = 0; seed < trials; ++seed) {
    prepare(seed % 2 == 0 ? 7 : 32, seed);
    for (uint32_t t = 0; t < kColumns && seed % 3 == 0; ++t) {  // with the noise of the choice
      harness_->column_at(t).sampling.temperature = 0.7F;
      harness_->column_at(t).sampling.seed = seed + t;
    }
    ASSERT_TRUE(harness_->run(nominate_, 0, kWidth));
    ASSERT_TRUE(harness_->run(propose_, 0, kWidth));
    const uint32_t* drafted = harness_->words(propose_.drafted);
    const auto check = [&](uint32_t t, uint32_t before) {
      const auto [id, lead] = expected(t, before);
      if (lead < 1e-4) return;
      EXPECT_EQ(drafted[t], id) << "seed " << seed;
      num_unlike_likeliest += drafted[t] != harness_->words(nominate_.nominees)[10 * t] ? 1 : 0;
    };
    check(1, 2);
    check(2, drafted[1]);
    check(3, drafted[2]);
    check(6, 5);
    for (const uint32_t t : {0u, 4u, 5u, 7u}) EXPECT_EQ(drafted[t], 0u);
  }
  EXPECT_GT(num_unlike_likeliest, trials);
}

// Anchors and drafts after it are told by the column before.
TEST_F(SelectingPropose, FollowsItsOwnChoices) {
  prepare(8, 1);
  ASSERT_TRUE(harness_->run(nominate_, 0, kWidth));
  ASSERT_TRUE(harness_->run(propose_, 0, kWidth));
  const uint32_t second = harness_->words(propose_.drafted)[2];
  uint32_t num_changed = 0;
  for (int32_t anchor = 0; anchor < 40; ++anchor) {
    harness_->column_at(0).token_id = anchor;
    ASSERT_TRUE(harness_->run(propose_, 0, kWidth));
    num_changed += harness_->words(propose_.drafted)[2] != second ? 1 : 0;
  }
  EXPECT_GT(num_changed, 0u);
}

}  // namespace
}  // namespace ultraspeed::cpu
