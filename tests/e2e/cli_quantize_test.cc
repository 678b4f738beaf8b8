// ultraspeed quantize, and score --against: from flags to files and tables.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "e2e/cli.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

class QuantizeCli : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(source_);
    GeneratorOptions options;
    options.linear_format = options.expert_format = tensor::WeightFormat::kBf16;
    const auto generated = write_checkpoint(source_, options);
    ASSERT_TRUE(generated) << generated.error().message;
  }

  void expect_error(const std::vector<std::string>& arguments, int exit_code,
                    const std::string& part) const {
    const Finished finished = run_cli(arguments);
    EXPECT_EQ(finished.exit_code, exit_code);
    EXPECT_EQ(finished.output, "");
    EXPECT_TRUE(finished.errors.starts_with("ultraspeed: ")) << finished.errors;
    EXPECT_NE(finished.errors.find(part), std::string::npos) << finished.errors;
  }

  TemporaryDirectory folder_;
  std::string source_ = folder_.path() + "/source";
  std::string target_ = folder_.path() + "/target";
};

TEST_F(QuantizeCli, WritesACheckpointAndATable) {
  const Finished finished =
      run_cli({"quantize", source_, target_, "--scale-rule", "search", "--head", "fp8", "--memory",
               "2MB", "--shard-bytes", "200kB", "--threads", "2"});
  ASSERT_EQ(finished.exit_code, 0) << finished.errors;
  for (const std::string part : {"experts", "MXFP4", "q, k, v projections", "as it was",
                                 "files of weights, each read again", "quantize_report.json"}) {
    EXPECT_NE(finished.output.find(part), std::string::npos) << finished.output;
  }
  EXPECT_GT(std::distance(std::filesystem::directory_iterator(target_), {}), 5);
  EXPECT_FALSE(std::filesystem::exists(target_ + "/.quantize"));
  const Finished run = run_cli({"run", "--model", target_, "--prompt-ids", "1,2,3", "--max-tokens",
                                "4", "--greedy", "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
}

TEST_F(QuantizeCli, ScoreAgainstTheSource) {
  ASSERT_EQ(run_cli({"quantize", source_, target_}).exit_code, 0);
  const std::vector<std::string> compare = {"score", "--model",      target_,        "--against",
                                            source_, "--prompt-ids", "1,2,3,4,5,6,7"};
  const auto json = run_cli_json(compare);
  EXPECT_EQ(json["num_scored"], 6);
  EXPECT_GT(json["kl_mean"], 1e-5);
  EXPECT_LT(json["kl_mean"], 0.5);
  const Finished table = run_cli(compare);
  EXPECT_EQ(table.exit_code, 0);
  EXPECT_NE(table.output.find("same top token"), std::string::npos) << table.output;
  std::vector<std::string> wrong = compare;
  wrong.insert(wrong.end(), {"--ranks", "2"});
  expect_error(wrong, 1, "--against: compares on the processor");
}

TEST_F(QuantizeCli, CalibratesOnAText) {
  GeneratorOptions options;
  options.expert_format = tensor::WeightFormat::kBf16;
  options.vocab_size = 12288;  // the tokenizer's
  ASSERT_TRUE(write_checkpoint(source_, options));
  std::filesystem::copy_file(kTinyMimo + "/tokenizer.json", source_ + "/tokenizer.json");
  const std::string text = folder_.path() + "/text";
  std::ofstream file(text);
  for (int i = 0; i < 200; ++i) file << i << " and " << 7 * i << " are numbers.\n";
  file.close();
  const Finished finished = run_cli({"quantize", source_, target_, "--calibrate", text,
                                     "--calibrate-tokens", "300", "--threads", "2"});
  ASSERT_EQ(finished.exit_code, 0) << finished.errors;
  EXPECT_NE(finished.errors.find("Calibrating: 300 tokens"), std::string::npos) << finished.errors;
  EXPECT_NE(finished.errors.find("ultraspeed: --calibrate: 300 tokens may make the model worse"),
            std::string::npos)
      << finished.errors;
  const Finished run = run_cli({"run", "--model", target_, "--prompt-ids", "1,2,3", "--max-tokens",
                                "4", "--greedy", "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  const std::string plain = folder_.path() + "/plain";
  ASSERT_EQ(run_cli({"quantize", source_, plain}).exit_code, 0);
  const auto errors_of = [](const std::string& folder) {
    return nlohmann::json::parse(std::ifstream(folder + "/quantize_report.json"))["kinds"];
  };
  EXPECT_NE(errors_of(target_), errors_of(plain));
}

TEST_F(QuantizeCli, Errors) {
  expect_error({"quantize", source_, source_}, 1, "is the source");
  expect_error({"quantize", source_ + "/none", target_}, 1, "no such folder");
  expect_error({"quantize", source_}, 2, "target is required");
  expect_error({"quantize", source_, target_, "--scale-rule", "ceil"}, 2, "--scale-rule");
  expect_error({"quantize", source_, target_, "--memory", "much"}, 2, "much");
  expect_error({"quantize", source_, target_, "--memory", "10kB"}, 1, "--memory 10000");
  expect_error({"quantize", source_, target_, "--memory", "-1"}, 2,
               "--memory: Value -1 is no size");
  expect_error({"quantize", source_, target_, "--shard-bytes=-2GB"}, 2, "Value -2GB is no size");
  expect_error({"quantize", source_, target_, "--damping", "0.1"}, 2, "--calibrate");
  const std::string text = folder_.path() + "/text";
  expect_error({"quantize", source_, target_, "--calibrate", text, "--calibrate-tokens", "100"}, 2,
               "--calibrate-tokens");
  expect_error({"quantize", source_, target_, "--calibrate", text}, 1, text);
  std::ofstream(text) << "A short text.";
  expect_error({"quantize", source_, target_, "--calibrate", text}, 1, "no tokenizer.json");
  for (const std::string damping : {"0", "nan", "inf", "2e6", "much"}) {
    expect_error({"quantize", source_, target_, "--calibrate", text, "--damping", damping}, 2,
                 "--damping: Value " + damping + " not in range 1e-06 to 1000000");
  }
  EXPECT_FALSE(std::filesystem::exists(target_));
}

}  // namespace
}  // namespace ultraspeed::test
