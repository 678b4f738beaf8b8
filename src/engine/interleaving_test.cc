// Random interleavings of start, fork, step and cancel, among prompts that go on from earlier
// texts: no page leaks, and every session's text is what it would be alone, without drafts,
// prefixes and preemption. The fake executor checks page tables, rings and positions at every step.
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/engine_harness.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

struct Request {
  std::vector<int32_t> prompt;
  GenerationParams params;
};

class Interleaving {
 public:
  Interleaving(const HarnessOptions& options, uint32_t seed)
      : options_(options), harness_(options), random_(seed) {}

  void run(int num_operations) {
    for (int i = 0; i < num_operations && !testing::Test::HasFailure(); ++i) {
      const uint32_t choice = below(100);
      if (choice < 20) {
        start();
      } else if (choice < 22) {
        cancel();
      } else if (choice < 26) {
        fork();
      } else {
        ASSERT_TRUE(harness_.step());
        for (const StepEvent& event : harness_.last_events) {
          if (event.prompt_tokens_cached > 0) took_over_.insert(event.session);
        }
        forget_finished();
      }
    }
    ASSERT_TRUE(harness_.run_until_idle());
    forget_finished();
    EXPECT_TRUE(active_.empty());
    EXPECT_EQ(harness_.engine->kv_pages().num_available(), options_.num_kv_pages);
    if (options_.num_cached_prefixes == 0) {
      EXPECT_EQ(harness_.engine->kv_pages().num_free(), options_.num_kv_pages);
    }
    for (const auto& [id, request] : requests_) check(id, request);
  }

  size_t num_sessions() const { return requests_.size(); }
  size_t num_forks() const { return num_forks_; }
  size_t num_refused() const { return num_refused_; }
  size_t num_cut_short() const { return num_cut_short_; }
  size_t num_taken_over() const { return took_over_.size(); }
  uint64_t num_preemptions() const { return harness_.engine->kv_usage().num_preemptions; }
  size_t num_stopped() const { return num_stopped_; }

 private:
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  float pick(std::initializer_list<float> values) {
    return values.begin()[below(static_cast<uint32_t>(values.size()))];
  }

  Request random_request() {
    Request request;
    const uint32_t size = 1 + below(below(2) == 0 ? 6 : options_.max_context - 1);
    if (!requests_.empty() && below(3) == 0) request.prompt = beginning_of_a_text(size);
    while (request.prompt.size() < size) {
      request.prompt.push_back(static_cast<int32_t>(below(FakeExecutor::kVocabSize)));
    }
    GenerationParams& params = request.params;
    if (below(8) == 0) params.cache_domain = "other";
    params.max_tokens = below(3) == 0 ? 0 : 1 + below(40);
    params.ignore_eos = below(4) == 0;
    for (uint32_t i = below(4); i > 0; --i) {
      params.stop_ids.push_back(static_cast<int32_t>(below(FakeExecutor::kVocabSize)));
    }
    params.sampling.temperature = pick({0, 0.5F, 1});
    params.sampling.top_k = below(3);
    params.sampling.top_p = pick({0.5F, 1});
    params.sampling.min_p = pick({0, 0.25F});
    params.sampling.repetition_penalty = pick({1, 1, 1.25F});
    params.sampling.presence_penalty = pick({0, 0, 0.5F});
    params.sampling.frequency_penalty = pick({0, 0, -0.25F});
    if (below(4) == 0) params.sampling.logit_bias = {{50, 2.5F}, {3, -1.0F}};
    params.sampling.seed = random_();
    return request;
  }

  // Up to `size` tokens of an earlier text, most often a late one's: all of it, or a part.
  std::vector<int32_t> beginning_of_a_text(uint32_t size) {
    auto source = requests_.rbegin();
    std::advance(source, below(static_cast<uint32_t>(std::min<size_t>(requests_.size(), 12))));
    std::vector<int32_t> text = source->second.prompt;
    const auto& output = harness_.transcripts[source->first].tokens;
    if (below(2) == 0) text.insert(text.end(), output.begin(), output.end());
    text.resize(std::min(text.size(), size_t{size}));
    if (below(3) == 0) text.resize(below(static_cast<uint32_t>(text.size()) + 1));
    return text;
  }

