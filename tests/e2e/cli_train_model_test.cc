// ultraspeed train-model: texts to token files, and the trainers behind the other subcommands.
#include <gtest/gtest.h>

#include <algorithm>

#include "e2e/cli.h"
#include "support/temporary_directory.h"
#include "train/token_file.h"

namespace ultraspeed::test {
namespace {

TEST(TrainModel, TokensAreThoseOfTheTexts) {
  const TemporaryDirectory directory;
  const std::string one = write_text(directory.path(), "one.py", "def f(x):\n    return x\n");
  const std::string two = write_text(directory.path(), "two.py", "<|im_end|>");
  const std::string list = write_text(directory.path(), "list", one + "\n");
  const std::string out = directory.path() + "/texts.tokens";
  const Finished finished =
      run_cli({"train-model", "tokens", "--file", two, "--list", list, "--out", out});
  ASSERT_EQ(finished.exit_code, 0) << finished.errors;
  const auto tokens = train::TokenFile::read(out);
  ASSERT_TRUE(tokens.has_value()) << tokens.error().message;
  EXPECT_EQ(tokens->vocab_size, 12288u);
  EXPECT_EQ(tokens->num_texts, 2u);
  // The bundled model ends texts with 0; <|im_end|>, 2, is no token where a text says it.
  ASSERT_GT(tokens->ids.size(), 8u);
  EXPECT_EQ(std::count(tokens->ids.begin(), tokens->ids.end(), 0), 2);
  EXPECT_EQ(std::count(tokens->ids.begin(), tokens->ids.end(), 2), 0);
  EXPECT_EQ(tokens->ids.back(), 0);
  EXPECT_NE(finished.output.find("2 texts, " + std::to_string(tokens->ids.size()) + " tokens"),
            std::string::npos)
      << finished.output;
}

TEST(TrainModel, SaysWhatIsMissing) {
  const TemporaryDirectory directory;
  const std::string out = directory.path() + "/x";
  Finished finished = run_cli({"train-model", "tokens", "--out", out});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_NE(finished.errors.find("give --file TEXT... or --list FILE"), std::string::npos);
  finished = run_cli({"train-model", "tokens", "--out", out, "--file", directory.path() + "/no"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_NE(finished.errors.find("/no"), std::string::npos) << finished.errors;
  for (const char* task : {"pretrain", "qat"}) {
    finished = run_cli({"train-model", task, "--bogus", "1"});
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_NE(finished.errors.find(US_HAS_TRAINERS ? "unknown flag '--bogus'" : "libtorch-dev"),
              std::string::npos)
        << finished.errors;
  }
}

}  // namespace
}  // namespace ultraspeed::test
