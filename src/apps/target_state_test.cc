// Which layers a drafter taps where nobody chose.
#include "apps/target_state.h"

#include <gtest/gtest.h>

namespace ultraspeed::apps {
namespace {

using Layers = std::vector<uint32_t>;

TEST(DefaultTaps, AreThoseOfPublishedDrafters) {
  EXPECT_EQ(default_taps(1), Layers{0});
  EXPECT_EQ(default_taps(2), Layers{1});
  EXPECT_EQ(default_taps(4), Layers{2});
  EXPECT_EQ(default_taps(5), (Layers{1, 2}));
  EXPECT_EQ(default_taps(8), (Layers{1, 3, 5}));
  EXPECT_EQ(default_taps(9), (Layers{1, 2, 4, 5, 6}));
  EXPECT_EQ(default_taps(36), (Layers{1, 9, 17, 25, 33}));
  EXPECT_EQ(default_taps(64), (Layers{1, 16, 31, 46, 61}));
}

}  // namespace
}  // namespace ultraspeed::apps
