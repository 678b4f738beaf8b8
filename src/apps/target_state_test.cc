// Which layers a drafter taps where nobody chose.
#include "apps/target_state.h"

#include <gtest/gtest.h>

namespace ultraspeed::apps {
namespace {

using Layers = std::vector<uint32_t>;

TEST(DefaultTaps, AreFirstLastAndEvenlyBetween) {
  EXPECT_EQ(default_taps(1), Layers{0});
  EXPECT_EQ(default_taps(2), (Layers{0, 1}));
  EXPECT_EQ(default_taps(3), (Layers{0, 1, 2}));
  EXPECT_EQ(default_taps(8), (Layers{0, 3, 7}));
  EXPECT_EQ(default_taps(9), (Layers{0, 2, 4, 6, 8}));
  EXPECT_EQ(default_taps(48), (Layers{0, 11, 23, 35, 47}));
}

}  // namespace
}  // namespace ultraspeed::apps
