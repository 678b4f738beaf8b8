#include "base/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace ultraspeed {
namespace {

// Collects what a Progress writes; time stands still unless the test moves it.
class ProgressTest : public testing::Test {
 protected:
  ProgressOptions options(bool is_terminal) {
    ProgressOptions options;
    options.label = "Loading";
    options.is_terminal = is_terminal;
    options.write = [this](std::string_view text) { writes_.emplace_back(text); };
    options.now_s = [this] { return now_s_; };
    return options;
  }

  std::vector<std::string> writes_;
  double now_s_ = 1000;
};

TEST_F(ProgressTest, LinesElsewhereAreAtMostFour) {
  Progress progress(options(false));
  for (int i = 1; i <= 1000; ++i) {
    now_s_ += 0.125;  // exact, so that the times left are
    progress.update(static_cast<uint64_t>(i) * 1'000'000, 1'000'000'000);
  }
  progress.finish();
  ASSERT_EQ(writes_.size(), 4u);
  EXPECT_EQ(writes_[0], "Loading: 250 MB of 1.00 GB, 8.00 MB/s, 1 min 34 s left\n");
  EXPECT_EQ(writes_[2], "Loading: 750 MB of 1.00 GB, 8.00 MB/s, 32 s left\n");
  EXPECT_EQ(writes_[3], "Loading: 1.00 GB in 125.00 s (8.00 MB/s)\n");
}

TEST_F(ProgressTest, AQuickLoadPrintsItsSummaryAlone) {
  Progress progress(options(false));
  for (uint64_t i = 1; i <= 100; ++i) {
    now_s_ += 0.001;
    progress.update(i * 462'000, 46'200'000);
  }
  progress.finish();
  ASSERT_EQ(writes_.size(), 1u);
  EXPECT_EQ(writes_[0], "Loading: 46.2 MB in 0.10 s (462 MB/s)\n");
}

TEST_F(ProgressTest, BarIsRedrawnInPlaceTenTimesASecond) {
  Progress progress(options(true));
  for (uint64_t i = 1; i <= 1000; ++i) {
    now_s_ += 0.001;
    progress.update(i * 1000, 1'000'000);
  }
  EXPECT_GE(writes_.size(), 9u);
  EXPECT_LE(writes_.size(), 11u);
  for (const std::string& text : writes_) {
    EXPECT_TRUE(text.starts_with("\r\033[KLoading [")) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_LE(text.size(), 80u + 4);  // the escape sequence takes no columns
  }
  progress.finish();
  EXPECT_EQ(writes_.back(), "\r\033[KLoading: 1.00 MB in 1.00 s (1.00 MB/s)\n");
}

TEST_F(ProgressTest, BarShowsShareRateAndTimeLeft) {
  ProgressOptions wide = options(true);
  wide.terminal_columns = 200;
  Progress progress(wide);
  now_s_ += 2;
  progress.update(500'000, 1'000'000);
  EXPECT_EQ(writes_.back(),
            "\r\033[KLoading [###############...............]  50%  500 kB of 1.00 MB, 250 kB/s, "
            "2 s left");
}

TEST_F(ProgressTest, CountsWhatTheCallerSays) {
  ProgressOptions texts = options(false);
  texts.format_amount = [](double amount) {
    return std::to_string(std::lround(amount)) + " texts";
  };
  texts.note = [] { return std::string(", all short"); };
  Progress progress(texts);
  now_s_ += 4;
  progress.update(20, 40);
  EXPECT_EQ(writes_.back(), "Loading: 20 texts of 40 texts, 5 texts/s, 4 s left, all short\n");
  progress.update(40, 40);
  progress.finish();
  EXPECT_EQ(writes_.back(), "Loading: 40 texts in 4.00 s (10 texts/s), all short\n");
}

TEST_F(ProgressTest, ColorOnlyWhenAsked) {
  ProgressOptions colored = options(true);
  colored.use_color = true;
  Progress progress(colored);
  progress.update(1, 2);
  EXPECT_NE(writes_.back().find("\033[32m"), std::string::npos);
}

TEST_F(ProgressTest, NarrowTerminalHasNoBar) {
  ProgressOptions narrow = options(true);
  narrow.terminal_columns = 40;
  Progress progress(narrow);
  now_s_ += 1;
  progress.update(1, 2);
  EXPECT_EQ(writes_.back().find('['), writes_.back().find("[K"));
  EXPECT_EQ(std::count(writes_.back().begin(), writes_.back().end(), '['), 1);
}

TEST_F(ProgressTest, AnUnfinishedBarIsWiped) {
  {
    Progress progress(options(true));
    progress.update(1, 2);
  }
  EXPECT_EQ(writes_.back(), "\r\033[K");
}

TEST_F(ProgressTest, NothingToLoadIsNoDivisionByZero) {
  Progress progress(options(true));
  progress.update(0, 0);
  EXPECT_TRUE(writes_.empty());
  progress.finish();
  EXPECT_EQ(writes_.back(), "Loading: 0 B in 0.00 s\n");
}

TEST(FormatBytes, KeepsThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(46'242'304), "46.2 MB");
  EXPECT_EQ(format_bytes(999'700), "1.00 MB");
  EXPECT_EQ(format_bytes(9'997), "10.0 kB");
  EXPECT_EQ(format_bytes(99'960), "100 kB");
  EXPECT_EQ(format_bytes(1.03e12), "1.03 TB");
}

TEST(FormatDuration, RoundsUp) {
  EXPECT_EQ(format_duration(0), "0 s");
  EXPECT_EQ(format_duration(0.2), "1 s");
  EXPECT_EQ(format_duration(59.5), "1 min 0 s");
  EXPECT_EQ(format_duration(3600), "1 h 0 min");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "a long time");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::quiet_NaN()), "a long time");
}

}  // namespace
}  // namespace ultraspeed
