// That speculation keeps the target's distribution: a chi-square test of three successive tokens
// over a toy vocabulary, for keyed acceptance and for rejection sampling, and that the test sees
// what others got wrong. A toy loop drafts and verifies with the real functions; the bugs are the
// loop's own.
#include "cpu/ops/rejection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <limits>
#include <vector>

#include "base/philox.h"
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

// Depend on all tokens so far. The drafter knows half of what the target knows.
Logits target_logits(const Tokens& context) {
  Logits logits;
  for (uint32_t id = 0; id < kVocab; ++id) {
    logits[id] = static_cast<float>(3 * random_uniform(11, index_of(context), id));
  }
  return logits;
}

Logits drafter_logits(const Tokens& context) {
  Logits logits = target_logits(context);
  for (uint32_t id = 0; id < kVocab; ++id) {
    logits[id] += static_cast<float>(3 * random_uniform(12, index_of(context), id));
    logits[id] /= 1.5F;
  }
  return logits;
}

program::ColumnSampling sampling_with(uint64_t seed, float top_p = kTopP) {
  program::ColumnSampling sampling;
  sampling.temperature = 0.8F;
  sampling.top_p = top_p;
  sampling.seed = seed;
  return sampling;
}

uint32_t draw(const Logits& logits, size_t position, const program::ColumnSampling& sampling) {
  return static_cast<uint32_t>(
      sample_column(logits, static_cast<uint32_t>(position), sampling)->token_id);
}

// What a text is made by: the three ways that are right, and four that are not.
enum class Method {
  kDirect,
  kKeyed,
  kRejection,
  kProposed,               // rejection as the Sample operation does it: q is a point mass
  kSharedNoise,            // the recovery uses the draft's noise
  kUntruncatedQ,           // the draft is drawn after truncation, its q taken before
  kAnticipatesAcceptance,  // verifies only what will be accepted
  kAnticipatesDraft,       // verifies only drafts that the drafter was sure of
};

class Speculator {
 public:
  Speculator(Method method, uint64_t seed) : method_(method), seed_(seed) {}

  // The first kDepth tokens of a text.
  Tokens generate() {
    while (text_.size() < kDepth) cycle();
    return text_;
  }

 private:
  // Drafts what is left to the depth, verifies it token by token, and adds the target's own.
  void cycle() {
    const Tokens drafts = method_ == Method::kDirect ? Tokens{} : draft();
    for (const uint32_t token : drafts) {
      if (!is_verified(token)) break;
      if (!verify(token)) return;
    }
    if (text_.size() == kDepth) return;
    text_.push_back(draw(target_logits(text_), text_.size(), sampling_with(seed_)));
  }

  // Keyed drafts use the target's noise, the others a seed of their own.
  Tokens draft() const {
    const uint64_t seed =
        method_ == Method::kKeyed ? seed_ : seed_for(seed_, RandomPurpose::kDraftToken);
    Tokens context = text_;
    while (context.size() < kDepth) {
      context.push_back(draw(drafter_logits(context), context.size(), sampling_with(seed)));
    }
    return {context.begin() + static_cast<ptrdiff_t>(text_.size()), context.end()};
  }

  // Where a cycle goes on with this draft. Right is: always.
  bool is_verified(uint32_t token) const {
    if (method_ == Method::kAnticipatesAcceptance) return verdict(token).is_accepted;
    if (method_ == Method::kAnticipatesDraft) return drafter_probabilities(kTopP)[token] > 0.35;
    return true;
  }

  // Adds the draft or what replaces it; says whether the next draft may follow.
  bool verify(uint32_t token) {
    const Logits logits = target_logits(text_);
    program::ColumnSampling sampling = sampling_with(seed_);
    uint32_t result = 0;
    if (method_ == Method::kKeyed || method_ == Method::kProposed) {
      if (method_ == Method::kProposed) sampling.proposed_token_id = static_cast<int32_t>(token);
      result = draw(logits, text_.size(), sampling);
    } else {
      result = verdict(token).token_id;
    }
    text_.push_back(result);
    return result == token;
  }

  DraftVerdict verdict(uint32_t token) const {
    const auto p = sampling_probabilities(target_logits(text_), 0, sampling_with(seed_)).value();
    const auto q = drafter_probabilities(method_ == Method::kUntruncatedQ ? 1 : kTopP);
    const auto purpose =
        method_ == Method::kSharedNoise ? RandomPurpose::kDraftToken : RandomPurpose::kRecoverToken;
    const auto noise = [&](uint32_t id) {
      return gumbel_from_bits(random_bits(seed_for(seed_, purpose), text_.size(), id));
    };
    const uint64_t accept_seed = seed_for(seed_, RandomPurpose::kAcceptDraft);
    return accept_or_recover(p, q, token, random_uniform(accept_seed, text_.size(), 0), noise);
  }

