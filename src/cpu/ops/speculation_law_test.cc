// That speculation keeps the target's distribution: a chi-square test of three successive tokens
// over a toy vocabulary, which the operations Propose, Sample and Accept make in steps as an
// engine's: for keyed acceptance, for rejection sampling with drafts of probability 1 and with
// drawn ones, in the step and before it. And that the test sees what others got wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "cpu/ops/op_harness.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

constexpr uint32_t kVocab = 5;
constexpr uint32_t kDepth = 3;
constexpr uint32_t kTrials = 150'000;
constexpr float kTopP = 0.9F;

using Tokens = std::vector<uint32_t>;
using Logits = std::array<float, kVocab>;

// The number of a context of less than kDepth tokens, and of a whole text.
uint32_t index_of(const Tokens& tokens) {
  uint32_t index = 0;
  for (const uint32_t token : tokens) index = index * kVocab + token + 1;
  return index;
}

// A row of logits for each context of up to kDepth tokens.
std::vector<Logits> random_rows(uint64_t seed) {
  std::vector<Logits> rows(index_of(Tokens(kDepth, kVocab - 1)) + 1);
  for (uint32_t index = 0; index < rows.size(); ++index) {
    for (uint32_t id = 0; id < kVocab; ++id) {
      rows[index][id] = static_cast<float>(3 * random_uniform(seed, index, id));
    }
  }
  return rows;
}

// Depend on all tokens so far.
const Logits& target_logits(const Tokens& context) {
  static const std::vector<Logits> rows = random_rows(11);
  return rows[index_of(context)];
}

// For the token `distance` behind the text: of a drafter that drafts all at once and does not see
// its own drafts. Of the first it knows half of what the target knows.
Logits drafter_logits(const Tokens& text, uint32_t distance) {
  static const std::vector<Logits> rows = random_rows(12);
  Tokens context = text;
  context.resize(text.size() + distance, 0);
  Logits logits = target_logits(context);
  for (uint32_t id = 0; id < kVocab; ++id) {
    logits[id] += rows[index_of(context)][id];
    logits[id] /= 1.5F;
  }
  return logits;
}

program::ColumnSampling sampling_with(uint64_t seed) {
  program::ColumnSampling sampling;
  sampling.temperature = 0.8F;
  sampling.top_p = kTopP;
  sampling.seed = seed;
  return sampling;
}

// What the target's tokens are drawn from, written out: softmax, the fewest tokens that reach
// top_p, softmax again.
std::array<double, kVocab> target_probabilities(const Tokens& context) {
  const Logits& logits = target_logits(context);
  std::array<double, kVocab> p;
  double sum = 0;
  for (uint32_t id = 0; id < kVocab; ++id) sum += p[id] = std::exp(logits[id] / double{0.8F});
  std::array<uint32_t, kVocab> order = {0, 1, 2, 3, 4};
  std::ranges::sort(order, [&](uint32_t a, uint32_t b) { return p[a] > p[b]; });
  double kept = 0;
  for (const uint32_t id : order) {
    const bool is_reached = kept >= double{kTopP} * sum;
    if (is_reached) p[id] = 0;
    kept += p[id];
  }
  for (double& value : p) value /= kept;
  return p;
}

// What a text is made by: the five ways that are right, and four that are not.
enum class Method {
  kDirect,
  kKeyed,                  // the host's drafts, by the target's own noise
  kPointMass,              // rejection, the host's drafts, as drawn for certain
  kDrawn,                  // rejection, drafts that Propose draws
  kDrawnBefore,            // rejection, the host's drafts with the logits that they were drawn from
  kSharedNoise,            // the drafts are drawn with the recovery's noise
  kUntruncatedQ,           // q is taken before truncation, the drafts are drawn after it
  kAnticipatesAcceptance,  // verifies only what will be accepted
  kAnticipatesDraft,       // verifies only drafts that the drafter was sure of
};

