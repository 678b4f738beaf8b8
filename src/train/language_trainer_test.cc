// Runs from token files to checkpoint folders: pretraining and quantisation-aware training lower
// their losses, a run that was stopped goes on to the same bits, and what does not fit is named.
#include "train/language_trainer.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/philox.h"
#include "support/temporary_directory.h"
#include "train/token_file.h"
#include "train/train_model.h"

namespace ultraspeed::train {
namespace {

constexpr uint32_t kNumTokens = 40;

class LanguageTrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    write_tokens("train", 20000, 1);
    write_tokens("eval", 4000, 2);
  }

  // Each token follows from the two before it, seven times of eight.
  void write_tokens(const std::string& name, uint32_t count, uint64_t seed,
                    uint32_t vocab = kNumTokens, int32_t end = 0) const {
    std::vector<int32_t> text = {3, 4};
    for (uint32_t i = 2; i < count; ++i) {
      const uint32_t bits = random_bits(seed, 1, i);
      const int32_t next = (3 * text[i - 1] + 5 * text[i - 2]) % 16;
      text.push_back(bits % 8 == 0 ? static_cast<int32_t>(bits / 8 % 16) : next);
    }
    TokenFile tokens;
    tokens.vocab_size = vocab;
    tokens.add_text(text, end);
    ASSERT_TRUE(tokens.write(path(name)).has_value());
  }

  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

  LanguageOptions options(LanguageTask task = LanguageTask::kPretrain) const {
    LanguageOptions options = default_options(task);
    options.tokens = path("train");
    options.eval_tokens = path("eval");
    options.output = path("model");
    options.shape.hidden_size = 32;
    options.shape.num_layers = 2;
    options.shape.intermediate_size = 48;
    options.shape.num_experts = 8;
    options.shape.num_experts_per_token = 2;
    options.shape.moe_intermediate_size = 32;
    options.shape.num_q_heads = 2;
    options.shape.num_kv_heads = 1;
    options.shape.head_dim = options.shape.v_head_dim = options.shape.rotary_dim = 16;
    options.shape.sliding_window = 4;
    options.length = 16;
    options.sequences_per_pass = 16;
    options.num_steps = 150;
    options.log_every = 50;
    options.eval_every = 1000;
    options.eval_sequences = 250;
    if (task == LanguageTask::kPretrain) {
      options.muon_learning_rate = options.learning_rate = 0.02;
    } else {
      options.teacher = path("pretrained");
      options.learning_rate = 2e-3;
    }
    return options;
  }

  std::unique_ptr<LanguageTrainer> open(const LanguageOptions& options) {
    auto trainer =
        LanguageTrainer::open(options, [this](const std::string& line) { log_ += line + "\n"; });
    EXPECT_TRUE(trainer.has_value()) << trainer.error().message;
    return trainer ? std::move(*trainer) : nullptr;
  }

  static std::vector<double> losses(LanguageTrainer* trainer, int count) {
    std::vector<double> result;
    for (int i = 0; i < count; ++i) result.push_back(trainer->step().value().loss);
    return result;
  }

  static std::string error_of(const LanguageOptions& options) {
    const auto trainer = LanguageTrainer::open(options, [](const std::string&) {});
    return trainer ? std::string() : trainer.error().message;
  }

  // A net that knows the texts, or one that is as good as new.
  void pretrain(uint64_t num_steps) {
    LanguageOptions run = options();
    run.num_steps = num_steps;
    run.checkpoint = path("pretrained");
    const auto done = open(run)->run();
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }

  test::TemporaryDirectory directory_;
  std::string log_;
};

TEST_F(LanguageTrainerTest, LearnsAndIsQuantisedWithoutForgetting) {
  pretrain(150);
  const auto trained = open([&] {
    LanguageOptions run = options();
    run.checkpoint = path("pretrained");
    return run;
  }());
  EXPECT_EQ(trained->num_steps_done(), 150u);
  const double nll = trained->evaluate().value().nll;
  EXPECT_LT(nll, 1.5);  // log 16 = 2.77 of nothing learned; 0.70 of the texts themselves
  EXPECT_TRUE(std::filesystem::exists(path("model") + "/config.json"));

  LanguageOptions qat = options(LanguageTask::kQat);
  qat.num_steps = 300;
  qat.output = path("qat");
  const auto trainer = open(qat);
  const LanguageEvaluation ptq = trainer->evaluate().value();
  const auto is_complete = trainer->run();
  ASSERT_TRUE(is_complete.has_value()) << is_complete.error().message;
  const LanguageEvaluation after = trainer->evaluate().value();
  std::printf("%sKL %.5f -> %.5f, same token %.4f -> %.4f\n", log_.c_str(), ptq.kl, after.kl,
              ptq.agreement, after.agreement);
  EXPECT_NEAR(after.teacher_nll, nll, 0.01);  // the teacher is rounded to BF16
  EXPECT_LT(after.kl, 0.4 * ptq.kl);
  EXPECT_GT(after.agreement, ptq.agreement);
}

