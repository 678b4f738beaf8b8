// A model folder with a DFlash drafter or with MTP layers, as they are published, used by every
// command that decodes.
#include <gtest/gtest.h>

#include <filesystem>

#include "e2e/cli.h"
#include "support/mtp_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The bundled model with a drafter of random weights in its folder dflash/.
class DrafterFolder : public testing::Test {
 protected:
  void SetUp() override {
    link_model_without_drafter(model_);
    fs::create_directory(model_ + "/dflash");
    write_tiny_drafter(model_ + "/dflash");
  }

  json run(std::vector<std::string> flags) const {
    flags.insert(flags.begin(), {"run", "--prompt", "#include <", "--ignore-eos", "-n", "20"});
    flags.insert(flags.end(), {"--greedy", "--model", model_});
    return run_cli_json(std::move(flags));
  }

  const TemporaryDirectory directory_;
  const std::string model_ = directory_.path();
};

TEST_F(DrafterFolder, IsTheDefaultAndChangesNoText) {
  const json without = run({"--drafter", "none"});
  const json own = run({});
  EXPECT_EQ(own["ids"], without["ids"]);
  EXPECT_EQ(own["speculation"]["drafter"], "dflash");
  EXPECT_EQ(own["speculation"]["per_position"].size(), 5u);
  const json named = run({"--drafter", model_ + "/dflash", "--block", "3", "--threads", "1"});
  EXPECT_EQ(named["ids"], without["ids"]);
  EXPECT_EQ(named["speculation"]["drafter"], model_ + "/dflash");
  EXPECT_EQ(named["speculation"]["per_position"].size(), 2u);
  EXPECT_EQ(run({"--drafter", "suffix"})["speculation"]["drafter"], "suffix");
}

TEST_F(DrafterFolder, WarnsWhenItIsOfNoUse) {
  const std::vector<std::string> arguments = {"run",      model_,         "--prompt", "#include <",
                                              "--greedy", "--ignore-eos", "-n",       "20"};
  const Finished warned = run_cli(arguments);
  EXPECT_EQ(warned.exit_code, 0);
  EXPECT_NE(warned.errors.find("ultraspeed: drafter dflash: accepted length 1."), std::string::npos)
      << warned.errors;
  auto shorter = arguments;
  shorter.back() = "10";
  EXPECT_EQ(run_cli(shorter).errors.find("ultraspeed: "), std::string::npos);
}

TEST_F(DrafterFolder, PenaltiesAreSaidToMoveDraftingToTheHost) {
  const json result = run({"--presence-penalty", "0.5"});
  EXPECT_EQ(result["speculation"]["drafter"], "suffix");
  EXPECT_EQ(result["ids"], run({"--presence-penalty", "0.5", "--drafter", "none"})["ids"]);
  const Finished said =
      run_cli({"run", model_, "--prompt", "x", "-n", "2", "--presence-penalty", "0.5"});
  EXPECT_NE(said.errors.find("ultraspeed: drafting with suffix: "), std::string::npos)
      << said.errors;
}

TEST_F(DrafterFolder, DrawsItsDraftsUnderRejection) {
  const auto run_with = [&](const char* acceptance) {
    return run_cli_json({"run", model_, "--prompt", "#include <", "--ignore-eos", "-n", "20",
                         "--temperature", "2", "--seed", "5", "--acceptance", acceptance});
  };
  const json result = run_with("rejection");
  EXPECT_EQ(result["speculation"]["drafter"], "dflash");
  EXPECT_EQ(result["ids"].size(), 20u);
  EXPECT_NE(result["ids"], run_with("keyed")["ids"]);
}

TEST_F(DrafterFolder, ChatsAlike) {
  const auto chat = [&](const char* drafter) {
    return run_cli({"chat", model_, "--greedy", "-n", "12", "--drafter", drafter},
                   "What is 2 + 3?\n")
        .output;
  };
  EXPECT_EQ(chat("dflash"), chat("none"));
}

TEST(MtpFolder, DraftsForRunChatAndBench) {
  const TinyMimoWithMtp model(2);
  const auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", model.path(), "--prompt", "#include <", "--ignore-eos",
                                 "-n", "20", "--seed", "5", "--presence-penalty", "0.5"});
    return run_cli_json(std::move(flags));
  };
  const json without = run({"--drafter", "none"});
  const json with = run({"--drafter", "mtp"});
  EXPECT_EQ(with["ids"], without["ids"]);
  EXPECT_EQ(with["speculation"]["drafter"], "mtp");
  EXPECT_EQ(with["speculation"]["per_position"].size(), 2u);
  EXPECT_EQ(run({"--drafter", "mtp", "--block", "2"})["speculation"]["per_position"].size(), 1u);
  const Finished refused =
      run_cli({"run", model.path(), "--user", "Hi", "--drafter", "mtp", "--block", "4"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.errors.find("--block 4: 2 MTP layers draft blocks of at most 3 tokens"),
            std::string::npos)
      << refused.errors;
  const Finished narrow =
      run_cli({"run", model.path(), "--user", "Hi", "--drafter", "mtp", "--prefill-width", "1"});
  EXPECT_EQ(narrow.errors,
            "ultraspeed: --prefill-width 1: expected at least 2, the MTP layers that draft\n");
  const auto chat = [&](const char* drafter) {
    return run_cli({"chat", model.path(), "--greedy", "-n", "12", "--drafter", drafter},
                   "What is 2 + 3?\n")
        .output;
  };
  EXPECT_EQ(chat("mtp"), chat("none"));
  const json bench =
      run_cli_json({"bench", "decode", model.path(), "--drafters", "none,mtp", "--block", "3",
                    "--max-tokens", "6", "--repeat", "1", "--prompts", "-"},
                   "[\"int main() {\"]");
  ASSERT_EQ(bench["results"].size(), 2u);
  EXPECT_EQ(bench["results"][1]["drafter"], "mtp");
  EXPECT_EQ(bench["results"][1]["per_position"].size(), 2u);
}

}  // namespace
}  // namespace ultraspeed::test