  std::vector<double> drafter_probabilities(float top_p) const {
    return sampling_probabilities(drafter_logits(text_), 0, sampling_with(0, top_p)).value();
  }

  Method method_;
  uint64_t seed_;
  Tokens text_;
};

// What the target's tokens are drawn from, written out: softmax, the fewest tokens that reach
// top_p, softmax again.
std::array<double, kVocab> target_probabilities(const Tokens& context) {
  const Logits logits = target_logits(context);
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
  for (uint64_t seed = 1; seed <= kTrials; ++seed) {
    ++counts[index_of(Speculator(method, seed).generate())];
  }
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
  for (const Method method :
       {Method::kDirect, Method::kKeyed, Method::kRejection, Method::kProposed}) {
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

// How often the drafts of a method become output: rejection accepts 1 - TV(p, q) of them, which no
// method that keeps the distribution can exceed.
TEST(SpeculationLaw, RejectionAcceptsAsOftenAsCanBe) {
  const Logits target = target_logits({});
  const Logits drafter = drafter_logits({});
  const auto p = sampling_probabilities(target, 0, sampling_with(0)).value();
  const auto q = sampling_probabilities(drafter, 0, sampling_with(0)).value();
  double common = 0;
  for (uint32_t id = 0; id < kVocab; ++id) common += std::min(p[id], q[id]);
  double num_accepted = 0;
  for (uint64_t seed = 1; seed <= kTrials; ++seed) {
    const uint32_t token =
        draw(drafter, 0, sampling_with(seed_for(seed, RandomPurpose::kDraftToken)));
    const double uniform = random_uniform(seed_for(seed, RandomPurpose::kAcceptDraft), 0, 0);
    const auto no_noise = [](uint32_t) { return 0.0; };
    num_accepted += accept_or_recover(p, q, token, uniform, no_noise).is_accepted ? 1 : 0;
  }
  // Five standard deviations of a share of kTrials.
  EXPECT_NEAR(num_accepted / kTrials, common, 5 * std::sqrt(0.25 / kTrials));
}

TEST(AcceptOrRecover, AcceptsByTheRatio) {
  const std::vector<double> p = {0.2, 0.8, 0};
  const std::vector<double> q = {0.4, 0.1, 0.5};
  const auto noise = [](uint32_t) { return 0.0; };
  EXPECT_TRUE(accept_or_recover(p, q, 0, 0.49, noise).is_accepted);
  EXPECT_FALSE(accept_or_recover(p, q, 0, 0.51, noise).is_accepted);
  EXPECT_TRUE(accept_or_recover(p, q, 1, 0.999, noise).is_accepted);
  const DraftVerdict verdict = accept_or_recover(p, q, 2, 1e-9, noise);
  EXPECT_FALSE(verdict.is_accepted);
  EXPECT_EQ(verdict.token_id, 1u);  // the only one that p has more of
}

TEST(AcceptOrRecover, RecoversByThePartThatTheDrafterLacks) {
  const std::vector<double> p = {0.5, 0.3, 0.2};
  const std::vector<double> q = {1, 0, 0};
  const auto noise_for = [](uint32_t lucky) {
    return [lucky](uint32_t id) { return id == lucky ? 1.0 : 0.0; };
  };
  EXPECT_EQ(accept_or_recover(p, q, 0, 0.9, noise_for(2)).token_id, 2u);  // 0.2 e > 0.3
  EXPECT_EQ(accept_or_recover(p, q, 0, 0.9, noise_for(0)).token_id, 1u);  // never the draft
}

TEST(ProposedToken, HasNoEffectWithoutChance) {
  const Logits logits = {0, 3, 1, 2, 0};
  program::ColumnSampling sampling;
  for (const int32_t proposed : {-1, 0, 1, 4}) {
    sampling.proposed_token_id = proposed;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
  }
  sampling.forced_token_id = 3;
  EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 3);
}

TEST(ProposedToken, IsRefusedWhereTruncatedAndTakenWhereAlone) {
  const Logits logits = {0, 3, 1, 2, 0};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    program::ColumnSampling sampling = sampling_with(seed, 1);
    sampling.top_k = 1;
    sampling.proposed_token_id = 3;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
    sampling.proposed_token_id = 1;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
  }
}

TEST(ProposedToken, IsOneOfTheVocabulary) {
  program::ColumnSampling sampling = sampling_with(1);
  sampling.proposed_token_id = kVocab;
  const auto output = sample_column(Logits{}, 7, sampling);
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(output.error().message.find("proposed token is 5, expected 0 to 4"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::cpu
