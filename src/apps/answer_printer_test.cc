#include "apps/answer_printer.h"

#include <gtest/gtest.h>

#include <string>

namespace ultraspeed::apps {
namespace {

std::string shown(const Terminal& terminal, std::string_view reasoning, std::string_view content) {
  std::string text;
  AnswerPrinter printer(terminal, [&text](std::string_view piece) {
    text += piece;
    return Status();
  });
  for (const char c : reasoning) EXPECT_TRUE(printer.show_reasoning({&c, 1}));
  for (const char c : content) EXPECT_TRUE(printer.show_content({&c, 1}));
  EXPECT_TRUE(printer.end_line());
  EXPECT_TRUE(printer.end_line());
  return text;
}

TEST(AnswerPrinter, ReasoningIsDimmedOrElseLeftOut) {
  const Terminal pipe;
  EXPECT_EQ(shown(pipe, "think", "say"), "say\n");
  const Terminal plain{.is_terminal = true};
  EXPECT_EQ(shown(plain, "think", "say"), "think\nsay\n");
  const Terminal colored{.is_terminal = true, .has_escapes = true, .use_color = true};
  EXPECT_EQ(shown(colored, "ab", "say"), "\033[2ma\033[0m\033[2mb\033[0m\nsay\n");
}

TEST(AnswerPrinter, BreaksNoLineTwice) {
  const Terminal plain{.is_terminal = true};
  EXPECT_EQ(shown(plain, "think\n", "say\n"), "think\nsay\n");
  EXPECT_EQ(shown(plain, "think", "\n\nsay"), "think\n\nsay\n");
  EXPECT_EQ(shown(plain, "think", ""), "think\n");
  EXPECT_EQ(shown(plain, "", ""), "");
}

TEST(AnswerPrinter, PassesWriteErrorsOn) {
  AnswerPrinter printer(
      {}, [](std::string_view) -> Status { return make_error(ErrorCode::kIo, "full"); });
  EXPECT_FALSE(printer.show_content("x"));
}

}  // namespace
}  // namespace ultraspeed::apps
