// ultraspeed run, from flags to text.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "e2e/cli.h"
#include "golden/golden_case.h"
#include "support/checkpoint_generator.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const char kQuestion[] =
    "There are 212 tiles at the school. Pedro brings 179 more, and later Rosa takes 60. How many "
    "tiles are left?";

std::string chat_prompt(const std::string& user) {
  return "<|im_start|>system\nYou are a helpful assistant.<|im_end|><|im_start|>user\n" + user +
         "<|im_end|><|im_start|>assistant\n";
}

json run_json(std::vector<std::string> arguments, const std::string& standard_input = "") {
  arguments.insert(arguments.begin(), "run");
  return run_cli_json(std::move(arguments), standard_input);
}

// The greedy answer to kQuestion, which several tests look at.
const json& math_answer() {
  static const json answer = run_json({"--user", kQuestion, "--greedy"});
  return answer;
}

class GoldenRun : public testing::TestWithParam<size_t> {};

TEST_P(GoldenRun, GivesTheGoldenIdsAndLogits) {
  const GoldenCase golden = tiny_mimo_cases()[GetParam()];
  const TemporaryDirectory directory;
  const std::string file = write_text(directory.path(), "prompt", golden.prompt);
  const json result = run_json({"--prompt-file", file, "--greedy", "--ignore-eos", "--max-tokens",
                                std::to_string(golden.greedy_ids.size()), "--logprobs", "5"});
  EXPECT_EQ(result["prompt_ids"].get<Ids>(), golden.prompt_ids);
  EXPECT_EQ(result["ids"].get<Ids>(), golden.greedy_ids);
  EXPECT_EQ(result["finish_reason"], "length");
  ASSERT_EQ(result["logprobs"].size(), golden.top.size());
  for (size_t i = 0; i < golden.top.size(); ++i) {
    const auto ids = result["logprobs"][i]["ids"].get<Ids>();
    const auto values = result["logprobs"][i]["values"].get<std::vector<float>>();
    ASSERT_EQ(ids.size(), 5u);
    for (size_t j = 0; j < ids.size(); ++j) {
      EXPECT_EQ(ids[j], golden.top[i].ids[j]) << "step " << i;
      // Log-softmax moves all logits of a step by one constant.
      EXPECT_NEAR(values[j] - values[0], golden.top[i].logits[j] - golden.top[i].logits[0], 1e-3);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenRun, testing::Values(0, 9));

TEST(Run, Int8ActivationsAreNamedAndGiveTheGoldenIds) {
  const GoldenCase golden = tiny_mimo_cases()[0];
  std::string prompt;
  for (const int32_t id : golden.prompt_ids) prompt += std::to_string(id) + ",";
  prompt.pop_back();
  const json result = run_json({"--prompt-ids", prompt, "--greedy", "--ignore-eos", "--max-tokens",
                                std::to_string(golden.greedy_ids.size()), "--activations", "int8"});
  EXPECT_EQ(result["activations"], "int8");
  EXPECT_EQ(result["ids"].get<Ids>(), golden.greedy_ids);
}

TEST(Run, RoundedModesAreNamedAndDifferFromF32) {
  const std::vector<std::string> arguments = {"--prompt", "for (", "-n", "1", "--logprobs", "1"};
  const auto logprob = [&](const std::string& activations, const std::string& kv_cache) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--activations", activations, "--kv-cache", kv_cache});
    const json result = run_json(all);
    EXPECT_EQ(result["activations"], activations);
    EXPECT_EQ(result["kv_cache"], kv_cache);
    return result["logprobs"][0]["values"][0].get<float>();
  };
  const std::set<float> logprobs = {logprob("f32", "f32"),  logprob("f32", "bf16"),
                                    logprob("f32", "fp8"),  logprob("w4a16", "f32"),
                                    logprob("w4a8", "f32"), logprob("w4a8", "fp8")};
  EXPECT_EQ(logprobs.size(), 6u);
}

TEST(Run, DenseWeightsInFp8AreNamedWithTheirError) {
  const TemporaryDirectory directory;  // its projections and head are BF16
  ASSERT_TRUE(write_checkpoint(directory.path(), {}));
  const auto run = [&](const std::string& dense_dtype) {
    return run_cli({"run", directory.path(), "--prompt-ids", "1,2,3", "-n", "1", "--greedy",
                    "--json", "--logprobs", "4", "--dense-dtype", dense_dtype});
  };
  const Finished stored = run("checkpoint"), rounded = run("fp8");
  ASSERT_EQ(rounded.exit_code, 0) << rounded.errors;
  EXPECT_EQ(stored.errors.find("rounded to FP8"), std::string::npos) << stored.errors;
  EXPECT_NE(rounded.errors.find("5 matrices rounded to FP8"), std::string::npos) << rounded.errors;
  EXPECT_NE(rounded.errors.find("rms error 2."), std::string::npos) << rounded.errors;
  const json stored_result = json::parse(stored.output), result = json::parse(rounded.output);
  EXPECT_EQ(stored_result["dense_dtype"], "checkpoint");
  EXPECT_EQ(result["dense_dtype"], "fp8");
  EXPECT_NE(result["logprobs"], stored_result["logprobs"]);
}

TEST(Run, PackedWeightsGiveTheSameAnswer) {
  const TemporaryDirectory cache;
  const auto run = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run", "--prompt", "for (",  "-n",
                                          "8",   "--greedy", "--json", "--logprobs",
                                          "2",   "--ranks",  "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished finished = run_cli(arguments);
    EXPECT_EQ(finished.exit_code, 0) << finished.errors;
    const json result = json::parse(finished.output);
    return std::pair(json::array({result["ids"], result["logprobs"]}), finished.errors);
  };
  const auto [expected, plain_errors] = run({});
  EXPECT_EQ(plain_errors.find("weight cache"), std::string::npos) << plain_errors;
  const std::vector<std::string> cached = {"--weight-cache", cache.path() + "/new"};
  for (const std::string done : {"packed 2 of 2 ranks into ", "read 2 of 2 ranks from "}) {
    const auto [answer, errors] = run(cached);
    EXPECT_EQ(answer, expected);
    EXPECT_NE(errors.find("weight cache: " + done + cache.path()), std::string::npos) << errors;
  }
  // All of the checkpoint is read once more, and found to be what it was.
  const auto [answer, errors] = run({cached[0], cached[1], "--check-weight-cache"});
  EXPECT_EQ(answer, expected);
  EXPECT_NE(errors.find("Reading the checkpoint: "), std::string::npos) << errors;
  EXPECT_NE(errors.find("read 2 of 2 ranks from "), std::string::npos) << errors;
}

TEST(Run, JsonHasTheDocumentedForm) {
  const json& result = math_answer();
  EXPECT_EQ(result.size(), 11u);
  EXPECT_EQ(result["device"], "cpu");
  EXPECT_EQ(result["activations"], "f32");
  EXPECT_EQ(result["kv_cache"], "f32");
  EXPECT_EQ(result["dense_dtype"], "checkpoint");
  EXPECT_TRUE(result["prompt_ids"].is_array());
  EXPECT_TRUE(result["ids"].is_array());
  EXPECT_NE(result["text"].get<std::string>().find("331"), std::string::npos);
  EXPECT_EQ(result["finish_reason"], "stop");
  EXPECT_EQ(result["logprobs"], json::array());
  EXPECT_EQ(result["timing"].size(), 3u);
  EXPECT_GT(result["timing"]["prefill_ms"].get<double>(), 0);
  EXPECT_GT(result["timing"]["decode_ms"].get<double>(), 0);
  EXPECT_GT(result["timing"]["tokens_per_second"].get<double>(), 0);
  const json& speculation = result["speculation"];
  EXPECT_EQ(speculation.size(), 5u);
  EXPECT_EQ(speculation["drafter"], "dflash");
  EXPECT_LE(speculation["cycles"].get<size_t>(), result["ids"].size() - 1);
  EXPECT_EQ(speculation["resident_cycles"], 0);
  EXPECT_GT(speculation["accepted_length"].get<double>(), 3.0);
  EXPECT_TRUE(speculation["per_position"].is_array());
}

TEST(Run, NoDrafterChangesTheText) {
  const json& ids = math_answer()["ids"];
  const size_t num_decoded = ids.size() - 1;
  const auto speculation_of = [&](const char* drafter) {
    const json result = run_json({"--user", kQuestion, "--greedy", "--drafter", drafter});
    EXPECT_EQ(result["ids"], ids) << drafter;
    EXPECT_EQ(result["speculation"]["drafter"], drafter);
    return result["speculation"];
  };
  const json none = speculation_of("none");
  EXPECT_EQ(none["cycles"].get<size_t>(), num_decoded);
  EXPECT_EQ(none["accepted_length"], 1.0);
  EXPECT_EQ(none["per_position"], json::array());
  EXPECT_EQ(speculation_of("random")["per_position"].size(), 7u);
  const json replay = speculation_of("replay:4");
  EXPECT_EQ(replay["cycles"].get<size_t>(), (num_decoded + 3) / 4);
  EXPECT_EQ(replay["per_position"], (json{1.0, 1.0, 1.0, 0.0}));
}

TEST(Run, RejectionIsAFunctionOfTheDrafterToo) {
  const auto ids_of = [](const char* drafter, const char* acceptance, const char* temperature) {
    return run_json({"--prompt", "for (int i = 0; i < 10; ++i) {", "--max-tokens", "48", "--seed",
                     "5", "--temperature", temperature, "--drafter", drafter, "--acceptance",
                     acceptance})["ids"];
  };
  // Without drafts, and at temperature 0, both rules are one.
  EXPECT_EQ(ids_of("none", "rejection", "0.7"), ids_of("none", "keyed", "0.7"));
  EXPECT_EQ(ids_of("suffix", "rejection", "0"), ids_of("suffix", "keyed", "0"));
  EXPECT_EQ(ids_of("random", "rejection", "0.7"), ids_of("random", "rejection", "0.7"));
  EXPECT_NE(ids_of("random", "rejection", "0.7"), ids_of("random", "keyed", "0.7"));
}

TEST(Run, ShowsTheAcceptedLength) {
  const Finished replayed =
      run_cli({"run", kTinyMimo, "--user", kQuestion, "--greedy", "--drafter", "replay:4"});
  EXPECT_EQ(replayed.output, math_answer()["text"].get<std::string>());
  EXPECT_NE(replayed.errors.find(" tokens per second, accepted length "), std::string::npos)
      << replayed.errors;
}

TEST(Run, StreamsTheSameTextAloneOnStandardOutput) {
  const Finished streamed = run_cli({"run", kTinyMimo, "--user", kQuestion, "--greedy"});
  EXPECT_EQ(streamed.exit_code, 0);
  EXPECT_EQ(streamed.output, math_answer()["text"].get<std::string>());
  EXPECT_NE(streamed.errors.find(" tokens per second"), std::string::npos) << streamed.errors;
  EXPECT_TRUE(streamed.errors.ends_with("(stop)\n")) << streamed.errors;
}

TEST(Run, TheStopTokenIsAnIdButNoText) {
  const json& result = math_answer();
  EXPECT_EQ(result["ids"].back(), 2);
  EXPECT_EQ(result["text"].get<std::string>().find("<|im_end|>"), std::string::npos);
  const json shown = run_json({"--user", kQuestion, "--greedy", "--ignore-eos", "--special",
                               "--max-tokens", std::to_string(result["ids"].size() + 1)});
  EXPECT_NE(shown["text"].get<std::string>().find("<|im_end|>"), std::string::npos);
}

TEST(Run, StopStringsEndTheTextBeforeThem) {
  const std::string text = math_answer()["text"];
  const size_t middle = text.size() / 3;
  const std::string stop = text.substr(middle, 3);
  const json result =
      run_json({"--user", kQuestion, "--greedy", "--stop", "never", "--stop", stop});
  EXPECT_EQ(result["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(result["finish_reason"], "stop");
}

TEST(Run, TheSeedDecides) {
  const auto sample = [](const char* seed) {
    return run_json({"--prompt", "#include <", "--temperature", "1.5", "--top-p", "1",
                     "--max-tokens", "10", "--seed", seed})["ids"];
  };
  EXPECT_EQ(sample("7"), sample("7"));
  EXPECT_NE(sample("7"), sample("8"));
}

TEST(Run, DefaultsComeFromGenerationConfig) {
  const std::vector<std::string> base = {"--prompt", "#include <", "--max-tokens", "10"};
  const auto with = [&base](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_json(arguments)["ids"];
  };
  EXPECT_EQ(with({}), with({"--temperature", "0.6", "--top-p", "0.95", "--seed", "0"}));
  EXPECT_EQ(with({"--greedy"}), with({"--temperature", "0"}));
  EXPECT_EQ(with({"--greedy"}), with({"--top-k", "1"}));
}

TEST(Run, LogitBiasAndPenaltiesChangeTheChoice) {
  const Ids plain = run_json({"--prompt", "#include <", "--greedy", "-n", "4"})["ids"];
  const std::string ban = std::to_string(plain[0]) + "=-100";
  const Ids banned =
      run_json({"--prompt", "#include <", "--greedy", "-n", "4", "--logit-bias", ban})["ids"];
  EXPECT_NE(plain[0], banned[0]);
  const Ids repeating = run_json({"--prompt", "a a a a a a", "--greedy", "-n", "8"})["ids"];
  const Ids penalised =
      run_json({"--prompt", "a a a a a a", "--greedy", "-n", "8", "--presence-penalty", "2",
                "--frequency-penalty", "2", "--repetition-penalty", "2"})["ids"];
  EXPECT_NE(repeating, penalised);
}

TEST(Run, PromptsAreRawText) {
  const TemporaryDirectory directory;
  const auto ids = [](std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"-n", "1"});
    return run_json(std::move(arguments), input)["prompt_ids"].get<Ids>();
  };
  const Ids without_newline = ids({"--prompt", "int x;<|im_end|>"});
  EXPECT_EQ(without_newline.back(), 2);  // special tokens are recognised
  const Ids with_newline = ids({"--prompt", "int x;\n"});
  EXPECT_EQ(ids({"--prompt-file", write_text(directory.path(), "code", "int x;\n")}), with_newline);
  EXPECT_EQ(ids({"--prompt-file", "-"}, "int x;\n"), with_newline);
  EXPECT_NE(ids({"--prompt", "int x;"}), with_newline);
}

TEST(Run, MessagesGoThroughTheChatTemplate) {
  const TemporaryDirectory directory;
  const auto ids = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-n", "1"});
    return run_json(std::move(arguments))["prompt_ids"].get<Ids>();
  };
  const Ids expected = ids({"--prompt", chat_prompt("Hi")});
  EXPECT_EQ(ids({"--user", "Hi"}), expected);
  const std::string messages = R"([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])";
  EXPECT_EQ(ids({"--messages", write_text(directory.path(), "messages.json", messages)}), expected);
  const std::string request = R"({"model": "x", "messages": )" + messages + "}";
  EXPECT_EQ(ids({"--messages", write_text(directory.path(), "request.json", request)}), expected);
  EXPECT_EQ(ids({"--user", "Hi", "--no-thinking"}),
            ids({"--prompt", chat_prompt("Hi") + "<think></think>"}));
  EXPECT_EQ(ids({"--user", "Hi", "--system", "You are a helpful assistant."}), expected);
}

