// Runs of drafters with a selector: it learns what independent masks cannot, goes on to the same
// bits, and is added to a drafter that was trained without.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "train/trainer_fixture.h"

namespace ultraspeed::train {
namespace {

class SelectorTrainerTest : public TrainerTest {
 protected:
  void SetUp() override {
    TrainerTest::SetUp();
    Texts(directory_.path(), Told::kPair).write();
  }

  TrainerOptions selecting() const {
    TrainerOptions selecting = options();
    selecting.drafter.selector.rank = 4;
    selecting.drafter.selector.num_candidates = 6;
    return selecting;
  }
};

TEST_F(SelectorTrainerTest, LearnsWhatIndependentMasksCannot) {
  const auto trainer = open(selecting());
  ASSERT_TRUE(trainer->run().has_value());
  const Evaluation evaluation = trainer->evaluate().value();
  EXPECT_LT(evaluation.likeliest.accepted_length(), 2.3);
  EXPECT_GT(evaluation.acceptance.accepted_length(), 3);
  EXPECT_GE(evaluation.possible.accepted_length(), evaluation.acceptance.accepted_length());
  EXPECT_NE(log_.find("  the likeliest tokens alone: "), std::string::npos);
}

TEST_F(SelectorTrainerTest, GoesOnToTheSameBits) {
  TrainerOptions whole = selecting();
  whole.num_steps = 8;
  whole.format = LinearFormat::kFp8;
  const auto expected = losses(open(whole).get(), 8);
  TrainerOptions parts = whole;
  parts.checkpoint = directory_.path() + "/run";
  const auto first = open(parts);
  std::vector<double> actual = losses(first.get(), 5);
  ASSERT_TRUE(first->save().has_value());
  for (const double loss : losses(open(parts).get(), 3)) actual.push_back(loss);
  EXPECT_EQ(actual, expected);
  TrainerOptions other = parts;
  other.drafter.selector.rank = 3;
  EXPECT_NE(error_of(other).find("is of another run"), std::string::npos);
}

TEST_F(SelectorTrainerTest, BeginsWithAnotherDraftersWeightsAndLeavesThem) {
  TrainerOptions plain = options();
  const auto trained = open(plain);
  ASSERT_TRUE(trained->run().has_value());
  const double without = trained->evaluate().value().acceptance.accepted_length();
  TrainerOptions run = selecting();
  run.warm_start = plain.output;
  run.trains_selector_alone = true;
  run.output = directory_.path() + "/selecting";
  const auto trainer = open(run);
  const Evaluation before = trainer->evaluate().value();
  EXPECT_NEAR(before.likeliest.accepted_length(), without, 0.1);  // of weights rounded to BF16
  EXPECT_EQ(before.acceptance.num_cycles, before.likeliest.num_cycles);
  const torch::Tensor fc = trainer->net().at("fc.weight").clone();
  ASSERT_TRUE(trainer->run().has_value());
  const Evaluation after = trainer->evaluate().value();
  EXPECT_TRUE(torch::equal(trainer->net().at("fc.weight"), fc));
  EXPECT_EQ(after.likeliest.num_cycles, before.likeliest.num_cycles);
  EXPECT_GT(after.acceptance.accepted_length(), 1.3 * without);
  // And from what was written, selector and all.
  TrainerOptions again = selecting();
  again.warm_start = run.output;
  const Evaluation read = open(again)->evaluate().value();
  EXPECT_NEAR(read.acceptance.accepted_length(), after.acceptance.accepted_length(), 0.1);
}

// The selector alone, from another drafter; which one it was is part of the run.
TEST_F(SelectorTrainerTest, GoesOnFromAWarmStart) {
  TrainerOptions plain = options();
  plain.num_steps = 2;
  ASSERT_TRUE(open(plain)->run().has_value());
  TrainerOptions whole = selecting();
  whole.num_steps = 6;
  whole.warm_start = plain.output;
  whole.trains_selector_alone = true;
  const auto expected = losses(open(whole).get(), 6);
  TrainerOptions parts = whole;
  parts.checkpoint = directory_.path() + "/alone";
  const auto first = open(parts);
  std::vector<double> actual = losses(first.get(), 3);
  ASSERT_TRUE(first->save().has_value());
  for (const double loss : losses(open(parts).get(), 3)) actual.push_back(loss);
  EXPECT_EQ(actual, expected);
  for (const auto& change : std::vector<std::function<void(TrainerOptions*)>>{
           [](TrainerOptions* o) { o->trains_selector_alone = false; },
           [](TrainerOptions* o) { o->loss.selection = 2; },
           [](TrainerOptions* o) { o->loss.chunk_blocks = 7; },
           [](TrainerOptions* o) { o->drafter.selector.num_candidates = 4; },
           [](TrainerOptions* o) { o->warm_start.clear(); }}) {
    TrainerOptions other = parts;
    change(&other);
    EXPECT_NE(error_of(other).find("is of another run"), std::string::npos) << error_of(other);
  }
  plain.seed = 2;  // another drafter under the same name
  ASSERT_TRUE(open(plain)->run().has_value());
  EXPECT_NE(error_of(parts).find("is of another run"), std::string::npos);
}

TEST_F(SelectorTrainerTest, RefusesToBeginWithAnotherShape) {
  TrainerOptions plain = options();
  plain.num_steps = 1;
  ASSERT_TRUE(open(plain)->run().has_value());
  TrainerOptions other = plain;
  other.warm_start = plain.output;
  other.drafter.intermediate_size = 16;
  EXPECT_NE(error_of(other).find("mlp.gate_proj.weight' has 1024 numbers, and another shape"),
            std::string::npos)
      << error_of(other);
  other = plain;
  other.warm_start = plain.output;
  other.drafter.rope_theta = 200;  // of the same shapes
  EXPECT_NE(error_of(other).find("config.json: has '  \"rope_theta\": 100' where this run has '  "
                                 "\"rope_theta\": 200'"),
            std::string::npos)
      << error_of(other);
  other = plain;
  other.warm_start = plain.output;
  other.drafter.num_layers = 2;
  other.drafter.layers.push_back(other.drafter.layers[0]);
  EXPECT_NE(error_of(other).find("has no 'layers.1."), std::string::npos) << error_of(other);
  other.warm_start = directory_.path() + "/nothing";
  EXPECT_NE(error_of(other).find("/nothing/model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::train
