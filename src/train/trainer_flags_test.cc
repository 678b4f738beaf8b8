// Flags: defaults, values, and the sentence for what is wrong.
#include "train/trainer_flags.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace ultraspeed::train {
namespace {

std::vector<std::string> with(const std::vector<std::string>& more) {
  std::vector<std::string> all = {"--features", "f", "--tables", "t", "--out", "o"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string error_of(const std::vector<std::string>& arguments) {
  const auto options = parse_trainer_flags(arguments);
  return options ? std::string() : options.error().message;
}

TEST(TrainerFlags, DefaultsAreADrafterThatCanBeTrained) {
  const auto options = parse_trainer_flags(with({}));
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_TRUE(check_trainable(options->drafter).has_value());
  EXPECT_EQ(options->features, "f");
  EXPECT_EQ(options->drafter.layers.size(), 3u);
  EXPECT_EQ(options->drafter.layers[2].sliding_window, 128u);
  EXPECT_EQ(options->drafter.block_size, 8u);
  EXPECT_TRUE(options->device.is_cpu());
}

TEST(TrainerFlags, TakesValues) {
  const auto options = parse_trainer_flags(with(
      {"--layers",   "2",      "--window",  "0",   "--device",  "cuda", "--compute",    "bf16",
       "--lr",       "2.5e-4", "--weights", "auf", "--tv",      "0.9",  "--format",     "fp8",
       "--sinks",    "off",    "--theta",   "500", "--minutes", "19.5", "--muon-scale", "original",
       "--schedule", "linear", "--taps",    "1,5"}));
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_EQ(options->drafter.layers.size(), 2u);
  EXPECT_EQ(options->drafter.layers[0].sliding_window, 0u);
  EXPECT_FALSE(options->drafter.has_window_before_anchor);
  EXPECT_TRUE(options->device.is_cuda());
  EXPECT_EQ(options->compute, torch::kBFloat16);
  EXPECT_EQ(options->learning_rate, 2.5e-4);
  EXPECT_EQ(options->loss.weighting, Weighting::kAuf);
  EXPECT_EQ(options->loss.total_variation, 0.9);
  EXPECT_EQ(options->format, LinearFormat::kFp8);
  EXPECT_FALSE(options->drafter.has_sink);
  EXPECT_EQ(options->drafter.rope_theta, 500);
  EXPECT_EQ(options->minutes, 19.5);
  EXPECT_EQ(options->muon_scale, MuonScale::kOriginal);
  EXPECT_EQ(options->schedule, Schedule::kLinear);
  EXPECT_EQ(options->taps, (std::vector<uint32_t>{1, 5}));
}

TEST(TrainerFlags, TakesASelector) {
  EXPECT_EQ(parse_trainer_flags(with({"--selector-rank", "8"}))->drafter.selector.rank, 0u);
  const auto options = parse_trainer_flags(
      with({"--selector", "on", "--selector-rank", "48", "--candidates", "12", "--selector-loss",
            "0.5", "--train", "selector", "--warm-start", "dflash"}));
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_EQ(options->drafter.selector.rank, 48u);
  EXPECT_EQ(options->drafter.selector.num_candidates, 12u);
  EXPECT_EQ(options->loss.selection, 0.5);
  EXPECT_TRUE(options->trains_selector_alone);
  EXPECT_EQ(options->warm_start, "dflash");
}

TEST(TrainerFlags, SaysWhatIsWrong) {
  EXPECT_EQ(error_of({"--tables", "t", "--out", "o"}), "--features is needed");
  EXPECT_EQ(error_of({"--features", "f", "--tables", "t"}), "--out is needed");
  EXPECT_EQ(error_of(with({"--speed", "1"})), "unknown flag '--speed'; see --help");
  EXPECT_EQ(error_of(with({"--steps"})), "--steps needs a value");
  EXPECT_EQ(error_of(with({"--steps", "ten"})), "--steps 'ten': expected N");
  EXPECT_EQ(error_of(with({"--steps", "-1"})), "--steps '-1': expected N");
  EXPECT_EQ(error_of(with({"--lr", "nan"})), "--lr 'nan': expected N");
  for (const char* taps : {"", "1,", ",1", "5,1", "1,1", "1 5", "-1"}) {
    EXPECT_NE(error_of(with({"--taps", taps})).find("expected N,N,..."), std::string::npos) << taps;
  }
  EXPECT_EQ(error_of(with({"--device", "tpu"})), "--device 'tpu': expected cpu|cuda");
  EXPECT_NE(error_of(with({"--kv-heads", "3"})).find("--kv-heads divides --heads"),
            std::string::npos);
  EXPECT_NE(error_of(with({"--rotary-dim", "3"})).find("--rotary-dim is even"), std::string::npos);
  EXPECT_NE(error_of(with({"--rotary-dim", "66"})).find("--rotary-dim"), std::string::npos);
  for (const char* block : {"1", "65", "100000"}) {
    EXPECT_EQ(error_of(with({"--block", block})), "--block is 2 to 64");
  }
  EXPECT_EQ(error_of(with({"--window", "4294967295"})), "--window is at most 262144; 0: all");
  for (const char* share : {"7", "-0.1"}) {
    EXPECT_EQ(error_of(with({"--format", "fp8", "--fp8-from", share})),
              "--fp8-from lies in [0, 1]");
  }
  EXPECT_EQ(error_of(with({"--eval-texts", "0"})), "--eval-texts is at least 1");
  EXPECT_NE(error_of(with({"--lr", "0"})).find("are above 0"), std::string::npos);
  EXPECT_NE(error_of(with({"--alpha", "1.5"})).find("[0, 1]"), std::string::npos);
  EXPECT_NE(error_of(with({"--kl", "-1"})).find("not negative"), std::string::npos);
  EXPECT_NE(error_of(with({"--log-every", "0"})).find("at least 1"), std::string::npos);
  EXPECT_EQ(error_of(with({"--train", "selector"})), "--train selector needs --selector on");
  EXPECT_EQ(error_of(with({"--selector", "on", "--candidates", "17"})),
            "--selector-rank is 1 to 128, --candidates 2 to 16");
  EXPECT_NE(error_of(with({"--selector", "on", "--selector-loss", "-1"})).find("not negative"),
            std::string::npos);
  EXPECT_NE(error_of(with({"--theta", "0"})).find("above 0"), std::string::npos);
}

TEST(TrainerFlags, HelpNamesEachFlagOnce) {
  std::istringstream help(trainer_flags_help());
  std::set<std::string> names;
  for (std::string line; std::getline(help, line);) {
    EXPECT_LE(line.size(), 100u) << line;
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    EXPECT_TRUE(names.insert(name).second) << line;
    EXPECT_NE(error_of({name}), "unknown flag '" + name + "'; see --help");
  }
  EXPECT_TRUE(names.contains("--features") && names.contains("--checkpoint-every"));
}

TEST(TrainerFlags, TheProgramFailsWithASentence) {
  EXPECT_EQ(train_drafter(std::vector<std::string>{"--help"}), 0);
  EXPECT_EQ(train_drafter(std::vector<std::string>{"--steps", "1"}), 1);
  EXPECT_EQ(train_drafter(with({"--features", "no/such/folder"})), 1);
}

}  // namespace
}  // namespace ultraspeed::train
