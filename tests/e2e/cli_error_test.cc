// What goes wrong for users: each error is one clear sentence on standard error, with exit code 1
// (2 for flags), and nothing on standard output.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "e2e/cli.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;

void expect_error(const Finished& finished, int exit_code, const std::vector<std::string>& words) {
  EXPECT_EQ(finished.exit_code, exit_code);
  EXPECT_EQ(finished.output, "");
  EXPECT_TRUE(finished.errors.starts_with("ultraspeed: ")) << finished.errors;
  EXPECT_EQ(std::count(finished.errors.begin(), finished.errors.end(), '\n'), 1) << finished.errors;
  for (const std::string& word : words) {
    EXPECT_NE(finished.errors.find(word), std::string::npos)
        << "no '" << word << "' in: " << finished.errors;
  }
}

// A folder with a small checkpoint: two shards, no tokenizer.
class BrokenFolder : public testing::Test {
 protected:
  void SetUp() override {
    GeneratorOptions options;
    options.num_files = 2;
    ASSERT_TRUE(write_checkpoint(path_, options));
  }

  Finished run() { return run_cli({"run", path_, "--prompt-ids", "1,2,3", "-n", "2", "--greedy"}); }

  // Of commands without --prompt-ids and --prompt.
  void expect_no_advice(const std::vector<std::string>& arguments, const std::string& word) {
    const Finished finished = run_cli(arguments);
    expect_error(finished, 1, {word});
    EXPECT_EQ(finished.errors.find("--prompt"), std::string::npos) << finished.errors;
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path();
  const std::string shard_ = path_ + "/model-00002-of-00002.safetensors";
};

TEST_F(BrokenFolder, IsFineBeforeItBreaks) {
  const Finished finished = run();
  EXPECT_EQ(finished.exit_code, 0) << finished.errors;
  EXPECT_EQ(std::count(finished.output.begin(), finished.output.end(), ' '), 1);
}

TEST_F(BrokenFolder, NoConfig) {
  fs::remove(path_ + "/config.json");
  expect_error(run(), 1, {path_, "no config.json"});
}

TEST_F(BrokenFolder, BrokenConfig) {
  write_text(path_, "config.json", "{\"model_type\": ");
  expect_error(run(), 1, {"config.json"});
}

TEST_F(BrokenFolder, AFamilyThatIsNotKnown) {
  write_text(path_, "config.json", R"({"model_type": "mistral"})");
  const std::vector<std::string> words = {
      path_ + "/config.json: key 'model_type' is \"mistral\", which is not supported", "\"qwen3\"",
      "\"gpt_oss\""};
  expect_error(run(), 1, words);
  expect_error(run_cli({"inspect", path_}), 1, words);
}

TEST_F(BrokenFolder, NoTokenizer) {
  for (const char* flag : {"--prompt", "--user"}) {
    expect_error(run_cli({"run", path_, flag, "Hi"}), 1, {"no tokenizer.json", "--prompt-ids"});
  }
  expect_error(run_cli({"score", path_, "--file", path_ + "/config.json"}), 1,
               {"no tokenizer.json", "--prompt-ids"});
  for (const char* command : {"serve", "chat"})
    expect_no_advice({command, path_}, "tokenizer.json");
}

TEST_F(BrokenFolder, NoChatTemplate) {
  fs::copy_file(kTinyMimo + "/tokenizer.json", path_ + "/tokenizer.json");
  expect_error(run_cli({"run", path_, "--user", "Hi"}), 1, {"no chat template", "--prompt"});
  expect_error(run_cli({"run", path_, "--sample", "math"}), 1, {"no chat template", "--prompt"});
  expect_no_advice({"chat", path_}, "no chat template");
}

TEST_F(BrokenFolder, BrokenTokenizer) {
  write_text(path_, "tokenizer.json", "{}");
  expect_error(run_cli({"run", path_, "--prompt", "Hi"}), 1, {"tokenizer.json"});
}

TEST_F(BrokenFolder, NoWeights) {
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().starts_with("model")) fs::remove(entry.path());
  }
  expect_error(run(), 1, {path_, "model.safetensors"});
}

