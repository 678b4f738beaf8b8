// ultraspeed chat, from a pipe and on a terminal.
#include <gtest/gtest.h>

#include "e2e/cli.h"

namespace ultraspeed::test {
namespace {

TEST(Chat, AnswersEachLineOfAPipe) {
  const Finished finished =
      run_cli({"chat", "--greedy"},
              "There are 212 tiles at the school. Pedro brings 179 more, and later Rosa takes 60. "
              "How many tiles are left?\n/reset\nMei has 12 pens. Omar gives Mei 30 more pens. How "
              "many pens does Mei have now?");
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  const size_t first = finished.output.find("331");
  ASSERT_NE(first, std::string::npos) << finished.output;
  EXPECT_NE(finished.output.find("42", first), std::string::npos) << finished.output;
  EXPECT_EQ(finished.output.find("<think>"), std::string::npos);
  EXPECT_EQ(finished.output.find('>'), std::string::npos);  // neither prompts nor escapes
  EXPECT_NE(finished.errors.find("tokens per second"), std::string::npos);
  EXPECT_NE(finished.errors.find("accepted length"), std::string::npos);
  EXPECT_NE(finished.errors.find("(stop)"), std::string::npos);
}

TEST(Chat, RemembersUntilReset) {
  const auto prompt_sizes = [](const std::string& input) {
    const Finished finished = run_cli({"chat", "--greedy", "-n", "4"}, input);
    std::vector<int> sizes;
    size_t at = 0;
    while ((at = finished.errors.find(" prompt tokens", at)) != std::string::npos) {
      const size_t line = finished.errors.rfind('\n', at) + 1;
      sizes.push_back(std::stoi(finished.errors.substr(line)));
      ++at;
    }
    return sizes;
  };
  const auto remembered = prompt_sizes("Hello\nHello\n");
  ASSERT_EQ(remembered.size(), 2u);
  EXPECT_GT(remembered[1], remembered[0] + 5);
  const auto reset = prompt_sizes("Hello\n/reset\nHello\n");
  ASSERT_EQ(reset.size(), 2u);
  EXPECT_EQ(reset[1], reset[0]);
}

TEST(Chat, ContextThatIsFullIsAnErrorAndTheChatGoesOn) {
  const Finished finished = run_cli({"chat", "--greedy", "-n", "2", "--context", "40"},
                                    "Hi\n" + std::string(200, 'x') + "\n/reset\nHi\n");
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_NE(finished.errors.find("/reset starts anew"), std::string::npos) << finished.errors;
  const size_t refused = finished.errors.find("/reset starts anew");
  EXPECT_NE(finished.errors.find("prompt tokens", refused), std::string::npos);
}

TEST(Chat, OnATerminalShowsLiveSpeedAndStopsOnCtrlC) {
  TerminalProcess chat({binary_path(), "chat", "--greedy", "--model", kTinyMimo, "--ignore-eos"});
  ASSERT_NE(chat.read_until("> "), "");
  chat.type("\x03");
  EXPECT_NE(chat.read_until("(Ctrl-D or /quit ends)"), "");
  ASSERT_NE(chat.read_until("> "), "");
  chat.type("Mei has 12 pens. Omar gives Mei 30 more pens. How many pens does Mei have now?\n");
  // The endless answer shows its speed on the last row of the terminal.
  EXPECT_NE(chat.read_until("\033[24;1H"), "");
  EXPECT_NE(chat.read_until("tokens per second, Ctrl-C stops"), "");
  chat.type("\x03");
  EXPECT_NE(chat.read_until("(interrupted)"), "");
  ASSERT_NE(chat.read_until("> "), "");
  chat.type("\x04");
  EXPECT_EQ(chat.wait(), 0);
}

}  // namespace
}  // namespace ultraspeed::test
