#include "apps/text_loops.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace ultraspeed::apps {
namespace {

// Some tokens that do not repeat, then `count` with a period.
std::vector<int32_t> text_of(size_t period, size_t count) {
  std::vector<int32_t> text(30);
  std::iota(text.begin(), text.end(), 1000);
  for (size_t i = 0; i < count; ++i) text.push_back(static_cast<int32_t>(i % period));
  return text;
}

TEST(TextLoops, AreThreePeriodsOrMoreAtTheEnd) {
  EXPECT_TRUE(ends_in_loop(text_of(1, 24)));
  EXPECT_FALSE(ends_in_loop(text_of(1, 23)));
  EXPECT_TRUE(ends_in_loop(text_of(8, 24)));
  EXPECT_TRUE(ends_in_loop(text_of(9, 27)));
  EXPECT_FALSE(ends_in_loop(text_of(9, 26)));
  EXPECT_TRUE(ends_in_loop(text_of(64, 192)));
  EXPECT_FALSE(ends_in_loop(text_of(65, 400)));
  EXPECT_FALSE(ends_in_loop({}));
}

TEST(TextLoops, CountAtTheEndAlone) {
  std::vector<int32_t> text = text_of(5, 60);
  EXPECT_TRUE(ends_in_loop(text));
  text.push_back(7);
  EXPECT_FALSE(ends_in_loop(text));
}

}  // namespace
}  // namespace ultraspeed::apps
