// Splits and their behaviours, with the examples of the reference library's own documentation.
#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include "base/check.h"

namespace ultraspeed::text {
namespace {

using Pieces = std::vector<std::string>;

Split make_split(std::string_view pattern, SplitBehavior behavior, bool invert = false) {
  auto regex = Regex::compile(pattern);
  US_CHECK(regex.has_value(), "{}", regex.error().message);
  return {*std::move(regex), behavior, invert};
}

Pieces run(const PreTokenizer& pre_tokenizer, std::string_view text) {
  auto matchers = pre_tokenizer.make_matchers();
  const Result<Words> words = pre_tokenizer.split(text, matchers);
  US_CHECK(words.has_value(), "{}", words.error().message);
  return {words->words.begin(), words->words.end()};
}

Pieces run(std::string_view pattern, SplitBehavior behavior, std::string_view text,
           bool invert = false) {
  std::vector<Split> splits;
  splits.push_back(make_split(pattern, behavior, invert));
  return run(PreTokenizer(std::move(splits), false, 1), text);
}

TEST(PreTokenizer, Behaviors) {
  const std::string_view text = "the-final--countdown";
  EXPECT_EQ(run("-", SplitBehavior::kRemoved, text), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(run("-", SplitBehavior::kIsolated, text),
            (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(run("-", SplitBehavior::kMergedWithPrevious, text),
            (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(run("-", SplitBehavior::kMergedWithNext, text),
            (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(run("-", SplitBehavior::kContiguous, text),
            (Pieces{"the", "-", "final", "--", "countdown"}));
}

TEST(PreTokenizer, Inverted) {
  EXPECT_EQ(run("\\p{L}+", SplitBehavior::kRemoved, "a, bc!", true), (Pieces{"a", "bc"}));
  EXPECT_EQ(run("\\p{L}+", SplitBehavior::kMergedWithPrevious, "a, bc!", true),
            (Pieces{"a, ", "bc!"}));
}

TEST(PreTokenizer, DelimitersAtTheEnds) {
  EXPECT_EQ(run("-", SplitBehavior::kRemoved, "-a-"), Pieces{"a"});
  EXPECT_EQ(run("-", SplitBehavior::kMergedWithPrevious, "-a-"), (Pieces{"-", "a-"}));
  EXPECT_EQ(run("-", SplitBehavior::kMergedWithNext, "-a-"), (Pieces{"-a", "-"}));
  EXPECT_EQ(run("-", SplitBehavior::kRemoved, "--"), Pieces{});
  EXPECT_EQ(run("-", SplitBehavior::kIsolated, ""), Pieces{});
}

TEST(PreTokenizer, EmptyMatchesSeparate) {
  EXPECT_EQ(run("(?=b)", SplitBehavior::kIsolated, "abab"), (Pieces{"a", "ba", "b"}));
  EXPECT_EQ(run("x*", SplitBehavior::kRemoved, "\xC3\xA9xxa"), (Pieces{"\xC3\xA9", "a"}));
  EXPECT_EQ(run("", SplitBehavior::kIsolated, "a\xC3\xA9"), (Pieces{"a", "\xC3\xA9"}));
}

// Each piece is a subject of its own: a lookahead does not see the next piece.
TEST(PreTokenizer, SplitsRunOneAfterAnother) {
  std::vector<Split> splits;
  splits.push_back(make_split("\\p{N}", SplitBehavior::kIsolated));
  splits.push_back(make_split("\\s+(?!\\S)|\\s+", SplitBehavior::kIsolated));
  EXPECT_EQ(run(PreTokenizer(std::move(splits), false, 2), "a  1  b"),
            (Pieces{"a", "  ", "1", " ", " ", "b"}));
}

TEST(PreTokenizer, PrefixSpace) {
  const auto make = [](size_t prefix_at) {
    std::vector<Split> splits;
    splits.push_back(make_split("-", SplitBehavior::kIsolated));
    return PreTokenizer(std::move(splits), true, prefix_at);
  };
  EXPECT_EQ(run(make(0), "a-b"), (Pieces{" a", "-", "b"}));
  EXPECT_EQ(run(make(1), "a-b"), (Pieces{" a", " -", " b"}));
  EXPECT_EQ(run(make(0), " a"), Pieces{" a"});
  EXPECT_EQ(run(make(0), "\ta"), Pieces{" \ta"});
  EXPECT_EQ(run(make(0), ""), Pieces{});
}

TEST(PreTokenizer, PassesOnTheLimitsError) {
  std::vector<Split> splits;
  splits.push_back(make_split("(?:a|a)*[bc]", SplitBehavior::kIsolated));
  const PreTokenizer pre_tokenizer(std::move(splits), false, 0);
  auto matchers = pre_tokenizer.make_matchers();
  EXPECT_FALSE(pre_tokenizer.split(std::string(60, 'a'), matchers).has_value());
}

}  // namespace
}  // namespace ultraspeed::text
