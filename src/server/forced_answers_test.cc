// Answers that are written beforehand: which one a prompt gets, what it allows, and what is wrong
// with a file of them.
#include "server/forced_answers.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

constexpr size_t kMaskWords = 12288 / 64;

Result<ForcedAnswers> parse_forced(std::string_view lines) {
  return ForcedAnswers::parse(lines, "script.jsonl", test_tokenizer(), kTestStopId);
}

std::vector<int32_t> forced_ids(const engine::TokenConstraint& constraint,
                                const std::vector<int32_t>& drafts = {}) {
  std::vector<uint64_t> words(kMaskWords, ~uint64_t{0});
  constraint.clone()->mask(drafts, words);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < words.size() * 64; ++id) {
    if ((words[id / 64] >> id % 64 & 1) != 0) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

// What it leaves, token by token.
std::vector<int32_t> all_forced(const engine::TokenConstraint& constraint) {
  const auto state = constraint.clone();
  std::vector<int32_t> ids;
  for (std::vector<int32_t> next; !(next = forced_ids(*state)).empty();) {
    EXPECT_EQ(next.size(), 1u);
    ids.push_back(next.front());
    state->advance(next.front());
  }
  return ids;
}

std::vector<int32_t> ids_and_stop(std::string_view text) {
  std::vector<int32_t> ids = test_ids(text);
  ids.push_back(kTestStopId);
  return ids;
}

TEST(ForcedAnswersTest, GivesTheFirstAnswerThatFitsThePrompt) {
  const auto answers = parse_forced(
      "{\"when\":\"<tool_response>\\nok\",\"text\":\"<think>Done.</think>All is well.\"}\n\n"
      "{\"when\":\"write\",\"text\":\"<tool_call>\\n<function=write>\\n</function>\"}\r\n"
      "{\"text\":\"\"}");
  ASSERT_TRUE(answers) << answers.error().message;
  const auto said = [&](std::string_view prompt) {
    return all_forced(*answers->find(test_ids(prompt)));
  };
  EXPECT_EQ(said("write <tool_response>\nok"), ids_and_stop("<think>Done.</think>All is well."));
  EXPECT_EQ(said("Please write."), ids_and_stop("<tool_call>\n<function=write>\n</function>"));
  EXPECT_EQ(said("A title?"), ids_and_stop(""));
}

TEST(ForcedAnswersTest, LeavesOtherPromptsToTheModel) {
  const auto answers = parse_forced(R"({"when":"write","text":"x"})");
  ASSERT_TRUE(answers) << answers.error().message;
  EXPECT_EQ(answers->find(test_ids("read")), nullptr);
}

TEST(ForcedAnswersTest, AllowsBehindDraftsWhatFollowsThem) {
  const auto answers = parse_forced(R"({"text":"one two three four five six seven eight nine"})");
  ASSERT_TRUE(answers) << answers.error().message;
  const std::vector<int32_t> expected =
      ids_and_stop("one two three four five six seven eight nine");
  const auto state = answers->find(test_ids("Count"))->clone();
  for (size_t i = 0; i < expected.size(); ++i) {
    std::vector<int32_t> drafts;
    state->propose(7, &drafts);
    EXPECT_LE(drafts.size(), std::min<size_t>(7, expected.size() - i));
    for (size_t j = 0; j < drafts.size(); ++j) {
      EXPECT_EQ(drafts[j], expected[i + j]);
      const std::vector<int32_t> before(drafts.begin(), drafts.begin() + static_cast<ptrdiff_t>(j));
      EXPECT_EQ(forced_ids(*state, before), std::vector{expected[i + j]});
    }
    state->advance(expected[i]);
  }
  std::vector<int32_t> drafts;
  state->propose(7, &drafts);
  EXPECT_TRUE(drafts.empty());
  EXPECT_TRUE(forced_ids(*state).empty());
}

TEST(ForcedAnswersTest, SaysWhichLineIsWrong) {
  const auto expect_error = [](std::string_view lines, std::string_view message) {
    const auto answers = parse_forced(lines);
    ASSERT_FALSE(answers) << lines;
    EXPECT_EQ(answers.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(answers.error().message.find(message), std::string::npos) << answers.error().message;
  };
  expect_error("", "script.jsonl: empty");
  expect_error("{\"text\":\"a\"}\n{\"text\":", "script.jsonl:2: ");
  expect_error("\n[\"a\"]", "script.jsonl:2: expected an object");
  expect_error(R"({"when":"a"})", "script.jsonl:1: 'text' is missing");
  expect_error(R"({"text":7})", "script.jsonl:1: ");
}

}  // namespace
}  // namespace ultraspeed::server
