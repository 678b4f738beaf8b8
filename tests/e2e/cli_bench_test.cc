// ultraspeed bench decode: what it measures of the bundled model, where it reads and writes, and
// what it refuses.
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>
#include <utility>

#include "e2e/cli.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

TEST(Bench, ComparesDraftersOnTheBuiltInPrompts) {
  const TemporaryDirectory directory;
  const std::string svg = directory.path() + "/bench.svg";
  const json report = run_cli_json({"bench", "decode", "--drafters", "none,suffix,replay:4",
                                    "--repeat", "1", "--max-tokens", "24", "--svg", svg});
  ASSERT_GE(report["num_prompts"].get<int>(), 12);
  ASSERT_EQ(report["results"].size(), 3u);
  const json& none = report["results"][0];
  EXPECT_EQ(none["accepted_length"], 1);
  EXPECT_EQ(none["speedup"], 1);
  EXPECT_GT(none["tokens_per_second"].get<double>(), 0);
  EXPECT_EQ(none["per_position"], json::array());
  const json& suffix = report["results"][1];
  EXPECT_GT(suffix["accepted_length"].get<double>(), 2);  // most prompts are edits
  EXPECT_GT(suffix["cycle_ms"]["draft"].get<double>(), 0);
  EXPECT_LT(suffix["cycles"], none["cycles"]);
  const json& replay = report["results"][2];
  EXPECT_EQ(replay["per_position"][2], 1);
  EXPECT_LT(replay["per_position"][3].get<double>(), 0.1);  // it is spoilt there
  EXPECT_EQ(read_text(svg).substr(0, 5), "<svg ");
}

// Like those that its card was made with (models/tiny-mimo/dflash), in words of this test's own. A
// drafter that is damaged, read wrongly or of another target comes to 1 or 2.
TEST(Bench, TheBundledDrafterDraftsWell) {
  const std::string tools =
      "\n\n# Tools\n\nYou may call one or more functions to help with the user query.\n\nThe "
      "functions you can call, inside <tools></tools>:\n<tools>\n<function>\n<name>get_weather"
      "</name>\n<description>Get the current weather for a city</description>\n<parameters>\n"
      "<parameter>\n<name>city</name>\n<type>string</type>\n<description>City name</description>\n"
      "</parameter>\n</parameters>\n</function>\n</tools>\n\nFor each function call, answer in "
      "this "
      "form:\n<tool_call>\n<function=function_name>\n<parameter=parameter_name>value</parameter>\n"
      "</function>\n</tool_call>";
  const std::pair<std::string, std::string> turns[] = {
      {"", "What is 512 + 88 - 41?"},
      {"", "Olga has 72 shells. Pavel has 15 fewer shells than Olga. How many do both have?"},
      {"", "Write a python function sum_even(xs) that returns the sum of the even numbers of xs."},
      {"", "I need a python function `last_three(text)`. It returns the last 3 characters."},
      {tools, "What is the weather in Oslo?"},
      {tools, "Check the weather for Lima, please."}};
  std::string lines;
  for (const auto& [more, user] : turns) {
    lines += json{{"prompt", "<|im_start|>system\nYou are a helpful assistant." + more +
                                 "<|im_end|><|im_start|>user\n" + user +
                                 "<|im_end|><|im_start|>assistant\n"}}
                 .dump() +
             "\n";
  }
  const TemporaryDirectory directory;
  const json report =
      run_cli_json({"bench", "decode", "--prompts", write_text(directory.path(), "p.jsonl", lines),
                    "--drafters", "dflash", "--repeat", "1", "--max-tokens", "64"});
  ASSERT_EQ(report["num_prompts"], 6);
  // 5.65 when this was written; a change that costs a fifth should be looked at.
  EXPECT_GT(report["results"][0]["accepted_length"].get<double>(), 4.5) << report["results"][0];
}

