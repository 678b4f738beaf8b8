// Runs from shards to a drafter's folder: learning raises the accepted length, a run that was
// stopped goes on to the same bits, and what does not fit together is named.
#include "train/trainer.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/drafter.h"
#include "train/trainer_fixture.h"

namespace ultraspeed::train {
namespace {

TEST_F(TrainerTest, LearnsToReadTheFeatures) {
  const auto trainer = open(options());
  ASSERT_NE(trainer, nullptr);
  const double before = trainer->evaluate().value().acceptance.accepted_length();
  const auto is_complete = trainer->run();
  ASSERT_TRUE(is_complete.has_value()) << is_complete.error().message;
  EXPECT_TRUE(*is_complete);
  const double after = trainer->evaluate().value().acceptance.accepted_length();
  std::printf("%saccepted length %.2f -> %.2f\n", log_.c_str(), before, after);
  EXPECT_LT(before, 1.5);
  EXPECT_GT(after, 4);
  const auto drafter = model::Drafter::open(options().output);
  ASSERT_TRUE(drafter.has_value()) << drafter.error().message;
  EXPECT_TRUE(drafter->check_complete().has_value());
}

TEST_F(TrainerTest, GoesOnToTheSameBits) {
  TrainerOptions whole = options();
  whole.num_steps = 12;
  whole.format = LinearFormat::kFp8;
  whole.fp8_from = 0.5;
  const auto expected = losses(open(whole).get(), 12);
  for (const int stop : {1, 5, 11}) {
    TrainerOptions parts = whole;
    parts.checkpoint = directory_.path() + fmt::format("/run-{}", stop);
    const auto first = open(parts);
    std::vector<double> actual = losses(first.get(), stop);
    ASSERT_TRUE(first->save().has_value());
    const auto second = open(parts);
    EXPECT_EQ(second->num_steps_done(), static_cast<uint64_t>(stop));
    for (const double loss : losses(second.get(), 12 - stop)) actual.push_back(loss);
    EXPECT_EQ(actual, expected) << stop;
    // An evaluation on the way, and its rounding, change nothing.
    const auto third = open(parts);
    ASSERT_TRUE(third->evaluate().has_value());
    EXPECT_EQ(losses(third.get(), 1)[0], expected[static_cast<size_t>(stop)]);
  }
}

TEST_F(TrainerTest, StopsInTimeAndGoesOnLater) {
  TrainerOptions parts = options();
  parts.num_steps = 6;
  parts.checkpoint = directory_.path() + "/run";
  parts.minutes = 1e-9;
  for (int i = 1; i <= 6; ++i) {
    const auto trainer = open(parts);
    EXPECT_EQ(trainer->run().value(), i == 6);
    EXPECT_EQ(trainer->num_steps_done(), static_cast<uint64_t>(i));
    EXPECT_TRUE(std::filesystem::exists(parts.output + "/model.safetensors"));
  }
  EXPECT_NE(log_.find("stopped in time after 5 of 6 steps"), std::string::npos) << log_;
  EXPECT_NE(log_.find("done after 6 of 6 steps"), std::string::npos) << log_;
  EXPECT_TRUE(open(parts)->run().value());  // complete: exports once more
}

TEST_F(TrainerTest, PassesOfAStepAddUp) {
  for (const Weighting weighting : {Weighting::kDecay, Weighting::kDpace, Weighting::kAuf}) {
    TrainerOptions one = options();
    one.loss.weighting = weighting;
    one.loss.total_variation = 0.5;
    TrainerOptions four = one;
    four.sequences_per_pass = 2;
    four.passes_per_step = 4;
    const auto expected = losses(open(one).get(), 3), actual = losses(open(four).get(), 3);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(actual[i], expected[i], 1e-3 * expected[i]) << i;
  }
}

TEST_F(TrainerTest, LearnsFromTheTargetsOwnDistribution) {
  TrainerOptions soft = options();
  soft.num_steps = 40;
  soft.loss.cross_entropy = 0;
  soft.loss.kl_divergence = 1;
  const auto trainer = open(soft);
  const double before = trainer->evaluate().value().loss;
  losses(trainer.get(), 40);
  EXPECT_LT(trainer->evaluate().value().loss, 0.9 * before);
}

TEST_F(TrainerTest, NamesWhatDoesNotFit) {
  TrainerOptions wrong = options();
  wrong.features = directory_.path() + "/none";
  EXPECT_NE(error_of(wrong).find("/none: cannot list"), std::string::npos);
  Texts(directory_.path()).write_shard("other", 1, 1, "another target");
  wrong = options();
  wrong.features = directory_.path() + "/other";
  wrong.eval_features = "";
  EXPECT_NE(error_of(wrong).find("of 'another target'"), std::string::npos) << error_of(wrong);
  wrong = options();
  wrong.eval_features = directory_.path() + "/other";
  EXPECT_NE(error_of(wrong).find("/other: of another target"), std::string::npos);
  wrong = options();
  wrong.drafter.mask_token_id = kVocab;
  EXPECT_NE(error_of(wrong).find("mask token 24 of 24"), std::string::npos);
  wrong = options();
  wrong.sequences_per_pass = 0;
  EXPECT_NE(error_of(wrong).find("of 0 texts"), std::string::npos);
  wrong = options();
  wrong.drafter.layers[0].is_causal = true;
  EXPECT_NE(error_of(wrong).find("causal inside the block"), std::string::npos);
}

TEST_F(TrainerTest, DestinationsAreTriedAtTheStart) {
  TrainerOptions run = options();
  run.output = run.tables;
  EXPECT_NE(error_of(run).find("--out: " + run.tables + ": cannot make the folder"),
            std::string::npos)
      << error_of(run);
  run = options();
  run.checkpoint = run.features;
  EXPECT_NE(error_of(run).find("--checkpoint: " + run.features + ": cannot write: Is a directory"),
            std::string::npos)
      << error_of(run);
  run.checkpoint = directory_.path() + "/new/folder/run";
  const auto trainer = open(run);
  ASSERT_NE(trainer, nullptr);
  EXPECT_TRUE(trainer->save().has_value());
}

TEST_F(TrainerTest, RefusesACheckpointOfAnotherRunOrADamagedOne) {
  TrainerOptions run = options();
  run.checkpoint = directory_.path() + "/run";
  ASSERT_TRUE(open(run)->save().has_value());
  TrainerOptions other = run;
  other.seed = 2;
  EXPECT_NE(error_of(other).find("is of another run"), std::string::npos) << error_of(other);
  Texts(directory_.path()).write_shard("other", 24, 200);
  other = run;
  other.features = directory_.path() + "/other";
  EXPECT_NE(error_of(other).find("is of another run"), std::string::npos) << error_of(other);
  std::filesystem::resize_file(run.checkpoint, std::filesystem::file_size(run.checkpoint) - 1);
  EXPECT_NE(error_of(run).find("a damaged one"), std::string::npos) << error_of(run);
  std::filesystem::resize_file(run.checkpoint, 3);
  EXPECT_NE(error_of(run).find("a damaged one"), std::string::npos) << error_of(run);
}

TEST_F(TrainerTest, ALossThatIsNotFiniteEndsTheRun) {
  TrainerOptions wild = options();
  wild.learning_rate = wild.muon_learning_rate = 1e30;
  wild.warmup = 0;
  const auto trainer = open(wild);
  Result<StepReport> report = trainer->step();
  for (int i = 0; i < 5 && report; ++i) report = trainer->step();
  ASSERT_FALSE(report.has_value());
  EXPECT_NE(report.error().message.find("the loss is not finite"), std::string::npos);
}

TEST(Schedule, WarmsUpAndEndsAtZero) {
  TrainerOptions options;
  options.num_steps = 100;
  options.warmup = 0.04;
  EXPECT_DOUBLE_EQ(schedule_factor(options, 0), 0.2);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 3), 0.8);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 4), 1);
  EXPECT_NEAR(schedule_factor(options, 52), 0.5, 1e-12);
  EXPECT_NEAR(schedule_factor(options, 100), 0, 1e-12);
  options.schedule = Schedule::kLinear;
  EXPECT_NEAR(schedule_factor(options, 28), 0.75, 1e-12);
  options.warmup = 0;
  EXPECT_DOUBLE_EQ(schedule_factor(options, 0), 1);
}

TEST(SequenceOrder, TakesEveryTextOnceAnEpoch) {
  SequenceOrder order(5, 7);
  std::vector<std::vector<uint32_t>> epochs;
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<uint32_t>& texts = epochs.emplace_back();
    for (uint64_t i = 0; i < 7; ++i) texts.push_back(order.at(epoch * 7 + i));
    std::vector<uint32_t> sorted = texts;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, (std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6}));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_EQ(order.at(3), epochs[0][3]);  // back to an epoch
  EXPECT_NE(SequenceOrder(6, 7).at(0) * 7 + SequenceOrder(6, 7).at(1),
            epochs[0][0] * 7 + epochs[0][1]);
}

}  // namespace
}  // namespace ultraspeed::train
