// A choice from ranks' shares of the logits against the choice from all of them: every bit of what
// a step outputs, and every error.
#include "cpu/ops/share_sample.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

using program::ColumnOutput;
using program::ColumnSampling;
using program::LogitAdjustment;
using program::LogitPeaks;
using program::LogitShare;
using program::LogitShortlist;

constexpr float kBadValues[] = {std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::quiet_NaN()};

// A column's logits and parameters, with what these refer to.
struct Case {
  std::vector<float> logits;
  std::vector<LogitAdjustment> adjustments;
  std::vector<uint64_t> allowed;
  ColumnSampling sampling;
  uint32_t position = 0;
};

class CaseMaker {
 public:
  explicit CaseMaker(uint64_t seed) : random_(seed) {}

  Case make() {
    Case c;
    const uint32_t size = pick<uint32_t>({8, 64, 136, 1024, 1544, 4096, 9000, 12288});
    make_logits(size, &c.logits);
    c.position = below(1000);
    ColumnSampling& s = c.sampling;
    s.seed = random_();
    s.temperature = pick<float>({0, 0, 0.3F, 0.7F, 1, 1, 2.5F});
    s.top_k = pick<uint32_t>({0, 0, 1, 5, 40, 64, size});
    s.top_p = s.top_k != 0 && s.top_k < size ? pick<float>({1, 0.9F, 0.3F}) : 1;
    s.min_p = pick<float>({0, 0, 0.01F, 0.2F, 0.9F});
    s.num_logprobs = pick<uint32_t>({0, 1, 5, 20, 64});
    if (is_one_in(6)) s.forced_token_id = static_cast<int32_t>(below(size));
    if (is_one_in(3)) adjust(&c);
    if (is_one_in(3)) mask(&c);
    if (is_one_in(12)) c.logits[below(size)] = pick<float>({kBadValues[0], kBadValues[2]});
    if (is_one_in(50)) c.logits.assign(size, kBadValues[1]);
    return c;
  }

 private:
  // Many are equal in some, so that the order of ids decides.
  void make_logits(uint32_t size, std::vector<float>* logits) {
    std::normal_distribution<float> normal(0, pick<float>({0.01F, 3, 30}));
    const bool is_coarse = is_one_in(3), has_holes = is_one_in(4);
    for (uint32_t id = 0; id < size; ++id) {
      const float value = normal(random_);
      logits->push_back(is_coarse ? std::round(value) : value);
      if (has_holes && is_one_in(5)) logits->back() = kBadValues[1];
    }
  }

  void adjust(Case* c) {
    const auto size = static_cast<uint32_t>(c->logits.size());
    for (uint32_t id = below(size / 2); id < size; id += 1 + below(size)) {
      LogitAdjustment adjustment{static_cast<int32_t>(id), pick<float>({1, 1.3F, 0.5F}),
                                 pick<float>({0, -100, 4, 1000, kBadValues[1]})};
      if (is_one_in(30)) adjustment.bias = pick<float>({kBadValues[0], kBadValues[2]});
      c->adjustments.push_back(adjustment);
    }
    c->sampling.adjustments = c->adjustments;
  }

  void mask(Case* c) {
    const size_t size = c->logits.size();
    c->allowed.assign(program::token_mask_words(size), 0);
    const uint32_t every = pick<uint32_t>({1, 2, 20, 400});
    for (size_t id = 0; id < size; ++id) {
      if (is_one_in(every)) c->allowed[id / 64] |= uint64_t{1} << (id % 64);
    }
    c->sampling.allowed = c->allowed;
  }

  uint32_t below(uint32_t end) { return static_cast<uint32_t>(random_() % end); }
  bool is_one_in(uint32_t count) { return below(count) == 0; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<uint32_t>(values.size()))];
  }

  std::mt19937_64 random_;
};

// What ranks do, one behind the other. Each has its own copy of the logits, in which all that was
// not sent to it is no number.
Result<ColumnOutput> choose_by_ranks(const Case& c, uint32_t num_ranks) {
  const auto size = static_cast<uint32_t>(c.logits.size());
  std::vector<std::vector<float>> rows(num_ranks, std::vector<float>(size, kBadValues[2]));
  std::vector<LogitPeaks> peaks;
  const auto values = [&](const LogitShare& share, uint32_t rank) {
    return TokenValues{std::span<const float>(rows[rank]).subspan(share.begin, share.size),
                       share.begin};
  };
  for (uint32_t rank = 0; rank < num_ranks; ++rank) {
    const LogitShare share(size, num_ranks, rank);
    const auto copy = [&](uint32_t end, uint32_t to) {
      std::copy(&c.logits[0] + share.begin, &c.logits[0] + end, &rows[to][0] + share.begin);
    };
    copy(share.end, rank);
    copy(share.head_end(), share.head_owner());
    peaks.push_back(peaks_of(values(share, rank), c.sampling));
  }
  std::vector<float> sums(program::num_logit_pieces(size), kBadValues[2]);
  std::vector<LogitShortlist> lists;
  for (uint32_t rank = 0; rank < num_ranks; ++rank) {
    const LogitShare share(size, num_ranks, rank);
    if (share.first_piece() < share.end_piece()) {
      const uint32_t begin = share.first_piece() * kLogitPiece;
      sum_pieces(peaks,
                 std::span<const float>(rows[rank]).subspan(begin, share.pieces_end() - begin),
                 &sums[share.first_piece()]);
    }
    lists.push_back(shortlist_of(peaks, values(share, rank), c.position, c.sampling, size));
  }
  return choose_from_shares({size, peaks, sums, lists}, c.position, c.sampling);
}

