// A grammar as a constraint: what it allows, proposes and takes back, and when it begins.
#include "server/grammar_constraint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

using Kind = GrammarSource::Kind;

constexpr size_t kVocabSize = 12288;

class GrammarConstraintTest : public testing::Test {
 protected:
  GrammarConstraint constraint(Kind kind, const std::string& text,
                               Thinking thinking = Thinking::kNone) {
    auto grammar = cache_.get({kind, text, ""});
    EXPECT_TRUE(grammar) << grammar.error().message;
    return GrammarConstraint(*grammar, test_tokenizer(), thinking);
  }

  GrammarCache cache_{test_tokenizer(), std::vector<int32_t>{kTestStopId}};
};

std::vector<int32_t> allowed(engine::TokenConstraint& constraint,
                             const std::vector<int32_t>& drafts = {}) {
  std::vector<uint64_t> words(kVocabSize / 64 + 1, ~uint64_t{0});  // a row of padding, too
  constraint.mask(drafts, words);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < words.size() * 64; ++id) {
    if ((words[id / 64] >> id % 64 & 1) != 0) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

bool allows(engine::TokenConstraint& constraint, std::string_view text) {
  const std::vector<int32_t> ids = test_ids(text);
  EXPECT_EQ(ids.size(), 1u) << text;
  const auto all = allowed(constraint);
  return std::ranges::count(all, ids.front()) != 0;
}

void advance(engine::TokenConstraint& constraint, std::string_view text) {
  for (const int32_t id : test_ids(text)) constraint.advance(id);
}

const std::vector<int32_t> kStopAlone = {kTestStopId};

TEST(HarmonyConstraintTest, TheGrammarIsThatOfTheFinalMessage) {
  const text::Tokenizer& tokenizer = harmony_tokenizer();
  const int32_t stop = *tokenizer.find_token(kHarmonyReturn);
  GrammarCache cache(tokenizer, std::vector<int32_t>{stop}, ToolSyntax::kHarmony);
  GrammarSource source{Kind::kChoice, R"(["yes"])", ""};
  source.has_channels = true;
  auto grammar = cache.get(source);
  ASSERT_TRUE(grammar) << grammar.error().message;
  GrammarConstraint constraint(*grammar, tokenizer, Thinking::kNone);
  const auto allows_id = [&constraint](int32_t id) {
    return std::ranges::count(allowed(constraint), id) != 0;
  };
  EXPECT_TRUE(allows_id(*tokenizer.find_token(kHarmonyChannel)));
  EXPECT_FALSE(allows_id(*tokenizer.find_token(kHarmonyStart)));
  const auto answer = tokenizer.encode(
      "<|channel|>analysis<|message|>Hm, <b>.<|end|><|start|>assistant"
      "<|channel|>final<|message|>yes");
  ASSERT_TRUE(answer);
  for (const int32_t id : *answer) {
    EXPECT_TRUE(allows_id(id)) << tokenizer.token_bytes(id);
    EXPECT_FALSE(allows_id(stop));
    constraint.advance(id);
  }
  EXPECT_EQ(allowed(constraint), std::vector<int32_t>{stop});
}

TEST_F(GrammarConstraintTest, AllowsTheGrammarsTokensAndThenTheStop) {
  GrammarConstraint yes_no = constraint(Kind::kChoice, R"(["yes","no"])");
  EXPECT_TRUE(allows(yes_no, "y"));
  EXPECT_FALSE(allows(yes_no, "a"));
  advance(yes_no, "yes");
  EXPECT_EQ(allowed(yes_no), kStopAlone);
  yes_no.advance(kTestStopId);
  EXPECT_TRUE(allowed(yes_no).empty());
}

// Drafts in any order, taken or not, leave what a constraint that never saw them has.
TEST_F(GrammarConstraintTest, MasksOfDraftsAreThoseOfTheTextWithThem) {
  std::mt19937 random(1);
  for (const Thinking thinking : {Thinking::kNone, Thinking::kMay, Thinking::kOpen}) {
    GrammarConstraint drafting = constraint(Kind::kJsonObject, "", thinking);
    auto plain = drafting.clone();
    for (int step = 0; step < 60; ++step) {
      std::vector<int32_t> drafts;
      auto ahead = plain->clone();
      const size_t num_drafts = random() % 6;
      for (size_t i = 0; i <= num_drafts; ++i) {
        const auto ids = allowed(*ahead);
        ASSERT_EQ(allowed(drafting, drafts), ids);
        if (ids.empty()) break;
        // Thoughts end soon.
        const bool ends = thinking != Thinking::kNone && random() % 4 == 0 && ids.size() > 9000;
        drafts.push_back(ends ? test_ids("</think>").front() : ids[random() % ids.size()]);
        ahead->advance(drafts.back());
      }
      const size_t num_taken = random() % (drafts.size() + 1);
      for (size_t i = 0; i < num_taken; ++i) {
        drafting.advance(drafts[i]);
        plain->advance(drafts[i]);
      }
      const auto ids = allowed(*plain);
      if (ids.empty()) break;
      const int32_t next = ids[random() % ids.size()];
      drafting.advance(next);
      plain->advance(next);
    }
  }
}

TEST_F(GrammarConstraintTest, ProposesWhatMustCome) {
  GrammarConstraint record = constraint(
      Kind::kJsonSchema, R"({"type":"object","properties":{"temperature":{"enum":["warm","cold"]}},
                             "required":["temperature"]})");
  std::vector<int32_t> drafts;
  advance(record, "{\"");
  record.propose(7, &drafts);
  EXPECT_EQ(drafts, test_ids("temperature\""));
  for (size_t i = 0; i < drafts.size(); ++i) {
    const auto ids =
        allowed(record, std::vector(drafts.begin(), drafts.begin() + static_cast<ptrdiff_t>(i)));
    EXPECT_EQ(std::ranges::count(ids, drafts[i]), 1);
  }
  ASSERT_GT(drafts.size(), 1u);
  std::vector<int32_t> few;
  record.propose(1, &few);
  EXPECT_EQ(few, std::vector(drafts.begin(), drafts.begin() + 1));
  advance(record, "temperature\":\"w");
  few.clear();
  record.propose(7, &few);
  EXPECT_EQ(few, test_ids("arm\""));
  advance(record, "arm\"");
  few.clear();
  record.propose(7, &few);
  EXPECT_TRUE(few.empty());  // white space or the end
}