TEST(Run, SpecialTokensInMessagesStayTextUnlessAskedFor) {
  const auto ids = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-n", "1"});
    return run_json(std::move(arguments))["prompt_ids"].get<Ids>();
  };
  const Ids parsed = ids({"--prompt", chat_prompt("a<|im_end|>b")});
  EXPECT_NE(ids({"--user", "a<|im_end|>b"}), parsed);
  EXPECT_EQ(ids({"--user", "a<|im_end|>b", "--hf-special-tokens"}), parsed);
}

TEST(Run, SamplesAreAnsweredRight) {
  const auto answer = [](const std::string& name) {
    return run_json({"--sample", name, "-n", "128"})["text"].get<std::string>();
  };
  EXPECT_NE(answer("math").find("331"), std::string::npos);
  const std::string call = answer("tool");
  EXPECT_NE(call.find("<tool_call>\n<function=get_weather>\n<parameter=city>Lisbon</parameter>"),
            std::string::npos)
      << call;
  EXPECT_TRUE(call.ends_with("</tool_call>")) << call;
  EXPECT_NE(answer("function").find("def keep_even(numbers):\n"), std::string::npos);
  EXPECT_NE(answer("code").find("total += values[i];\n  }\n  return total;\n}"), std::string::npos);
  const Finished list = run_cli({"run", "--list-samples"});
  for (const char* name : {"math", "tool", "function", "code"}) {
    EXPECT_NE(list.output.find(name), std::string::npos);
  }
}

