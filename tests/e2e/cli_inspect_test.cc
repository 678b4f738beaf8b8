// ultraspeed inspect: what it prints; and the flags of plan.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "e2e/cli.h"
#include "support/checkpoint_generator.h"
#include "support/reference_folder.h"

namespace ultraspeed::test {
namespace {

std::string output_of(const std::vector<std::string>& arguments) {
  const Finished finished = run_cli(arguments);
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  return finished.output;
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(text.find(word), std::string::npos) << "no '" << word << "' in:\n" << text;
  }
}

TEST(Inspect, TableOfTheBundledModel) {
  const std::string table = output_of({"inspect"});
  expect_words(table, {"mimo_v2_flash", "66.5 M", "layer 1-2", "window 128", "4 of 32 experts",
                       "temperature 0.6, top_p 0.95", "MXFP4", "FP8", "stop tokens     0, 2",
                       "backbone", "in 4 file(s)", "drafter", "draft block     8 rows",
                       "on processor    yes, in ", "KV cache of 8192 tokens"});
  const std::string longer = output_of({"inspect", "--context", "1000000"});
  expect_words(longer, {"on processor    no: max_context is 1000000"});
}

TEST(Inspect, AConfigurationWithoutWeights) {
  const std::string table = output_of({"inspect", kConfigs + "/mimo-v2.5-pro"});
  expect_words(table,
               {"fused, rank-major in 8 chunks", "layers          70", "no safetensors", "drafter",
                "draft block     8 rows", "on processor    when its weights are here: "});
  expect_words(output_of({"inspect", kConfigs + "/llama-3.2-1b"}),
               {"no safetensors", "on processor    when its weights are here: "});
}

TEST(Inspect, SaysWhatItWouldNeedInstead) {
  const TemporaryDirectory directory;
  const auto errors_of = [&directory] {
    const Finished finished = run_cli({"inspect", directory.path()});
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_EQ(finished.output, "");
    return finished.errors;
  };
  write_text(directory.path(), "model-Q4.gguf", "GGUF");
  expect_words(errors_of(), {"model-Q4.gguf: llama.cpp's format GGUF", "expected safetensors in"});
  std::filesystem::remove(directory.path() + "/model-Q4.gguf");
  write_text(directory.path(), "config.json",
             R"({"model_type": "llama", "quantization_config": {"quant_method": "awq"}})");
  expect_words(errors_of(), {"config.json: weights quantised by 'awq'", "expected safetensors in"});
}

TEST(Inspect, RecognisesMtpLayersAndDrafters) {
  const TemporaryDirectory directory;
  GeneratorOptions options;
  options.num_mtp_layers = 2;
  ASSERT_TRUE(write_checkpoint(directory.path(), options));
  expect_words(output_of({"inspect", directory.path()}), {"mtp (2 layers)", "use --prompt-ids"});
  const auto drafter = reference_folder("qwen3_dflash");
  ASSERT_TRUE(drafter) << drafter.error().message;
  expect_words(output_of({"inspect", *drafter}), {"drafter", "mask token 3"});
}

TEST(Inspect, ListsTheProgram) {
  const std::string stages = output_of({"inspect", "--program", "--threads", "3"});
  expect_words(stages, {"program decode: width 8", "3 worker(s)", "layers.3.qkv_proj", "Sample"});
  const std::string tasks = output_of({"inspect", "--tasks", "--threads", "3"});
  EXPECT_TRUE(tasks.starts_with(stages));
  expect_words(tasks, {"rank 0 worker 2", "wait c"});
}

TEST(Inspect, DrawsOneLayer) {
  const TemporaryDirectory directory;
  const std::string graph = output_of({"inspect", "--graph", "3", "--threads", "2"});
  EXPECT_TRUE(graph.starts_with("digraph"));
  expect_words(graph, {"layers.3.attention", "->"});
  // Each stage comes after another, and a sum after the product that the same worker made.
  std::map<std::string, std::string> ids;
  const std::regex node(R"((s\d+) \[label="(layers\.3\.[a-z_]+)\\n)");
  for (std::sregex_iterator match(graph.begin(), graph.end(), node), end; match != end; ++match) {
    ids[(*match)[2]] = (*match)[1];
    expect_words(graph, {" -> " + (*match)[1].str() + ";"});
  }
  EXPECT_EQ(ids.size(), 9u);
  expect_words(graph, {ids["layers.3.o_proj"] + " -> " + ids["layers.3.attention_residual"],
                       ids["layers.3.expert_down"] + " -> " + ids["layers.3.ffn_residual"]});
  EXPECT_EQ(graph.find("layers.5."), std::string::npos);
  const std::string file = directory.path() + "/layer.dot";
  EXPECT_EQ(output_of({"inspect", "--graph", "3", "--threads", "2", "-o", file}), "");
  std::ostringstream written;
  written << std::ifstream(file).rdbuf();
  EXPECT_EQ(written.str(), graph);
  expect_words(output_of({"inspect", "--graph", "outside"}), {"lm_head"});
  const Finished wrong = run_cli({"inspect", "--graph", "8"});
  EXPECT_EQ(wrong.exit_code, 1);
  expect_words(wrong.errors, {"--graph 8", "0 to 7"});
}

TEST(Inspect, SvgThroughDotOrAClearError) {
  const TemporaryDirectory directory;
  const std::string svg = directory.path() + "/layer.svg";
  const std::vector<std::string> arguments = {"inspect", "--graph", "1", "--svg", svg};
  const Finished without = run_cli(arguments, "", {"PATH=" + directory.path()});
  EXPECT_EQ(without.exit_code, 1);
  expect_words(without.errors, {"dot", "graphviz", "-o FILE"});
  // A stand-in for dot, which need not be installed: what counts is how it is called.
  const std::string fake = write_text(
      directory.path(), "dot", "#!/bin/sh\n[ \"$1 $2\" = '-Tsvg -o' ] && exec /bin/cat >$3\n");
  std::filesystem::permissions(fake, std::filesystem::perms::owner_all);
  const Finished with = run_cli(arguments, "", {"PATH=" + directory.path()});
  EXPECT_EQ(with.exit_code, 0) << with.errors;
  std::ostringstream written;
  written << std::ifstream(svg).rdbuf();
  EXPECT_EQ(written.str(), output_of({"inspect", "--graph", "1"}));
}

TEST(Plan, RanksHaveTheNamesOfOtherServers) {
  for (const char* name : {"--ranks", "--gpus", "--tp", "--tensor-parallel-size"}) {
    const Finished finished =
        run_cli({"plan", "--config", kTinyMimo, "--device", "h100", name, "2"});
    EXPECT_EQ(finished.exit_code, 0) << name << ": " << finished.errors;
  }
}

}  // namespace
}  // namespace ultraspeed::test