TEST_F(LanguageTrainerTest, GoesOnToTheSameBits) {
  pretrain(3);
  for (const LanguageTask task : {LanguageTask::kPretrain, LanguageTask::kQat}) {
    LanguageOptions whole = options(task);
    whole.num_steps = 8;
    whole.passes_per_step = 2;
    const auto expected = losses(open(whole).get(), 8);
    for (const int stop : {1, 5}) {
      LanguageOptions parts = whole;
      parts.checkpoint = path(fmt::format("run-{}-{}", static_cast<int>(task), stop));
      const auto first = open(parts);
      std::vector<double> actual = losses(first.get(), stop);
      ASSERT_TRUE(first->save().has_value());
      const auto second = open(parts);
      EXPECT_EQ(second->num_steps_done(), static_cast<uint64_t>(stop));
      ASSERT_TRUE(second->evaluate().has_value());  // on the way, it changes nothing
      for (const double loss : losses(second.get(), 8 - stop)) actual.push_back(loss);
      EXPECT_EQ(actual, expected) << stop;
    }
  }
}

TEST_F(LanguageTrainerTest, StopsInTimeAndGoesOnLater) {
  LanguageOptions parts = options();
  parts.num_steps = 3;
  parts.checkpoint = path("run");
  parts.minutes = 1e-9;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(open(parts)->run().value(), i == 3);
    EXPECT_TRUE(std::filesystem::exists(path("model") + "/model.safetensors"));
  }
  EXPECT_NE(log_.find("stopped in time after 2 of 3 steps"), std::string::npos) << log_;
  EXPECT_NE(log_.find("done after 3 of 3 steps"), std::string::npos) << log_;
}

