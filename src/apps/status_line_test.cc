#include "apps/status_line.h"

#include <gtest/gtest.h>

#include <string>

namespace ultraspeed::apps {
namespace {

class StatusLineTest : public testing::Test {
 protected:
  Terminal terminal_{
      .is_terminal = true, .has_escapes = true, .use_color = true, .columns = 20, .rows = 24};
  std::string written_;
  StatusLine line_{[this] { return terminal_; },
                   [this](std::string_view text) { written_ += text; }};

  std::string take() { return std::exchange(written_, {}); }
};

TEST_F(StatusLineTest, ReservesTheLastRowOnceAndDrawsThere) {
  line_.show("one");
  const std::string first = take();
  EXPECT_NE(first.find("\033[1;23r"), std::string::npos);  // text scrolls in rows 1 to 23
  EXPECT_TRUE(first.ends_with("\0337\033[24;1H\033[2Kone\0338"));
  line_.show("two");
  EXPECT_EQ(take(), "\0337\033[24;1H\033[2Ktwo\0338");
  line_.release();
  EXPECT_EQ(take(), "\0337\033[r\033[24;1H\033[2K\0338");
  line_.release();
  EXPECT_EQ(take(), "");
}

TEST_F(StatusLineTest, CutsWhatWouldWrap) {
  line_.show("123456789012345678901234567890");
  EXPECT_NE(take().find("1234567890123456789\0338"), std::string::npos);
}

TEST_F(StatusLineTest, FollowsTheWindow) {
  line_.show("one");
  take();
  terminal_.rows = 40;
  line_.show("two");
  const std::string moved = take();
  EXPECT_NE(moved.find("\033[r\033[24;1H\033[2K"), std::string::npos);  // gives the old row back
  EXPECT_NE(moved.find("\033[1;39r"), std::string::npos);
  terminal_.rows = 3;  // too small
  line_.show("three");
  EXPECT_EQ(take(), "\0337\033[r\033[40;1H\033[2K\0338");
}

TEST_F(StatusLineTest, IsSilentWithoutEscapes) {
  terminal_.has_escapes = false;
  line_.show("one");
  line_.release();
  EXPECT_EQ(take(), "");
}

}  // namespace
}  // namespace ultraspeed::apps