TEST_F(BrokenFolder, MissingShard) {
  fs::remove(shard_);
  expect_error(run(), 1, {"missing", "model-00002-of-00002.safetensors"});
}

TEST_F(BrokenFolder, TruncatedShard) {
  fs::resize_file(shard_, fs::file_size(shard_) - 100);
  expect_error(run(), 1, {"model-00002-of-00002.safetensors"});
  fs::resize_file(shard_, 4);
  expect_error(run(), 1, {"model-00002-of-00002.safetensors"});
}

TEST_F(BrokenFolder, TokenIdsOutOfRange) {
  expect_error(run_cli({"run", path_, "--prompt-ids", "1,100000"}), 1, {"100000"});
  expect_error(run_cli({"run", path_, "--prompt-ids", "1,x"}), 1, {"--prompt-ids", "'x'"});
  expect_error(run_cli({"run", path_, "--prompt-ids", "1,-2"}), 1, {"--prompt-ids", "'-2'"});
  expect_error(run_cli({"run", path_, "--prompt-ids", ","}), 1, {"--prompt-ids"});
}

TEST_F(BrokenFolder, StopStringsNeedATokenizer) {
  expect_error(run_cli({"run", path_, "--prompt-ids", "1", "--stop", "x"}), 1, {"tokenizer"});
}

TEST(CliErrors, Folders) {
  expect_error(run_cli({"run", "/nowhere/at/all"}), 1, {"/nowhere/at/all", "--user"});
  expect_error(run_cli({"run", kTinyMimo + "/config.json"}), 1, {"config.json: a file", "folder"});
  const TemporaryDirectory empty;
  expect_error(run_cli({"run", empty.path()}), 1, {"no config.json"});
  expect_error(run_cli({"inspect", empty.path()}), 1, {"no config.json"});
}

TEST(CliErrors, AConfigurationWithoutWeights) {
  for (const char* name : {"/llama-3.2-1b", "/gpt-oss-20b"}) {
    const std::string folder = kConfigs + name;
    for (const char* command : {"run", "chat", "serve"}) {
      expect_error(run_cli({command, folder}), 1, {folder + ": no weights", "model.safetensors"});
    }
  }
}

TEST(CliErrors, Drafters) {
  const TemporaryDirectory bare;
  link_model_without_drafter(bare.path());
  for (const char* command : {"run", "chat", "serve"}) {
    expect_error(
        run_cli({command, "--drafter", "eagle"}), 2,
        {"--drafter", "'eagle' is no drafter", "none, suffix, random, replay:N", "mtp", "dflash"});
    expect_error(run_cli({command, kTinyMimo, "--drafter", "mtp"}), 1,
                 {"--drafter mtp: ", "tiny-mimo has no MTP layers", "model.mtp.layers.K.*",
                  "--drafter suffix"});
    expect_error(run_cli({command, bare.path(), "--drafter", "dflash"}), 1,
                 {"--drafter dflash: no folder", bare.path() + "/dflash"});
    expect_error(run_cli({command, "--acceptance", "typical"}), 2,
                 {"--acceptance", "'typical' is no acceptance; expected keyed or rejection"});
  }
  expect_error(run_cli({"run", "--user", "Hi", "--drafter", "replay:5", "--block", "4"}), 1,
               {"--drafter replay:5", "the block of 4 tokens (see --block)"});
  for (const char* command : {"chat", "serve"}) {
    expect_error(run_cli({command, "--drafter", "replay:2"}), 1,
                 {"--drafter replay:2", "only run and bench decode learn an output to replay"});
  }
  expect_error(run_cli({"run", "--user", "Hi", "--block", "0"}), 2, {"--block"});
}