TEST(Bench, SweepsStreamsAndBlocks) {
  const TemporaryDirectory directory;
  const std::string prompts =
      write_text(directory.path(), "p.jsonl",
                 "\"int main() {\"\n\n[{\"role\": \"user\", \"content\": \"2 + 2?\"}]\n"
                 "{\"name\": \"third\", \"prompt\": \"def add(a, b):\", \"stop\": \"\\n\\n\"}\n"
                 "{\"prompt_ids\": [318, 258]}\n");
  const json report =
      run_cli_json({"bench", "decode", "--prompts", prompts, "--streams", "1,3", "--block", "2,4",
                    "--repeat", "1", "--max-tokens", "16", "-t", "1"});
  EXPECT_EQ(report["num_prompts"], 4);
  EXPECT_EQ(report["threads"], 1);
  std::vector<std::string> cells;
  for (const json& result : report["results"]) {
    cells.push_back(std::to_string(result["streams"].get<int>()) + "/" +
                    std::to_string(result["block"].get<int>()) + "/" +
                    result["drafter"].get<std::string>());
  }
  EXPECT_EQ(cells, (std::vector<std::string>{"1/2/none", "1/2/suffix", "1/4/none", "1/4/suffix",
                                             "3/2/none", "3/2/suffix", "3/4/none", "3/4/suffix"}));
  EXPECT_EQ(report["results"][0]["prompts"][2]["name"], "third");
  EXPECT_EQ(report["results"][4]["prompts"], json::array());
  EXPECT_LE(report["results"][1]["cycles_by_length"].size(), 2u);
}

TEST(Bench, SamplesWithEitherAcceptance) {
  const std::vector<std::string> arguments = {
      "bench",      "decode",      "--prompts",     "-",   "--repeat",  "1", "--max-tokens", "40",
      "--drafters", "none,suffix", "--temperature", "0.3", "--streams", "2", "--block",      "4"};
  const std::string prompt = "[\"for (int i = 0; i < 10; ++i) for (int i = 0; i < 10; ++i)\"]";
  const json keyed = run_cli_json(arguments, prompt);
  EXPECT_EQ(keyed["acceptance"], "keyed");
  EXPECT_GT(keyed["temperature"], 0);
  auto with_rejection = arguments;
  with_rejection.insert(with_rejection.end(), {"--acceptance", "rejection"});
  const json rejection = run_cli_json(with_rejection, prompt);
  EXPECT_EQ(rejection["acceptance"], "rejection");
  EXPECT_GT(rejection["results"][1]["per_position"].size(), 0u);
}

TEST(Bench, PinsTheThreadsOfEngineAfterEngine) {
  if (std::thread::hardware_concurrency() < 2) {
    const Finished refused = run_cli({"bench", "decode", "--pin-threads", "-t", "2"});
    EXPECT_NE(refused.errors.find("2 pinned threads"), std::string::npos) << refused.errors;
    return;
  }
  const json report = run_cli_json(
      {"bench", "decode", "--prompts", "-", "--repeat", "1", "--max-tokens", "8", "--block", "2,4",
       "-t", "2", "--pin-threads", "--activations", "int8", "--kv-cache", "bf16"},
      "[\"for (int i = 0; i < 10; ++i)\"]");
  EXPECT_EQ(report["results"].size(), 4u);
  EXPECT_EQ(report["activations"], "int8");
  EXPECT_EQ(report["kv_cache"], "bf16");
}