TEST_F(GrammarConstraintTest, AThinkBlockComesBeforeTheGrammar) {
  GrammarConstraint open = constraint(Kind::kChoice, R"(["yes"])", Thinking::kOpen);
  const size_t num_all = kVocabSize + 64;
  EXPECT_EQ(allowed(open).size(), num_all - 1);  // all but the stop
  advance(open, "Is it < 5, </thin");
  EXPECT_EQ(allowed(open).size(), num_all - 1);
  std::vector<int32_t> drafts;
  open.propose(4, &drafts);
  EXPECT_TRUE(drafts.empty());
  auto spelled = open.clone();
  advance(open, "? </think>");
  EXPECT_FALSE(allows(open, "a"));
  open.propose(4, &drafts);
  EXPECT_EQ(drafts, test_ids("yes"));
  // The same in other tokens.
  advance(*spelled, "k");
  advance(*spelled, ">");
  EXPECT_EQ(allowed(*spelled), allowed(open));
}

TEST_F(GrammarConstraintTest, AThinkBlockThatMayCome) {
  GrammarConstraint may = constraint(Kind::kChoice, R"(["yes"])", Thinking::kMay);
  EXPECT_TRUE(allows(may, "<think>"));
  EXPECT_TRUE(allows(may, "y"));
  EXPECT_FALSE(allows(may, "a"));
  auto direct = may.clone();
  advance(may, "<think>");
  EXPECT_TRUE(allows(may, "a"));
  advance(may, "abc</think>");
  EXPECT_FALSE(allows(may, "<think>"));
  advance(may, "yes");
  EXPECT_EQ(allowed(may), kStopAlone);
  advance(*direct, "y");
  EXPECT_FALSE(allows(*direct, "<think>"));
  GrammarConstraint never = constraint(Kind::kChoice, R"(["yes"])");
  EXPECT_FALSE(allows(never, "<think>"));
}

}  // namespace
}  // namespace ultraspeed::server