// One line each: the weights were not loaded for this.
TEST(CliErrors, DraftersThatDoNotFit) {
  const TemporaryDirectory folder;
  const std::string& path = folder.path();
  const auto run_with = [&](std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"run", "--user", "Hi", "--drafter", path});
    return run_cli(flags);
  };
  expect_error(run_with(), 1, {"--drafter " + path, "no config.json"});
  write_text(path, "config.json", "{}");
  expect_error(run_with(), 1, {path + "/config.json", "architectures"});
  ASSERT_TRUE(write_drafter(path, {}));  // for a model of 4 layers
  expect_error(run_with(), 1, {path + "/config.json: drafts for a model of 4 layers"});
  expect_error(run_with({"--block", "9"}), 1, {"--block 9", path + "/config.json", "at most 8"});

  DrafterOptions options;
  options.hidden_size = 512;
  options.num_target_layers = 8;
  options.vocab_size = 20000;
  ASSERT_TRUE(write_drafter(path, options));
  expect_error(run_with(), 1, {path, "a vocabulary of 20000 tokens", "12288"});
  options.vocab_size = 12288;
  auto drafter = write_drafter(path, options);
  ASSERT_TRUE(drafter);
  drafter->tensors.pop_back();
  ASSERT_TRUE(write_checkpoint_files(path, drafter->tensors, 1, {{"format", "pt"}}));
  expect_error(run_with(), 1, {path, "layers.2.mlp.down_proj.weight"});
  options.target_layer_ids = {0, 8};
  ASSERT_TRUE(write_drafter(path, options));
  expect_error(run_with(), 1, {path + "/config.json", "target_layer_ids"});
}

TEST(CliErrors, Files) {
  expect_error(run_cli({"run", "--prompt-file", "/nowhere"}), 1, {"/nowhere", "No such file"});
  expect_error(run_cli({"score", "--file", "/nowhere"}), 1, {"/nowhere"});
  const TemporaryDirectory directory;
  const std::string bad = write_text(directory.path(), "bad.json", "[{\"role\": \"user\",]");
  expect_error(run_cli({"run", "--messages", bad}), 1, {bad, "line 1, column 18"});
  const std::string deep = write_text(directory.path(), "deep.json", std::string(5000, '['));
  expect_error(run_cli({"run", "--messages", deep}), 1, {deep, "deep"});
  const std::string no_role = write_text(directory.path(), "role.json", "[{\"content\": \"x\"}]");
  expect_error(run_cli({"run", "--messages", no_role}), 1, {no_role, "messages[0]", "role"});
  const std::string object = write_text(directory.path(), "object.json", "{}");
  expect_error(run_cli({"run", "--messages", object}), 1, {object});
  expect_error(run_cli({"run", "--user", "x", "--tools", object}), 1, {object, "array"});
  expect_error(run_cli({"serve", "--api-key-file", write_text(directory.path(), "key", "\n")}), 1,
               {"key", "empty"});
}

TEST(CliErrors, FlagsGiveExitCodeTwo) {
  expect_error(run_cli({}), 2, {"--help"});
  expect_error(run_cli({"dance"}), 2, {"dance"});
  expect_error(run_cli({"run", "--no-such-flag"}), 2, {"--no-such-flag"});
  expect_error(run_cli({"run", "--prompt", "a", "--user", "b"}), 2, {"--help"});
  expect_error(run_cli({"run", "--greedy", "--temperature", "1"}), 2, {"--temperature"});
  expect_error(run_cli({"run", "--seed", "many"}), 2, {"--seed"});
  expect_error(run_cli({"run", "--ranks", "3"}), 2, {"--ranks"});
  expect_error(run_cli({"run", "--activations", "int4"}), 2, {"--activations", "int8", "w4a8"});
  expect_error(run_cli({"run", "--kv-cache", "int8"}), 2, {"--kv-cache", "bf16", "fp8"});
  expect_error(run_cli({"run", "--dense-dtype", "bf16"}), 2, {"--dense-dtype", "checkpoint"});
  expect_error(run_cli({"run", "--executor", "gpu"}), 2, {"--executor", "graph"});
  expect_error(run_cli({"score"}), 2, {"--help"});
  expect_error(run_cli({"inspect", "--svg", "x.svg"}), 2, {"--graph"});
  expect_error(run_cli({"serve", "--port", "100000"}), 2, {"--port = 100000", "too large"});
  expect_error(run_cli({"run", "-n", "-1"}), 2, {"--max-tokens = -1", "not a number"});
  expect_error(run_cli({"plan", "--config", "x", "--context", "0"}), 2, {"--context"});
}

