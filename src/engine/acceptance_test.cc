// What rejection sampling asks of a step: who draws drafts, and what comes back to verify them.
#include <gtest/gtest.h>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

TEST(Acceptance, RejectionProposesEachDraftToTheColumnBeforeIt) {
  for (const Acceptance acceptance : {Acceptance::kKeyed, Acceptance::kRejection}) {
    Harness harness(drafting(DrafterKind::kRandom, 1, 4));
    GenerationParams params;
    params.sampling.acceptance = acceptance;
    ASSERT_TRUE(harness.engine->start(prompt_of(8), params));
    ASSERT_TRUE(harness.step());
    EXPECT_EQ(harness.executor->steps.back().columns.back().sampling.proposed_token_id, -1);
    ASSERT_TRUE(harness.step());
    const auto& columns = harness.executor->steps.back().columns;
    ASSERT_EQ(columns.size(), 4u);
    for (size_t i = 0; i < columns.size(); ++i) {
      const bool is_proposed = acceptance == Acceptance::kRejection && i + 1 < columns.size();
      EXPECT_EQ(columns[i].sampling.proposed_token_id, is_proposed ? columns[i + 1].token_id : -1);
    }
  }
}

// The host knows no drafts of a program's: it asks for drawn ones, which are no point masses.
TEST(Acceptance, RejectionHasTheProgramDrawItsDrafts) {
  for (const Acceptance acceptance : {Acceptance::kKeyed, Acceptance::kRejection}) {
    Harness harness(drafting(DrafterKind::kDflash, 1, 4));
    GenerationParams params;
    params.sampling.acceptance = acceptance;
    ASSERT_TRUE(harness.engine->start(prompt_of(8), params));
    ASSERT_TRUE(harness.step());
    ASSERT_TRUE(harness.step());
    const auto& columns = harness.executor->steps.back().columns;
    ASSERT_EQ(columns.size(), 4u);
    for (const program::Column& column : columns) {
      EXPECT_EQ(column.sampling.draws_draft, acceptance == Acceptance::kRejection);
      EXPECT_EQ(column.sampling.proposed_token_id, -1);
    }
  }
}

// The next step gets what they were drawn from with them, but for a constraint's session, whose
// block they might cut.
TEST(Acceptance, RejectionHasMtpHeadsDrawTheirProposals) {
  const AnyToken constraint;
  for (const bool is_constrained : {false, true}) {
    Harness harness(drafting(DrafterKind::kMtp, 1, 4));
    GenerationParams params;
    params.sampling.acceptance = Acceptance::kRejection;
    params.sampling.temperature = 1;
    if (is_constrained) params.sampling.constraint = &constraint;
    ASSERT_TRUE(harness.engine->start(prompt_of(8), params));
    ASSERT_TRUE(harness.step());
    ASSERT_TRUE(harness.step());
    const auto& columns = harness.executor->steps.back().columns;
    ASSERT_EQ(columns.size(), 4u);
    for (size_t i = 0; i < columns.size(); ++i) {
      const program::ColumnSampling& sampling = columns[i].sampling;
      const bool is_proposed = i + 1 < columns.size();
      EXPECT_EQ(sampling.draws_draft, !is_constrained);
      EXPECT_EQ(sampling.proposed_token_id, is_proposed ? columns[i + 1].token_id : -1);
      EXPECT_EQ(sampling.proposed_logits.size(),
                is_proposed && !is_constrained ? FakeExecutor::kVocabSize : 0);
    }
  }
}

TEST(Acceptance, ProposalsWithoutWhatTheyWereDrawnFromAreAnInternalError) {
  Harness harness(drafting(DrafterKind::kMtp, 1, 4));
  harness.executor->drops_drawn_logits = true;
  GenerationParams params;
  params.sampling.acceptance = Acceptance::kRejection;
  params.sampling.temperature = 1;
  ASSERT_TRUE(harness.engine->start(prompt_of(8), params));
  const Status status = harness.step();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_TRUE(status.error().message.starts_with("the executor gave 0 rows of logits"))
      << status.error().message;
}

}  // namespace
}  // namespace ultraspeed::engine