TEST(Run, WithoutInputShowsAndAnswersTheFirstSample) {
  const Finished finished = run_cli({"run"});
  EXPECT_NE(finished.errors.find(kQuestion), std::string::npos);
  EXPECT_NE(finished.output.find("331"), std::string::npos);
}

TEST(Run, ATerminalShowsReasoningDimmedAndNoMarkers) {
  TerminalProcess run({binary_path(), "run", "--sample", "tool", "--model", kTinyMimo});
  const std::string shown = run.read_until("(stop)");
  EXPECT_NE(shown.find("\033[2m"), std::string::npos) << shown;
  EXPECT_NE(shown.find("<tool_call>"), std::string::npos);
  EXPECT_EQ(shown.find("<think>"), std::string::npos);
  EXPECT_NE(shown.find("Loading weights ["), std::string::npos);
  EXPECT_EQ(run.wait(), 0);
}

TEST(Run, NoColorIsHonoured) {
  TerminalProcess run({binary_path(), "run", "--sample", "tool", "--model", kTinyMimo},
                      {"NO_COLOR=1"});
  const std::string shown = run.read_until("(stop)");
  EXPECT_NE(shown.find("<tool_call>"), std::string::npos) << shown;
  EXPECT_EQ(shown.find("\033[2m"), std::string::npos);
  EXPECT_EQ(shown.find("\033[32m"), std::string::npos);
}