// Writes texts in steps of an anchor and as many drafts as are left to the depth.
class Speculator {
 public:
  explicit Speculator(Method method) : method_(method), harness_(kDepth + 1, 1) {
    const std::vector<float> rows((kDepth + 1) * kVocab);
    const std::vector<float> words(kDepth + 1);
    propose_.vocab_size = sample_.vocab_size = kVocab;
    propose_.logits = sample_.draft_logits = harness_.buffer(rows);
    propose_.drafted = sample_.drafted = accept_.drafted = harness_.buffer(words);
    sample_.logits = harness_.buffer(rows);
    sample_.sampled = accept_.sampled = harness_.buffer(words);
    accept_.accepted = harness_.buffer(words);
    harness_.load();
  }

  // The first kDepth tokens of a text.
  Tokens generate(uint64_t seed) {
    text_.clear();
    while (text_.size() < kDepth) step(seed);
    return text_;
  }

 private:
  void step(uint64_t seed) {
    make_columns(seed);
    draft(seed);
    if (method_ == Method::kUntruncatedQ) {
      for (program::Column& column : columns_) column.sampling.top_p = 1;
    }
    if (method_ == Method::kAnticipatesDraft) columns_.resize(1 + num_sure_drafts());
    if (method_ == Method::kAnticipatesAcceptance) columns_.resize(1 + verify());
    const uint32_t num_accepted = verify();
    for (uint32_t t = 0; t <= num_accepted && text_.size() < kDepth; ++t) {
      text_.push_back(harness_.words(sample_.sampled)[t]);
    }
  }

  bool is_host_drafting() const {
    return method_ == Method::kKeyed || method_ == Method::kPointMass ||
           method_ == Method::kDrawnBefore;
  }

  void make_columns(uint64_t seed) {
    const size_t num_drafts = method_ == Method::kDirect ? 0 : kDepth - text_.size();
    columns_.assign(1 + num_drafts, {});
    for (uint32_t t = 0; t <= num_drafts; ++t) {
      program::Column& column = columns_[t];
      column.position = static_cast<uint32_t>(text_.size()) + t;
      column.wants_logits = true;
      column.is_drafted = t > 0 && !is_host_drafting();
      column.sampling = sampling_with(seed);
      column.sampling.draws_draft = !is_host_drafting();
    }
  }

  // Leaves drafts in the drafted words, a host's also in the columns.
  void draft(uint64_t seed) {
    for (uint32_t t = 1; t < columns_.size(); ++t) {
      draft_logits_[t] = drafter_logits(text_, t - 1);
      std::ranges::copy(draft_logits_[t], harness_.values(propose_.logits) + t * kVocab);
    }
    harness_.set_columns(columns_);
    run(propose_);
    if (method_ == Method::kDrawn) return;
    for (uint32_t t = 1; t < columns_.size(); ++t) {
      if (is_host_drafting() || method_ == Method::kSharedNoise) {
        harness_.words(propose_.drafted)[t] = draw_for(t, seed);
      }
      if (is_host_drafting()) propose_to_target(t);
    }
  }

  uint32_t draw_for(uint32_t t, uint64_t seed) const {
    const Logits& logits = draft_logits_[t];
    const auto first = static_cast<uint32_t>(text_.size());
    const uint32_t position = first + t - 1;
    switch (method_) {
      case Method::kKeyed:
        return draw(logits, position, seed);
      case Method::kSharedNoise:
        return draw(logits, position, seed_for(seed, RandomPurpose::kRecoverToken));
      default:  // as a head t - 1 does
        return draw_draft(logits, program::draft_stream(first, t - 1), sampling_with(seed));
    }
  }

  void propose_to_target(uint32_t t) {
    columns_[t].token_id = static_cast<int32_t>(harness_.words(propose_.drafted)[t]);
    if (method_ == Method::kKeyed) return;
    program::ColumnSampling& sampling = columns_[t - 1].sampling;
    sampling.proposed_token_id = columns_[t].token_id;
    if (method_ == Method::kDrawnBefore) sampling.proposed_logits = draft_logits_[t];
  }

  static uint32_t draw(const Logits& logits, uint32_t position, uint64_t seed) {
    return static_cast<uint32_t>(sample_column(logits, position, sampling_with(seed))->token_id);
  }

  // How many of the first drafts had a large probability.
  uint32_t num_sure_drafts() {
    uint32_t count = 0;
    for (; count + 1 < columns_.size(); ++count) {
      const uint32_t draft = harness_.words(propose_.drafted)[count + 1];
      const auto q = sampling_probabilities(drafter_logits(text_, count), 0, sampling_with(0));
      if (q.value()[draft] <= 0.35) break;
    }
    return count;
  }