TEST_F(LanguageTrainerTest, PassesOfAStepAddUpInAnyChunks) {
  LanguageOptions one = options();
  one.num_steps = 3;
  LanguageOptions four = one;
  four.sequences_per_pass = 4;
  four.passes_per_step = 4;
  four.chunk_rows = 5;
  const auto expected = losses(open(one).get(), 3), actual = losses(open(four).get(), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(actual[i], expected[i], 1e-3 * expected[i]) << i;
}

TEST_F(LanguageTrainerTest, ExpertsAloneLearnOrWithRoutersOrWithoutButNeverTheirBiases) {
  pretrain(2);
  for (const Trained trained : {Trained::kExperts, Trained::kAllButRouters, Trained::kAll}) {
    LanguageOptions qat = options(LanguageTask::kQat);
    qat.trained = trained;
    qat.num_steps = 2;
    const auto trainer = open(qat);
    std::map<std::string, torch::Tensor> before;
    for (const Parameter& p : trainer->net().parameters()) {
      before[p.name] = p.value.detach().clone();
    }
    losses(trainer.get(), 2);
    for (const Parameter& p : trainer->net().parameters()) {
      const bool stays = is_router(p) && (trained != Trained::kAll || p.name.ends_with("bias"));
      const bool learns = is_expert(p) || (trained != Trained::kExperts && !stays);
      EXPECT_EQ(torch::equal(p.value, before[p.name]), !learns) << p.name;
    }
  }
}

TEST_F(LanguageTrainerTest, CrossEntropyIsALossOfQatTooAndMuonAnOptimizer) {
  pretrain(2);
  LanguageOptions qat = options(LanguageTask::kQat);
  qat.loss.kl_divergence = 0;
  qat.loss.cross_entropy = 1;
  qat.matrix_optimizer = MatrixOptimizer::kMuon;
  qat.muon_learning_rate = 0.01;
  qat.num_steps = 20;
  const auto trainer = open(qat);
  const double before = trainer->evaluate().value().nll;
  losses(trainer.get(), 20);
  EXPECT_LT(trainer->evaluate().value().nll, before);
}

TEST_F(LanguageTrainerTest, EvaluatesInF32WhateverItComputesIn) {
  pretrain(2);
  LanguageOptions qat = options(LanguageTask::kQat);
  std::vector<LanguageEvaluation> seen;
  std::vector<double> learned;
  for (const torch::Dtype compute : {torch::kFloat32, torch::kBFloat16}) {
    qat.compute = compute;
    const auto trainer = open(qat);
    seen.push_back(trainer->evaluate().value());
    learned.push_back(trainer->step().value().loss);
  }
  EXPECT_EQ(seen[0].nll, seen[1].nll);
  EXPECT_EQ(seen[0].kl, seen[1].kl);
  EXPECT_NE(learned[0], learned[1]);
}

TEST_F(LanguageTrainerTest, NamesWhatDoesNotFit) {
  pretrain(1);
  LanguageOptions wrong = options();
  wrong.tokens = path("none");
  EXPECT_NE(error_of(wrong).find("/none"), std::string::npos);
  wrong = options();
  wrong.length = 40000;
  EXPECT_NE(error_of(wrong).find("/train: 20001 tokens; expected more than --length 40000"),
            std::string::npos)
      << error_of(wrong);
  wrong = options();
  wrong.shape.hidden_size = 48;
  EXPECT_NE(error_of(wrong).find("multiples of 32"), std::string::npos) << error_of(wrong);
  wrong = options();
  wrong.checkpoint = path("pretrained");
  EXPECT_NE(error_of(wrong).find("is of another run"), std::string::npos) << error_of(wrong);
  wrong = options();
  wrong.shape.sliding_window = UINT32_MAX;
  EXPECT_EQ(error_of(wrong), "--window is at most 8192");
  wrong = options();
  wrong.output = path("eval");
  EXPECT_NE(error_of(wrong).find("--out: "), std::string::npos) << error_of(wrong);
  wrong = options(LanguageTask::kQat);
  wrong.teacher = path("train");
  EXPECT_NE(error_of(wrong).find("/train: is no checkpoint"), std::string::npos);
  write_tokens("ends", 100, 1, kNumTokens, 2);
  wrong = options();
  wrong.tokens = path("ends");
  EXPECT_NE(error_of(wrong).find("/ends: texts end with token 2, which is not the model's --eos 0"),
            std::string::npos)
      << error_of(wrong);
  write_tokens("large", 100, 1, kNumTokens + 1);
  wrong = options(LanguageTask::kQat);
  wrong.tokens = path("large");
  EXPECT_NE(error_of(wrong).find("of a vocabulary of 41 tokens, not 40"), std::string::npos)
      << error_of(wrong);
}

TEST_F(LanguageTrainerTest, TheProgramTrainsAndFailsWithASentence) {
  const std::vector<std::string> run = {"pretrain",   "--tokens",    path("train"),
                                        "--out",      path("model"), "--steps",
                                        "1",          "--layers",    "2",
                                        "--hidden",   "32",          "--inner",
                                        "32",         "--heads",     "2",
                                        "--kv-heads", "1",           "--expert-inner",
                                        "32",         "--length",    "8"};
  EXPECT_EQ(train_model(run), 0);
  EXPECT_EQ(train_model(std::vector<std::string>{"pretrain", "--help"}), 0);
  EXPECT_EQ(train_model(std::vector<std::string>{"qat", "--help"}), 0);
  EXPECT_EQ(train_model(std::vector<std::string>{"qat"}), 1);
  EXPECT_EQ(train_model(std::vector<std::string>{"tune"}), 1);
  EXPECT_EQ(train_model({}), 1);
}

TEST(LanguageOptions, ARunSaysItsShapeAgain) {
  LanguageOptions options = default_options(LanguageTask::kPretrain);
  options.shape.vocab_size = 77;
  options.shape.rope_theta = 1.1F;
  options.shape.num_experts = 9;
  options.task = LanguageTask::kQat;
  const auto trained = shape_of_run(describe_run(options));
  ASSERT_FALSE(trained.has_value());
  EXPECT_NE(trained.error().message.find("a run of pretrain is expected"), std::string::npos);
  options.task = LanguageTask::kPretrain;
  const auto shape = shape_of_run(describe_run(options));
  ASSERT_TRUE(shape.has_value()) << shape.error().message;
  EXPECT_EQ(shape->vocab_size, 77u);
  EXPECT_EQ(shape->rope_theta, 1.1F);
  EXPECT_EQ(shape->num_experts, 9u);
  EXPECT_FALSE(shape_of_run("hidden 32 layers 3; seed 1").has_value());
}

TEST(LanguageOptions, FlagsAreCheckedAndOfTheirTask) {
  const auto error = [](LanguageTask task, std::vector<std::string> more) {
    std::vector<std::string> all = {"--tokens", "t", "--out", "o"};
    if (task == LanguageTask::kQat) all.insert(all.end(), {"--teacher", "c"});
    all.insert(all.end(), more.begin(), more.end());
    const auto options = parse_language_flags(task, all);
    return options ? std::string() : options.error().message;
  };
  constexpr LanguageTask kPretrain = LanguageTask::kPretrain, kQat = LanguageTask::kQat;
  EXPECT_EQ(error(kPretrain, {}), "");
  EXPECT_EQ(error(kQat, {"--train", "experts", "--ce", "0.5"}), "");
  EXPECT_EQ(error(kQat, {"--layers", "2"}), "unknown flag '--layers'; see --help");
  EXPECT_EQ(error(kPretrain, {"--kl", "1"}), "unknown flag '--kl'; see --help");
  EXPECT_NE(error(kQat, {"--kl", "0"}).find("not all 0"), std::string::npos);
  EXPECT_NE(error(kPretrain, {"--length", "0"}).find("at least 1"), std::string::npos);
  EXPECT_NE(error(kPretrain, {"--balance", "-1"}).find("--balance"), std::string::npos);
  EXPECT_EQ(parse_language_flags(kPretrain, {}).error().message, "--tokens is needed");
}

}  // namespace
}  // namespace ultraspeed::train
