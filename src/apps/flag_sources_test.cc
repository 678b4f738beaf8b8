#include "apps/flag_sources.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

class FlagSourcesTest : public testing::Test {
 protected:
  FlagSourcesTest() {
    command.add_option("--port,--tcp-port", port)->check(CLI::Range(0, 65535));
    command.add_option("--key", keys)->allow_extra_args(false);
    CLI::App& group = *command.add_option_group("Group");
    CLI::Option* const name = group.add_option("-n,--model-name", model_name);
    group.add_flag("--fast,!--no-fast", is_fast);
    group.add_option("--file", file)->excludes(name);
    command.add_option("--model", model);
    command.add_option("DIR", model);
    name_variables(command);
  }
  ~FlagSourcesTest() override { unsetenv("ULTRASPEED_PORT"); }

  // Parses and applies; the error's message.
  std::string apply(const std::string& toml, std::vector<std::string> arguments = {}) {
    std::ofstream(path) << toml;
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants it
    command.parse(arguments);
    const Status status = apply_config_file(command, path);
    return status ? "" : status.error().message;
  }

  test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/serve.toml";
  CLI::App command{"", "serve"};
  int port = 8000;
  std::vector<std::string> keys;
  std::string model_name, file, model;
  bool is_fast = false;
};

TEST_F(FlagSourcesTest, AFileSetsFlags) {
  EXPECT_EQ(apply("# comment\nport = 81\nkey = ['a', 'b']\nmodel-name = \"it's\"\nfast = true\n"),
            "");
  EXPECT_EQ(port, 81);
  EXPECT_EQ(keys, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(model_name, "it's");
  EXPECT_TRUE(is_fast);
}

TEST_F(FlagSourcesTest, OtherNamesOfAFlagWork) {
  EXPECT_EQ(apply("tcp-port = 82\nfast = false"), "");
  EXPECT_EQ(port, 82);
  EXPECT_FALSE(is_fast);
}

TEST_F(FlagSourcesTest, NegativeFlagsTurnOff) {
  is_fast = true;
  EXPECT_EQ(apply("no-fast = true"), "");
  EXPECT_FALSE(is_fast);
}

TEST_F(FlagSourcesTest, AnEmptyListIsNoValue) {
  EXPECT_NE(apply("key = []").find("'key' has no value"), std::string::npos);
}

TEST_F(FlagSourcesTest, FlagsWinOverTheEnvironmentAndThatOverTheFile) {
  setenv("ULTRASPEED_PORT", "83", 1);
  EXPECT_EQ(apply("port = 84\nmodel-name = 'file'\nkey = 'file'", {"--key", "flag"}), "");
  EXPECT_EQ(port, 83);
  EXPECT_EQ(model_name, "file");
  EXPECT_EQ(keys, std::vector<std::string>{"flag"});
  EXPECT_EQ(apply("port = 84", {"--port", "85"}), "");
  EXPECT_EQ(port, 85);
}

TEST_F(FlagSourcesTest, AFolderOnTheCommandLineIsTheModel) {
  EXPECT_EQ(apply("model = 'file'", {"folder"}), "");
  EXPECT_EQ(model, "folder");
}

TEST_F(FlagSourcesTest, ErrorsNameFileAndLine) {
  const std::string here = path + ":";
  EXPECT_EQ(apply("port = 1\nprot = 2"),
            here + "2: 'prot' is no flag of serve; see ultraspeed serve --help");
  EXPECT_EQ(apply("help = true"), here +
                                      "1: 'help' is no flag of serve; see ultraspeed serve "
                                      "--help");
  EXPECT_EQ(apply("[server]\nport = 1"),
            here + "1: 'server' is no flag of serve; see ultraspeed serve --help");
  EXPECT_TRUE(apply("\n\nport = 99999").starts_with(here + "3: --port")) << apply("port = 99999");
  EXPECT_TRUE(apply("port = 'x'").starts_with(here + "1: "));
  EXPECT_TRUE(apply("\nport = ").starts_with(here + "2: ")) << apply("\nport = ");
  EXPECT_NE(apply("key = [['a']]").find("1: 'key' must be a string"), std::string::npos);
  EXPECT_NE(apply("port = [1, 2]").find("1: "), std::string::npos);
  EXPECT_NE(apply("file = 'f'\nmodel-name = 'n'").find("excludes"), std::string::npos);
}

TEST_F(FlagSourcesTest, EveryFlagHasAVariable) {
  EXPECT_EQ(command.get_option_no_throw("--model-name")->get_envname(), "ULTRASPEED_MODEL_NAME");
  EXPECT_EQ(command.get_option_no_throw("--help")->get_envname(), "");
}

}  // namespace
}  // namespace ultraspeed::apps