  // Returns how many drafts are accepted.
  uint32_t verify() {
    Tokens context = text_;
    for (uint32_t t = 0; t < columns_.size(); ++t) {
      if (t > 0) context.push_back(harness_.words(propose_.drafted)[t]);
      Logits logits = target_logits(context);
      if (method_ == Method::kUntruncatedQ) truncate(context, &logits);
      std::ranges::copy(logits, harness_.values(sample_.logits) + t * kVocab);
    }
    harness_.set_columns(columns_);
    run(sample_);
    run(accept_);
    return harness_.output.columns[0].accepted;
  }

  static void truncate(const Tokens& context, Logits* logits) {
    const auto p = target_probabilities(context);
    for (uint32_t id = 0; id < kVocab; ++id) {
      if (p[id] == 0) (*logits)[id] = -std::numeric_limits<float>::infinity();
    }
  }

  void run(const program::Operands& op) {
    const Status status = harness_.run(op, 0, kDepth + 1);
    US_CHECK(status.has_value(), "{}", status.error().message);
  }

  Method method_;
  OpHarness harness_;
  program::ProposeOperands propose_;
  program::SampleOperands sample_;
  program::AcceptOperands accept_;
  std::vector<program::Column> columns_;
  std::array<Logits, kDepth + 1> draft_logits_ = {};  // [column]
  Tokens text_;
};

// Adds the probability of every text that begins with `text`.
void enumerate(const Tokens& text, double probability, std::vector<double>* joint) {
  if (text.size() == kDepth) {
    joint->at(index_of(text)) = probability;
    return;
  }
  const auto p = target_probabilities(text);
  for (uint32_t id = 0; id < kVocab; ++id) {
    Tokens longer = text;
    longer.push_back(id);
    enumerate(longer, probability * p[id], joint);
  }
}

struct ChiSquare {
  double statistic = 0;
  uint32_t degrees = 0;  // of freedom
};

// Texts that the target never writes count as an infinite deviation.
ChiSquare chi_square(Method method) {
  const size_t num_indices = index_of(Tokens(kDepth, kVocab - 1)) + 1;
  std::vector<double> joint(num_indices, 0);
  enumerate({}, 1, &joint);
  std::vector<double> counts(num_indices, 0);
  Speculator speculator(method);
  for (uint64_t seed = 1; seed <= kTrials; ++seed) ++counts[index_of(speculator.generate(seed))];
  ChiSquare result;
  for (size_t i = 0; i < num_indices; ++i) {
    const double expected = kTrials * joint[i];
    if (expected == 0) {
      if (counts[i] > 0) result.statistic = std::numeric_limits<double>::infinity();
      continue;
    }
    EXPECT_GT(expected, 10);  // the test's approximation holds
    result.statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++result.degrees;
  }
  --result.degrees;
  return result;
}

// What a right method exceeds with a probability of 0.001: the approximation of Wilson and Hilferty
// (1931) with the normal quantile 3.09. It is 0.2 above the tables at most. The texts that the
// toy target can write are 31: 30 degrees of freedom, 59.8.
double critical_value(uint32_t degrees) {
  const double v = 2 / (9.0 * degrees);
  return degrees * std::pow(1 - v + 3.0902 * std::sqrt(v), 3);
}

TEST(SpeculationLaw, CriticalValueIsThatOfTables) {
  EXPECT_NEAR(critical_value(20), 45.31, 0.2);
  EXPECT_NEAR(critical_value(50), 86.66, 0.2);
}

TEST(SpeculationLaw, RightMethodsHaveTheTargetsDistribution) {
  for (const Method method : {Method::kDirect, Method::kKeyed, Method::kPointMass, Method::kDrawn,
                              Method::kDrawnBefore}) {
    const ChiSquare result = chi_square(method);
    EXPECT_GE(result.degrees, 20u);
    EXPECT_LT(result.degrees, kVocab * kVocab * kVocab - 1);  // the truncation is at work
    EXPECT_LT(result.statistic, critical_value(result.degrees)) << static_cast<int>(method);
    std::cout << "chi-square " << result.statistic << ", critical "
              << critical_value(result.degrees) << "\n";
  }
}