void expect_equal(const Result<ColumnOutput>& a, const Result<ColumnOutput>& b) {
  ASSERT_EQ(a.has_value(), b.has_value()) << (a ? b.error().message : a.error().message);
  if (!a) {
    EXPECT_EQ(a.error().code, b.error().code);
    EXPECT_EQ(a.error().message, b.error().message);
    return;
  }
  EXPECT_EQ(a->token_id, b->token_id);
  EXPECT_EQ(a->logprob, b->logprob);
  EXPECT_EQ(a->logit, b->logit);
  EXPECT_EQ(a->top_logprobs, b->top_logprobs);
}

TEST(ShareSample, IsTheChoiceFromAllLogits) {
  size_t num_errors = 0, num_drawn = 0;
  for (uint64_t seed = 0; seed < 3000 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const Case c = CaseMaker(seed).make();
    ASSERT_FALSE(program::needs_all_logits(c.sampling, static_cast<uint32_t>(c.logits.size())));
    const auto expected = sample_column(c.logits, c.position, c.sampling);
    num_errors += expected ? 0 : 1;
    num_drawn += expected && c.sampling.temperature > 0 ? 1 : 0;
    for (const uint32_t num_ranks : {1u, 2u, 4u, 8u}) {
      SCOPED_TRACE(num_ranks);
      expect_equal(choose_by_ranks(c, num_ranks), expected);
    }
  }
  EXPECT_GT(num_errors, 300U);
  EXPECT_GT(num_drawn, 1000U);
}

TEST(ShareSample, SaysWhichParametersNeedAllLogits) {
  constexpr uint32_t kVocabulary = 4096;
  const auto needs = [](auto change) {
    ColumnSampling sampling;
    sampling.temperature = 1;
    change(&sampling);
    return program::needs_all_logits(sampling, kVocabulary);
  };
  using S = ColumnSampling*;
  EXPECT_FALSE(needs([](S) {}));
  EXPECT_FALSE(needs([](S s) { s->min_p = 0.1F; }));
  EXPECT_FALSE(needs([](S s) { s->top_k = 64; }));
  EXPECT_TRUE(needs([](S s) { s->top_k = 65; }));
  EXPECT_FALSE(needs([](S s) { s->top_k = kVocabulary; }));
  EXPECT_TRUE(needs([](S s) { s->top_p = 0.9F; }));
  EXPECT_TRUE(needs([](S s) { s->top_p = 0.9F, s->top_k = kVocabulary; }));
  EXPECT_FALSE(needs([](S s) { s->top_p = 0.9F, s->top_k = 20; }));
  EXPECT_FALSE(needs([](S s) { s->top_p = 0.9F, s->temperature = 0; }));
  EXPECT_TRUE(needs([](S s) { s->proposed_token_id = 3; }));
  EXPECT_TRUE(needs([](S s) { s->draws_draft = true; }));
  EXPECT_FALSE(needs([](S s) { s->draws_draft = true, s->temperature = 0; }));
  EXPECT_FALSE(needs([](S s) { s->top_p = 0.9F, s->forced_token_id = 7; }));
  EXPECT_FALSE(needs([](S s) { s->num_logprobs = 64; }));
  EXPECT_TRUE(needs([](S s) { s->num_logprobs = 65; }));
}

// The 1T model's vocabulary: shares are 18.6 pieces.
TEST(ShareSample, PiecesAreSummedOnceEach) {
  for (const uint32_t vocab_size : {152576u, 12288u, 4096u, 1544u, 264u}) {
    for (const uint32_t num_ranks : {1u, 2u, 4u, 8u}) {
      uint32_t next_piece = 0, next_id = 0;
      for (uint32_t rank = 0; rank < num_ranks; ++rank) {
        const LogitShare share(vocab_size, num_ranks, rank);
        EXPECT_EQ(share.begin, next_id);
        EXPECT_EQ(share.first_piece(), next_piece);
        EXPECT_LE(share.head_owner(), rank);
        EXPECT_EQ(share.head_end() == share.begin, share.begin % kLogitPiece == 0);
        next_id = share.end;
        next_piece = share.end_piece();
      }
      EXPECT_EQ(next_id, vocab_size);
      EXPECT_EQ(next_piece, program::num_logit_pieces(vocab_size));
    }
  }
}

}  // namespace
}  // namespace ultraspeed::cpu
