#include "grammar/one_of.h"

#include <gtest/gtest.h>

#include "grammar/test_support.h"

namespace ultraspeed::grammar {
namespace {

TEST(OneOf, AcceptsTheTextsAndNothingElse) {
  const std::vector<std::string> texts = {"yes", "no", "not [a-z]+", "\"\\", "é", "no"};
  const Grammar grammar = value_or_fail(one_of(texts));
  for (const std::string& text : texts) EXPECT_TRUE(matches(grammar, text)) << text;
  for (const char* text : {"", "n", "yesno", "not abc", "\xC3"}) {
    EXPECT_FALSE(matches(grammar, text)) << text;
  }
  EXPECT_TRUE(matches(value_or_fail(one_of(std::vector<std::string>{"", "a"})), ""));
}

TEST(OneOf, RefusesNoneAndTooMany) {
  EXPECT_EQ(one_of({}).error().code, ErrorCode::kInvalidArgument);
  const std::vector<std::string> large = {std::string(300 << 10, 'a')};
  EXPECT_EQ(one_of(large).error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(one_of(std::vector<std::string>(70'000, "a")).error().code, ErrorCode::kOutOfMemory);
}

}  // namespace
}  // namespace ultraspeed::grammar