TEST(CliErrors, Values) {
  expect_error(run_cli({"run", "--sample", "poem"}), 1, {"poem", "--list-samples"});
  expect_error(run_cli({"run", "--prompt", "x", "--logit-bias", "1=a"}), 1, {"1=a", "ID=BIAS"});
  expect_error(run_cli({"run", "--prompt", "x", "--stop", ""}), 1, {"stop"});
}

TEST(CliErrors, ValuesOutOfRangeNameTheirFlags) {
  expect_error(run_cli({"run", "--temperature", "-1"}), 2, {"--temperature", "-1", "100"});
  expect_error(run_cli({"run", "--top-p", "2"}), 2, {"--top-p", "2", "above 0 to 1"});
  expect_error(run_cli({"run", "--top-p", "0"}), 2, {"--top-p"});
  expect_error(run_cli({"chat", "--min-p", "1"}), 2, {"--min-p", "from 0 to below 1"});
  expect_error(run_cli({"run", "--repetition-penalty", "0"}), 2, {"--repetition-penalty"});
  expect_error(run_cli({"run", "--presence-penalty", "3"}), 2, {"--presence-penalty"});
  expect_error(run_cli({"run", "--frequency-penalty", "-3"}), 2, {"--frequency-penalty"});
  expect_error(run_cli({"run", "--logprobs", "1000"}), 2, {"--logprobs", "1000", "128"});
  expect_error(run_cli({"run", "--logprobs", "3"}), 2, {"--logprobs", "--json"});
}

TEST(CliErrors, DecodeSteps) {
  for (const char* width : {"7", "65", "many"}) {
    expect_error(run_cli({"serve", "--decode-width", width}), 2, {"--decode-width", width});
  }
  expect_error(run_cli({"serve", "--decode-width", "65"}), 2, {"not in range 8 to 64"});
  expect_error(run_cli({"serve", "--port", "0", "--drafter", "suffix", "--decode-width", "16",
                        "--block", "17"}),
               1, {"--decode-width 16", "17 columns of a block (see --block)"});
  expect_error(run_cli({"bench", "decode", "--decode-width", "8"}), 2, {"--decode-width"});
}

TEST(CliErrors, ValuesOutOfRangeAreSaidBeforeTheWeightsAreLoaded) {
  expect_error(run_cli({"run", "--prompt", "x", "--logit-bias", "99999=1"}), 1, {"99999"});
  expect_error(run_cli({"run", "--prompt", "x y z", "--context", "2"}), 1, {"--context"});
  expect_error(run_cli({"run", "--prompt", "x", "--context", "100000"}), 1,
               {"--context 100000", "8192"});
  expect_error(run_cli({"run", "--prompt", ""}), 1, {"the prompt", "empty"});
}

// Where somebody meant to set a key; the host ends what goes on without one.
TEST(CliErrors, EmptyKeysDoNotOpenTheServer) {
  const std::vector<std::string> arguments = {"serve", "--host", "no.such.host.invalid"};
  for (const std::string flag : {"--api-key", "--api-key-file"}) {
    std::vector<std::string> empty = arguments;
    empty.insert(empty.end(), {flag, ""});
    expect_error(run_cli(empty), 2, {flag + ": empty", "without a key"});
    expect_error(run_cli({"serve", flag + "="}), 2, {flag});
  }
  for (const std::string name : {"ULTRASPEED_API_KEY", "ULTRASPEED_API_KEY_FILE"}) {
    expect_error(run_cli(arguments, "", {name + "="}), 1, {name + " is empty", "unset it"});
    std::vector<std::string> with_key = arguments;
    with_key.insert(with_key.end(), {"--api-key", "secret"});  // wins over the environment
    expect_error(run_cli(with_key, "", {name + "="}), 1, {"no.such.host.invalid"});
  }
}