  void start() {
    Request request = random_request();
    if (options_.drafter.kind == DrafterKind::kReplay) {
      request.params.expected_output =
          expected_transcript(request.prompt, request.params, options_.max_context).tokens;
    }
    const auto id = harness_.engine->start(request.prompt, request.params);
    if (!id) {
      EXPECT_EQ(id.error().code, ErrorCode::kOutOfMemory) << id.error().message;
      ++num_refused_;
      return;
    }
    EXPECT_TRUE(requests_.emplace(*id, std::move(request)).second) << "an id came twice";
    active_.push_back(*id);
  }

  void fork() {
    if (active_.empty()) return;
    const SessionId source = active_[below(static_cast<uint32_t>(active_.size()))];
    Request request = requests_.at(source);
    request.params.sampling.seed = random_();
    const auto id = harness_.engine->fork(source, request.params.sampling.seed);
    if (!id) {
      EXPECT_EQ(id.error().code, ErrorCode::kOutOfMemory) << id.error().message;
      return;
    }
    ++num_forks_;
    EXPECT_TRUE(requests_.emplace(*id, std::move(request)).second) << "an id came twice";
    active_.push_back(*id);
  }

  void cancel() {
    if (active_.empty()) return;
    const size_t index = below(static_cast<uint32_t>(active_.size()));
    harness_.engine->cancel(active_[index]);
    cancelled_.insert(active_[index]);
    active_.erase(active_.begin() + static_cast<ptrdiff_t>(index));
  }

  void forget_finished() {
    std::erase_if(active_, [&](SessionId id) { return harness_.transcripts[id].finished; });
  }

  void check(SessionId id, const Request& request) {
    const Transcript& got = harness_.transcripts[id];
    const Transcript whole =
        expected_transcript(request.prompt, request.params, options_.max_context);
    if (got == whole) {
      if (whole.finished == FinishReason::kStop) ++num_stopped_;
      return;
    }
    ++num_cut_short_;
    EXPECT_TRUE(cancelled_.contains(id)) << "session " << id;
    EXPECT_FALSE(got.finished);
    ASSERT_LE(got.tokens.size(), whole.tokens.size());
    EXPECT_TRUE(std::equal(got.tokens.begin(), got.tokens.end(), whole.tokens.begin()))
        << "session " << id;
  }

  HarnessOptions options_;
  Harness harness_;
  std::mt19937_64 random_;
  std::map<SessionId, Request> requests_;
  std::vector<SessionId> active_;
  std::set<SessionId> cancelled_;
  std::set<SessionId> took_over_;
  size_t num_forks_ = 0;
  size_t num_refused_ = 0;
  size_t num_cut_short_ = 0;
  size_t num_stopped_ = 0;
};

