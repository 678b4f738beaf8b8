// Outputs that must keep to a constraint, on the bundled model: every token does, and the text is
// the same whatever drafts.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/model_texts.h"
#include "engine/tiny_drafter.h"
#include "support/mtp_generator.h"

namespace ultraspeed::engine {
namespace {

// A token's id modulo 3 must be the sum of the ids before it, modulo 3: a rule in which the mask of
// every position differs from its neighbours'.
class SumConstraint final : public TokenConstraint {
 public:
  void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) override {
    int32_t sum = sum_;
    for (const int32_t id : drafts) {
      EXPECT_EQ(id % 3, sum) << "a draft after one that was forbidden";
      sum = (sum + id) % 3;
    }
    for (size_t id = 0; id < words.size() * 64; ++id) {
      if (static_cast<int32_t>(id % 3) != sum) words[id / 64] &= ~(uint64_t{1} << id % 64);
    }
  }
  void advance(int32_t token_id) override { sum_ = (sum_ + token_id) % 3; }
  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<SumConstraint>(*this);
  }

 private:
  int32_t sum_ = 1;
};

void expect_kept(const Text& text) {
  int32_t sum = 1;
  for (const int32_t id : text.tokens) {
    EXPECT_EQ(id % 3, sum);
    sum = (sum + id) % 3;
  }
}

std::vector<Request> constrained_requests() {
  static const SumConstraint constraint;
  auto requests = make_requests({0}, 10);
  for (Request& request : requests) request.params.sampling.constraint = &constraint;
  return requests;
}

TEST(Constraint, EveryTokenKeepsToItAndNoDrafterChangesTheText) {
  auto requests = constrained_requests();
  const auto expected = reference_texts(&requests);
  for (const Text& text : expected) expect_kept(text);
  check({{DrafterKind::kSuffix, 1}, 8, 2}, requests, expected, false);
  check({{DrafterKind::kRandom, 1}, 16, 1}, requests, expected, false);
  check({{DrafterKind::kReplay, 3}, 32, 1}, requests, expected, true);
  const TinyDrafter dflash(true);  // suffix stands in for it
  check(dflash.setup(8, 8, 1), requests, expected, false);
  const test::TinyMimoWithMtp mtp(3);
  check(mtp_setup(mtp.path(), 8, 1), requests, expected, false);
}

// Every fourth token is free; those after it are the ids after its own.
class RunConstraint final : public TokenConstraint {
 public:
  static constexpr uint32_t kRun = 3;

  void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) override {
    RunConstraint ahead = *this;
    for (const int32_t id : drafts) ahead.advance(id);
    if (ahead.num_left_ == 0) return;
    std::ranges::fill(words, 0);
    words[static_cast<size_t>(ahead.next_) / 64] |= uint64_t{1} << ahead.next_ % 64;
  }
  void propose(uint32_t limit, std::vector<int32_t>* drafts) override {
    RunConstraint ahead = *this;
    while (drafts->size() < limit && ahead.num_left_ > 0) {
      drafts->push_back(ahead.next_);
      ahead.advance(ahead.next_);
    }
  }
  void advance(int32_t token_id) override {
    num_left_ = num_left_ == 0 ? kRun : num_left_ - 1;
    next_ = (token_id + 1) % 1000;
  }
  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<RunConstraint>(*this);
  }

 private:
  uint32_t num_left_ = 0;  // of a run
  int32_t next_ = 0;
};

TEST(Constraint, WhatItProposesIsVerifiedInOneStepAndChangesNoText) {
  const RunConstraint constraint;
  Request request = make_requests({0}, 33)[1];
  request.params.sampling.constraint = &constraint;
  SpeculationStats narrow, wide;
  const auto expected = generate(*open({.block_size = 1}), {request}, &narrow);
  EXPECT_EQ(narrow.num_cycles(), 32u);
  EXPECT_EQ(generate(*open({}), {request}, &wide), expected);
  // The prefill gives a run's begin; each cycle the run and the free token after it.
  EXPECT_EQ(wide.num_cycles(), 8u);
  EXPECT_DOUBLE_EQ(wide.accepted_length(), 4);
  check({{DrafterKind::kRandom, 1}, 16, 2}, {request}, expected, false);
  check({{DrafterKind::kSuffix, 1}, 8, 1}, {request}, expected, false);
}

TEST(Constraint, RejectionKeepsToItToo) {
  auto requests = constrained_requests();
  for (Request& request : requests) request.params.sampling.acceptance = Acceptance::kRejection;
  const auto engine = open({.drafter = {DrafterKind::kRandom, 1}});
  SpeculationStats stats;
  for (const Text& text : generate(*engine, requests, &stats)) expect_kept(text);
}

TEST(Constraint, AForkStartsWithItAnew) {
  const Request request = constrained_requests()[1];
  const auto engine = open({.drafter = {DrafterKind::kSuffix, 1}});
  auto lent = std::make_unique<SumConstraint>();
  Request other = request;
  other.params.sampling.seed = 7;
  SpeculationStats stats;
  const auto expected = generate(*engine, {request, other}, &stats);

  std::map<SessionId, Text> texts;
  Request borrowing = request;
  borrowing.params.sampling.constraint = lent.get();
  const SessionId first = engine->start(borrowing.prompt, borrowing.params).value();
  lent.reset();  // start() has copied it
  run_prompt(*engine, request.prompt.size(), &texts);
  const SessionId second = engine->fork(first, 7).value();
  run(*engine, &texts, &stats);
  EXPECT_EQ(texts[first], expected[0]);
  EXPECT_EQ(texts[second], expected[1]);
}

}  // namespace
}  // namespace ultraspeed::engine