TEST(Bench, TracesAStep) {
  const TemporaryDirectory directory;
  const std::string file = directory.path() + "/trace.json";
  const Finished finished = run_cli(
      {"bench", "trace", "--executor", "cpu", "-t", "2", "--max-tokens", "12", "--out", file});
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  for (const char* part :
       {"decode steps, ", "operation ", "ExpertGateUp ", "\nall ", "slowest hand-offs"}) {
    EXPECT_NE(finished.output.find(part), std::string::npos) << part << "\n" << finished.output;
  }
  const json trace = json::parse(read_text(file));
  EXPECT_GT(trace["traceEvents"].size(), 100u);
  const Finished refused = run_cli({"bench", "trace", "--executor", "graph"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.errors.find("no tasks to time"), std::string::npos) << refused.errors;
}

TEST(Bench, PrintsTables) {
  const Finished finished = run_cli(
      {"bench", "decode", "--prompts", "-", "--repeat", "1", "--max-tokens", "8", "--per-prompt"},
      "[\"for (int i = 0; i < 10; ++i)\"]");
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  EXPECT_NE(finished.output.find(", 1 prompts, up to 8 tokens each"), std::string::npos);
  EXPECT_NE(finished.output.find("streams block  drafter"), std::string::npos);
  EXPECT_NE(finished.output.find("prompt 1 (8 tokens)\n"), std::string::npos) << finished.output;
}

TEST(Bench, RefusesAFileThatCannotBeWrittenBeforeItMeasures) {
  const TemporaryDirectory directory;
  // Prompts come from a later check, which fails, too: the file's comes first.
  for (const std::string& path : {directory.path() + "/none/b.svg", directory.path()}) {
    const Finished refused =
        run_cli({"bench", "decode", "--svg", path, "--prompts", "/nowhere.json"});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.errors.find(path + ": cannot create: "), std::string::npos) << refused.errors;
    for (const char* what : {"step", "kernels"}) {
      for (const char* flag : {"--svg", "--json"}) {
        const Finished other = run_cli({"bench", what, "--config", "/nowhere.json", flag, path});
        EXPECT_EQ(other.exit_code, 1);
        EXPECT_NE(other.errors.find(path + ": cannot create: "), std::string::npos) << other.errors;
      }
    }
  }
  const std::string kept = write_text(directory.path(), "kept.svg", "old");
  for (const std::string& path : {kept, directory.path() + "/new.svg"}) {
    EXPECT_EQ(run_cli({"bench", "decode", "--svg", path, "--prompts", "/nowhere.json"}).exit_code,
              1);
  }
  EXPECT_EQ(read_text(kept), "old");
  EXPECT_FALSE(std::filesystem::exists(directory.path() + "/new.svg"));
}

TEST(Bench, RefusesWhatItCannotMeasure) {
  const auto errors = [](std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"bench", "decode"});
    const Finished finished = run_cli(arguments, input);
    EXPECT_NE(finished.exit_code, 0);
    EXPECT_EQ(finished.output, "");
    return finished.errors;
  };
  const auto expect = [&](const std::string& text, const std::string& piece) {
    EXPECT_NE(text.find(piece), std::string::npos) << text;
  };
  expect(errors({"--drafters", "none,magic"}), "'magic' is no drafter");
  expect(errors({"--drafters", "none,suffix,none"}), "--drafters: none is named twice");
  expect(errors({"--drafters", "replay:5", "--block", "8,4"}), "more than the block of 4 tokens");
  expect(errors({"--block", "0"}), "--block");
  expect(errors({"--streams", "1,65"}), "--streams");
  expect(errors({"--repeat", "0"}), "--repeat");
  expect(errors({"--max-tokens", "1"}), "--max-tokens");
  expect(errors({"--prompts", "/nowhere.json"}), "/nowhere.json");
  expect(errors({"--prompts", "-"}, "[]"), "standard input: no prompts in it");
  expect(errors({"--prompts", "-"}, "\"a\"\n{\n"), "standard input, line 2");
  expect(errors({"--prompts", "-"}, "[7]"), "standard input: prompt 1: it is a number");
  expect(errors({"--prompts", "-"}, R"(["a", {"text": "b"}])"), "prompt 2: an object without");
  expect(errors({"--prompts", "-"}, R"([{"prompt": "b", "stop": 3}])"), "prompt 1: its stop");
  expect(errors({"--prompts", "-"}, R"([{"prompt_ids": ["b"]}])"), "prompt 1: its prompt_ids");
  expect(errors({"--prompts", "-"}, R"([{"prompt_ids": [99999]}])"), "99999");
  const Finished bare = run_cli({"bench"});
  EXPECT_NE(bare.exit_code, 0);
}

}  // namespace
}  // namespace ultraspeed::test
