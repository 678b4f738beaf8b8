#include "apps/completions_command.h"

#include <gtest/gtest.h>
#include <stdio.h>

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>
#include <string>

#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

class CompletionsTest : public testing::Test {
 protected:
  CompletionsTest() {
    CLI::App& serve = *app.add_subcommand("serve", "Serves");
    CLI::App& group = *serve.add_option_group("Server");
    group.add_option("-p,--port,--tcp-port", port, "It's the \\ port")->envname("X_PORT");
    group.add_option("--hidden", port)->group("");
    app.add_subcommand("bench", "Benches")->add_subcommand("decode", "Decodes")->add_flag("--fast");
  }

  // What the script's function says may follow `words`.
  std::string words_after(const std::string& words) {
    const test::TemporaryDirectory directory;
    const std::string file = directory.path() + "/completions";
    std::ofstream(file) << completion_script(app, "bash");
    const std::string command = "bash -c '. " + file + "; _ultraspeed_words " + words + "'";
    FILE* const pipe = popen(command.c_str(), "r");
    std::array<char, 1000> line = {};
    const bool has_line = fgets(line.data(), line.size(), pipe) != nullptr;
    pclose(pipe);
    return has_line ? line.data() : "";
  }

  CLI::App app{"Does things.", "ultraspeed"};
  int port = 0;
};

TEST_F(CompletionsTest, BashKnowsCommandsAndTheirFlags) {
  EXPECT_EQ(words_after(""), "serve bench --help\n");
  EXPECT_EQ(words_after("serve"), "--help --port --tcp-port\n");
  EXPECT_EQ(words_after("serve --port 5 bench"), "--help --port --tcp-port\n");
  EXPECT_EQ(words_after("bench"), "decode --help\n");
  EXPECT_EQ(words_after("bench decode x"), "--help --fast\n");
}

TEST_F(CompletionsTest, OtherShellsHaveTheSameWords) {
  EXPECT_NE(completion_script(app, "zsh").find("\"serve\") echo '--help --port --tcp-port' ;;"),
            std::string::npos);
  const std::string fish = completion_script(app, "fish");
  EXPECT_NE(fish.find("\"__ultraspeed_at 'serve'\" -l port -d 'It\\'s the \\\\ port'\n"),
            std::string::npos)
      << fish;
  EXPECT_NE(fish.find("\"__ultraspeed_at 'bench'\" -f -a decode -d 'Decodes'\n"),
            std::string::npos);
}

TEST_F(CompletionsTest, TheManualHasEveryFlag) {
  const std::string page = man_page(app);
  for (const char* part : {"\\fB\\&\\-p,\\-\\-port,\\-\\-tcp\\-port\\fR", "It's the \\e port",
                           "Variable: \\&X_PORT.", ".SH ultraspeed \\&bench decode", "fast"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << " in " << page;
  }
}

}  // namespace
}  // namespace ultraspeed::apps
