// ultraspeed pull, from a hub on loopback, and the commands that then know the model by its name.
#include <gtest/gtest.h>

#include <filesystem>

#include "e2e/cli.h"
#include "hub/loopback_hub.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;

class Pull : public testing::Test {
 protected:
  // Everything that a folder holds becomes a file of the hub.
  void offer(const std::string& folder) {
    hub_.files.clear();
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      hub_.files[name] = {.content = read_text(entry.path().string()),
                          .is_lfs = name.ends_with(".safetensors")};
    }
  }

  Finished run(const std::vector<std::string>& arguments) const {
    return run_cli(arguments, "",
                   {"HF_ENDPOINT=" + hub_.url(), "HF_HUB_CACHE=" + cache_.path() + "/hub",
                    "HF_TOKEN=hf_secret", "HF_HUB_OFFLINE=0"});
  }
  Finished succeed(const std::vector<std::string>& arguments) const {
    Finished finished = run(arguments);
    EXPECT_EQ(finished.exit_code, 0) << finished.errors;
    return finished;
  }
  void expect_errors(const std::vector<std::string>& arguments, int exit_code,
                     const std::string& words) const {
    const Finished finished = run(arguments);
    EXPECT_EQ(finished.exit_code, exit_code);
    EXPECT_EQ(finished.output, "");
    EXPECT_NE(finished.errors.find(words), std::string::npos) << finished.errors;
  }

  const TemporaryDirectory cache_, source_;
  hub::LoopbackHub hub_;
};

TEST_F(Pull, AModelRunsByItsName) {
  ASSERT_TRUE(write_checkpoint(source_.path(), GeneratorOptions()));
  offer(source_.path());
  hub_.token = "hf_secret";
  const std::vector<std::string> run_it = {"run",   "--model", "org/model", "--prompt-ids",
                                           "1,2,3", "-n",      "4",         "--greedy"};
  expect_errors(run_it, 1,
                "org/model: no such folder, and not in the Hugging Face cache " + cache_.path() +
                    "/hub; 'ultraspeed pull org/model' downloads it");
  const Finished pulled = succeed({"pull", "org/model"});
  const std::string snapshot =
      cache_.path() + "/hub/models--org--model/snapshots/" + std::string(40, 'c');
  EXPECT_EQ(pulled.output, snapshot + "\n");
  EXPECT_NE(pulled.errors.find("Downloading org/model: "), std::string::npos) << pulled.errors;
  EXPECT_NE(pulled.errors.find("org/model: complete, 3 files of "), std::string::npos);
  EXPECT_NE(succeed({"pull", "org/model"}).errors.find("all there already, 3 files"),
            std::string::npos);
  std::vector<std::string> by_folder = run_it;
  by_folder[2] = source_.path();
  EXPECT_EQ(succeed(run_it).output, succeed(by_folder).output);
  EXPECT_NE(succeed({"inspect", "org/model"}).output.find("model           " + snapshot),
            std::string::npos);
}

TEST_F(Pull, ADrafterIsNamedLikeAModel) {
  write_tiny_drafter(source_.path());
  offer(source_.path());
  succeed({"pull", "org/model@main"});
  const Finished finished = succeed(
      {"run", "--drafter", "org/model", "--prompt-ids", "1,2,3", "-n", "2", "--greedy", "--json"});
  EXPECT_NE(finished.output.find("org/model"), std::string::npos) << finished.output;
}

TEST_F(Pull, AFamilyForOtherProgramsComesWithAWarning) {
  hub_.files = {{"config.json", {.content = R"({"model_type": "mamba"})"}},
                {"model.safetensors", {.content = "x", .is_lfs = true}}};
  const Finished pulled = succeed({"pull", "org/model"});
  EXPECT_NE(pulled.errors.find("; downloading it for other programs"), std::string::npos)
      << pulled.errors;
  EXPECT_NE(pulled.errors.find("complete, 2 files of 24 B"), std::string::npos) << pulled.errors;
}

TEST_F(Pull, WhatIsWrongIsOneSentence) {
  expect_errors({"pull", "model"}, 1, "'model' names no model of a hub; expected ORG/NAME");
  expect_errors({"pull", "org/model@a", "--revision", "b"}, 1, "--revision b: org/model@a names");
  expect_errors({"pull"}, 2, "MODEL is required");
  expect_errors({"pull", "org/other"}, 1, "org/other: no such repository at http://127.0.0.1");
  expect_errors({"pull", "org/model", "--revision", "v2"}, 1, "org/model@v2: no such revision");
  hub_.files = {{"x.gguf", {.content = "x"}}};
  expect_errors({"pull", "org/model"}, 1, "org/model: no config.json, but *.gguf; expected");
  hub_.files = {{"config.json", {.content = "{}"}}, {"model.safetensors", {.content = "x"}}};
  hub_.files["config.json"].content = R"({"quantization_config": {"quant_method": "awq"}})";
  expect_errors({"pull", "org/model"}, 1, "config.json: weights quantised by 'awq'");
  EXPECT_EQ(hub_.count("model.safetensors"), 0u);
  fs::remove_all(cache_.path() + "/hub");
  write_text(cache_.path(), "hub", "a file, no folder");
  expect_errors({"pull", "org/model"}, 1, "cannot create the folder");
}

}  // namespace
}  // namespace ultraspeed::test