TEST(CliErrors, AHostThatDoesNotExist) {
  const Finished finished = run_cli({"serve", "--host", "no.such.host.invalid"});
  // One line: the weights were not loaded for this.
  expect_error(finished, 1, {"no.such.host.invalid"});
}

TEST(CliErrors, APortInUseIsSaidBeforeTheWeightsAreLoaded) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  expect_error(run_cli({"serve", "--port", port}), 1, {port, "in use", "another host or port"});
  close(listener);
}

TEST(CliErrors, KvEventsThatNobodyCouldUse) {
  const auto serve = [](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {"serve", "--port", "0"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_cli(arguments);
  };
  const std::string endpoint = "tcp://127.0.0.1:*";
  expect_error(serve({"--kv-events", "here"}), 1, {"--kv-events here", "such as tcp://*:5557"});
  expect_error(serve({"--kv-events", endpoint, "--no-prefix-caching"}), 1,
               {"--no-prefix-caching", "leave one"});
  expect_error(serve({"--kv-events", endpoint, "--api-key", "a"}), 1,
               {"--kv-events", "--shared-prefix-cache"});
  expect_error(serve({"--kv-events-topic", "a"}), 2, {"--kv-events-topic requires"});
  expect_error(serve({"--kv-events-replay", endpoint}), 2, {"--kv-events-replay requires"});
}

TEST(Cli, BenchServeSaysWhatIsWrong) {
  expect_error(run_cli({"bench", "serve", "--url", "localhost:8000"}), 2,
               {"--url", "'localhost:8000'", "http://HOST"});
  expect_error(run_cli({"bench", "serve", "--url", "https://localhost:1"}), 1,
               {"localhost:1", "refused"});
  expect_error(run_cli({"bench", "serve", "--url", "http://no.such.host.invalid"}), 1,
               {"no.such.host.invalid", "not an address or known name"});
  expect_error(run_cli({"bench", "serve", "--api-key", "a b"}), 2, {"--api-key", "no spaces"});
  expect_error(run_cli({"bench", "serve", "--rate", "0"}), 2, {"--rate"});
  expect_error(run_cli({"bench", "serve", "--concurrency", "0"}), 2, {"--concurrency"});
  expect_error(run_cli({"bench", "serve", "--prompts", "/no/such.jsonl"}), 1, {"/no/such.jsonl"});
  expect_error(run_cli({"bench", "serve", "--json", "/no/such/file.json"}), 1,
               {"/no/such/file.json"});
}

TEST(Cli, HelpAndVersion) {
  const Finished version = run_cli({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(version.output.starts_with("ultraspeed 0."));
  const Finished help = run_cli({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* name :
       {"run", "chat", "serve", "score", "inspect", "plan", "doctor", "bench", "report"}) {
    EXPECT_NE(help.output.find(name), std::string::npos) << name;
    EXPECT_EQ(run_cli({name, "--help"}).exit_code, 0);
  }
}

TEST(Cli, HelpSaysWhatIsDone) {
  // Words alone: lines are broken where the terminal asks for it.
  const auto words_of = [](const std::vector<std::string>& arguments) {
    std::istringstream help(run_cli(arguments).output);
    std::string all;
    for (std::string word; help >> word;) all += word + " ";
    return all;
  };
  EXPECT_NE(words_of({"train-drafter", "capture", "--help"})
                .find("the second, the last but two, and evenly between them one, or three in "
                      "models of more than 8 layers: 1, 3, 5 of 8"),
            std::string::npos);
  EXPECT_NE(words_of({"score", "--help"})
                .find("with --against it has the figures of the "
                      "comparison alone"),
            std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