TEST(Run, PromptIdsNeedNoTokenizer) {
  const auto directory = reference_folder("mimo_v2_fused_t2_swa4");
  ASSERT_TRUE(directory) << directory.error().message;
  const GoldenCase golden = reference_cases(*directory)[0];
  std::string list;
  for (const int32_t id : golden.prompt_ids) list += std::to_string(id) + ", ";
  std::vector<std::string> arguments = {
      "run",          "--model", *directory,
      "--prompt-ids", list,      "--greedy",
      "--ignore-eos", "-n",      std::to_string(golden.greedy_ids.size())};
  EXPECT_EQ(run_cli_json(arguments)["ids"].get<Ids>(), golden.greedy_ids);
  std::string expected;
  for (const int32_t id : golden.greedy_ids) {
    expected += (expected.empty() ? "" : " ") + std::to_string(id);
  }
  EXPECT_EQ(run_cli(arguments).output, expected);
}

TEST(Run, RanksGiveTheSameText) {
  const auto ids = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"--prompt", "#include <", "--greedy", "-n", "8"});
    return run_json(std::move(flags))["ids"].get<Ids>();
  };
  const Ids expected = ids({"--ranks", "1"});
  EXPECT_EQ(ids({"--tp", "2"}), expected);
  EXPECT_EQ(ids({"--tensor-parallel-size", "2", "--threads", "3"}), expected);
  EXPECT_EQ(ids({"--ranks", "4", "--all-reduce", "one-shot"}), expected);
  EXPECT_EQ(ids({"--ranks", "8", "--drafter", "dflash"}), expected);
}

}  // namespace
}  // namespace ultraspeed::test