TEST(Interleaving, WithRoomForAll) {
  Interleaving interleaving({.max_sessions = 6, .num_kv_pages = 6 * 16}, 1);
  interleaving.run(test::scaled(10'000));
  EXPECT_GT(interleaving.num_sessions(), test::at_least(500u));
  EXPECT_GT(interleaving.num_stopped(), test::at_least(50u));
}

TEST(Interleaving, WithTooFewPagesAndColumns) {
  Interleaving interleaving(
      {.decode_width = 2, .prefill_width = 5, .max_sessions = 9, .num_kv_pages = 33}, 2);
  interleaving.run(test::scaled(10'000));
  EXPECT_GT(interleaving.num_refused(), test::at_least(100u));
  EXPECT_GT(interleaving.num_preemptions(), test::at_least(100u));
}

// Columns and pages for every block.
HarnessOptions roomy(const DrafterOptions& drafter) {
  return {.decode_width = 16,
          .max_sessions = 6,
          .num_kv_pages = 6 * 16,
          .drafter = drafter,
          .block_size = 6};
}

// Too few columns and pages.
HarnessOptions cramped(const DrafterOptions& drafter) {
  return {.decode_width = 5,
          .prefill_width = 5,
          .max_sessions = 9,
          .num_kv_pages = 33,
          .drafter = drafter,
          .block_size = 5};
}

void run_roomy(const DrafterOptions& drafter, uint32_t seed, size_t least_forks) {
  Interleaving interleaving(roomy(drafter), seed);
  interleaving.run(test::scaled(10'000));
  EXPECT_GT(interleaving.num_sessions(), test::at_least(500u));
  EXPECT_GT(interleaving.num_forks(), test::at_least(least_forks));
  EXPECT_GT(interleaving.num_stopped(), test::at_least(50u));
}

void run_cramped(const DrafterOptions& drafter, uint32_t seed) {
  Interleaving interleaving(cramped(drafter), seed);
  interleaving.run(test::scaled(10'000));
  EXPECT_GT(interleaving.num_forks(), test::at_least(100u));
  EXPECT_GT(interleaving.num_preemptions(), test::at_least(100u));
}

TEST(Interleaving, WithDraftsThatAreRightAndWrong) {
  run_roomy({DrafterKind::kReplay, 4}, 4, 200);
}

TEST(Interleaving, WithDraftsAndTooFewPagesAndColumns) {
  run_cramped({DrafterKind::kRandom, 1}, 5);
}

TEST(Interleaving, WithAProgramThatDrafts) {
  run_roomy({DrafterKind::kDflash, 1}, 6, 100);
}

TEST(Interleaving, WithAProgramThatDraftsAndTooFewPagesAndColumns) {
  run_cramped({DrafterKind::kDflash, 1}, 7);
}

TEST(Interleaving, WithMtpHeads) {
  run_roomy({DrafterKind::kMtp, 1}, 8, 100);
}

TEST(Interleaving, WithMtpHeadsAndTooFewPagesAndColumns) {
  run_cramped({DrafterKind::kMtp, 1}, 9);
}

TEST(Interleaving, WithoutPagedCache) {
  Interleaving interleaving({.page_positions = 0, .max_sessions = 3, .num_kv_pages = 0}, 3);
  interleaving.run(test::scaled(3000));
  EXPECT_GT(interleaving.num_sessions(), test::at_least(100u));
}

void run_with_prefixes(HarnessOptions options, uint32_t num_prefixes, uint32_t seed) {
  options.num_cached_prefixes = num_prefixes;
  Interleaving interleaving(options, seed);
  interleaving.run(test::scaled(10'000));
  EXPECT_GT(interleaving.num_taken_over(), test::at_least(60u));
}

TEST(Interleaving, WithPrefixes) {
  for (const DrafterKind kind : {DrafterKind::kNone, DrafterKind::kRandom, DrafterKind::kReplay,
                                 DrafterKind::kDflash, DrafterKind::kMtp}) {
    run_with_prefixes(roomy({kind, 1}), 6, 20);
  }
}

TEST(Interleaving, WithPrefixesAndTooFewPagesAndColumns) {
  for (const DrafterKind kind :
       {DrafterKind::kNone, DrafterKind::kRandom, DrafterKind::kDflash, DrafterKind::kMtp}) {
    HarnessOptions options = cramped({kind, 1});
    options.max_sessions = 4;
    run_with_prefixes(options, 1, 30);
    run_with_prefixes(options, 12, 31);
  }
}

TEST(Interleaving, WithPrefixesInRingsAlone) {
  run_with_prefixes({.page_positions = 0, .max_sessions = 3, .num_kv_pages = 0}, 4, 40);
}

TEST(Interleaving, EqualsASessionThatRunsAlone) {
  const auto transcript_of = [](uint32_t num_others) {
    Harness harness({.max_sessions = 8, .num_kv_pages = 128});
    GenerationParams params;
    params.sampling.repetition_penalty = 1.5F;
    params.sampling.seed = 77;
    for (uint32_t i = 0; i < num_others; ++i) {
      EXPECT_TRUE(harness.engine->start(std::vector<int32_t>(3 + i, 8), {}));
    }
    const SessionId id = harness.engine->start(std::vector<int32_t>(20, 4), params).value();
    EXPECT_TRUE(harness.run_until_idle());
    return harness.transcripts[id];
  };
  EXPECT_EQ(transcript_of(0).tokens.size(), 44u);
  EXPECT_EQ(transcript_of(0), transcript_of(7));
}

}  // namespace
}  // namespace ultraspeed::engine