TEST(SpeculationLaw, TheTestSeesWhatOthersGotWrong) {
  for (const Method method : {Method::kSharedNoise, Method::kUntruncatedQ,
                              Method::kAnticipatesAcceptance, Method::kAnticipatesDraft}) {
    const ChiSquare result = chi_square(method);
    std::cout << "chi-square " << result.statistic << ", critical "
              << critical_value(result.degrees) << "\n";
    EXPECT_GT(result.statistic, 2 * critical_value(result.degrees)) << static_cast<int>(method);
  }
}

// One draft and what becomes of it, under all filters: the draft is drawn from q, the token that
// results from p, and they are equal as often as a method that keeps p can have it: sum min(p, q).
class OneDraft : public testing::Test {
 protected:
  static constexpr uint32_t kTokens = 12;
  static constexpr uint32_t kDraws = 20'000;

  void SetUp() override {
    propose_.vocab_size = sample_.vocab_size = kTokens;
    propose_.logits = sample_.draft_logits = harness_.buffer(random_rows());
    propose_.drafted = sample_.drafted = harness_.buffer({0, 0});
    sample_.logits = harness_.buffer(random_rows());
    sample_.sampled = harness_.buffer({0, 0});
    for (uint32_t t = 0; t < 2; ++t) harness_.column(0, 40 + t).wants_logits = t == 0;
    harness_.column_at(1).is_drafted = true;
    harness_.load();
  }

  std::vector<float> random_rows() {
    std::normal_distribution<float> normal(0, 1.5F);
    std::vector<float> rows(2 * kTokens);
    for (float& logit : rows) logit = normal(random_);
    return rows;
  }

  void check(float temperature, uint32_t top_k, float top_p, float min_p) {
    program::ColumnSampling sampling;
    sampling.temperature = temperature;
    sampling.top_k = top_k;
    sampling.top_p = top_p;
    sampling.min_p = min_p;
    sampling.draws_draft = true;
    const float* target = harness_.values(sample_.logits);
    const float* drafter = harness_.values(propose_.logits) + kTokens;
    const auto p = sampling_probabilities({target, kTokens}, 40, sampling).value();
    const auto q = sampling_probabilities({drafter, kTokens}, 40, sampling).value();
    std::array<double, kTokens> drafted = {}, chosen = {};
    double num_equal = 0;
    for (uint64_t draw = 0; draw < kDraws; ++draw) {
      sampling.seed = draw;
      harness_.column_at(0).sampling = sampling;
      ASSERT_TRUE(harness_.run(propose_, 0, 2));
      ASSERT_TRUE(harness_.run(sample_, 0, 2));
      const uint32_t draft = harness_.words(propose_.drafted)[1];
      const uint32_t token = harness_.words(sample_.sampled)[0];
      ++drafted.at(draft);
      ++chosen.at(token);
      num_equal += draft == token ? 1 : 0;
    }
    double common = 0;
    for (uint32_t id = 0; id < kTokens; ++id) {
      expect_share(drafted[id], q[id]);
      expect_share(chosen[id], p[id]);
      common += std::min(p[id], q[id]);
    }
    EXPECT_GT(common, 0.05);
    expect_share(num_equal, common);
  }

  // Within five standard deviations, and three more for what is rare; never what cannot be.
  static void expect_share(double count, double share) {
    const double rare = share > 0 ? 3 : 0;
    EXPECT_NEAR(count, share * kDraws, 5 * std::sqrt(share * (1 - share) * kDraws) + rare);
  }

  std::mt19937 random_{8};
  OpHarness harness_{2, 1};
  program::ProposeOperands propose_;
  program::SampleOperands sample_;
};

TEST_F(OneDraft, IsAcceptedAsOftenAsCanBe) {
  check(1, 0, 1, 0);
  check(0.5F, 0, 1, 0);
  check(1, 6, 1, 0);
  check(1.5F, 0, 0.8F, 0);
  check(1, 0, 1, 0.1F);
  check(0.7F, 9, 0.95F, 0.02F);
}

}  // namespace
}  // namespace ultraspeed::cpu
