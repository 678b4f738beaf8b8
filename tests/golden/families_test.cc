// Each family's text and logits equal those of transformers, on one rank and on two, free-running
// with a drafter and without, and the comparison would notice if a part of its arithmetic were
// left out.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "base/check.h"
#include "cpu/executor.h"
#include "golden/expect_golden.h"
#include "golden/golden_texts.h"
#include "support/reference_folder.h"

namespace ultraspeed::test {
namespace {

class Family : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto directory = reference_folder(GetParam());
    ASSERT_TRUE(directory) << directory.error().message;
    directory_ = *directory;
    cases_ = reference_cases(directory_);
  }

  std::string directory_;
  std::vector<GoldenCase> cases_;
};

TEST_P(Family, EqualsTransformers) {
  for (const uint32_t ranks : {1u, 2u}) {
    RunnerOptions options;
    options.width = ranks == 1 ? 16 : 5;
    options.num_ranks = ranks;
    auto runner = ModelRunner::open(directory_, options);
    ASSERT_TRUE(runner) << runner.error().message;
    for (const GoldenCase& golden : cases_) expect_golden(&*runner, golden);
  }
}

TEST_P(Family, TheEngineWritesTheGoldenTexts) {
  expect_engine_texts(
      directory_, [] { return cpu::make_cpu_executor({}); }, cpu::cpu_limits(2));
}

INSTANTIATE_TEST_SUITE_P(Reference, Family, testing::ValuesIn(kFamilyFolders),
                         [](const auto& family) { return std::string(family.param); });

// --- The comparison notices what is left out ---

template <class Op>
void for_each_op(program::Program* program, const std::function<void(Op*)>& change) {
  for (program::Stage& stage : program->stages) {
    if (auto* op = std::get_if<Op>(&stage.operands)) change(op);
  }
}

struct LeftOut {
  const char* name;
  const char* family;
  std::function<void(program::Program*)> change;
};

class FamilyArithmetic : public testing::TestWithParam<LeftOut> {};

TEST_P(FamilyArithmetic, Shows) {
  const auto directory = reference_folder(GetParam().family);
  ASSERT_TRUE(directory) << directory.error().message;
  RunnerOptions options;
  options.width = 16;
  options.verify = false;
  options.change_program = GetParam().change;
  auto runner = ModelRunner::open(*directory, options);
  ASSERT_TRUE(runner) << runner.error().message;
  const auto result = compare(&*runner, reference_cases(*directory)[1]);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_GT(result->largest_difference, kGoldenTolerance);
}

template <class Op>
LeftOut left_out(const char* name, const char* family, void (*change)(Op*)) {
  return {name, family, [=](program::Program* program) { for_each_op<Op>(program, change); }};
}

INSTANTIATE_TEST_SUITE_P(
    Reference, FamilyArithmetic,
    testing::Values(
        left_out<program::QkvProjOperands>("QkvBias", "gpt_oss_mxfp4",
                                           [](auto* op) { op->bias = program::kNoId; }),
        left_out<program::QkvProjOperands>("YarnRamp", "gpt_oss_mxfp4",
                                           [](auto* op) { op->rope.ramp_slow += 1; }),
        left_out<program::QkvProjOperands>("YarnAttentionFactor", "gpt_oss_mxfp4",
                                           [](auto* op) { op->rope.attention_factor = 1; }),
        left_out<program::ReduceOperands>("OutputBias", "gpt_oss_mxfp4",
                                          [](auto* op) { op->bias = program::kNoId; }),
        left_out<program::RouteOperands>("RouterBias", "gpt_oss_mxfp4",
                                         [](auto* op) { op->bias = program::kNoId; }),
        left_out<program::ExpertGateUpOperands>("GateUpBias", "gpt_oss_mxfp4",
                                                [](auto* op) { op->bias = program::kNoId; }),
        left_out<program::ExpertGateUpOperands>("ClampedForm", "gpt_oss_mxfp4",
                                                [](auto* op) { op->clamp.limit = 0; }),
        left_out<program::ExpertDownOperands>("DownBias", "gpt_oss_mxfp4",
                                              [](auto* op) { op->bias = program::kNoId; }),
        left_out<program::RouteOperands>("NormOfChosen", "gpt_oss_mxfp4",
                                         [](auto* op) { op->norm_topk = 0; }),
        left_out<program::RouteOperands>("Softmax", "gpt_oss_mxfp4",
                                         [](auto* op) {
                                           op->scores = program::RouterScores::kSigmoid;
                                         }),
        left_out<program::QkvProjOperands>("StretchedRope", "llama_rope_tied",
                                           [](auto* op) {
                                             op->rope.scaling = tensor::Rope::Scaling::kNone;
                                           }),
        left_out<program::QkvProjOperands>("QueryNorm", "qwen3_sliding_fp8",
                                           [](auto* op) { op->q_norm = {}; }),
        left_out<program::AttentionOperands>("Window", "qwen3_sliding_fp8",
                                             [](auto* op) { op->window = 0; }),
        left_out<program::QkvProjOperands>("KeyNorm", "qwen3_moe_fp8",
                                           [](auto* op) { op->k_norm = {}; }),
        left_out<program::RouteOperands>("SoftmaxOfQwen", "qwen3_moe_fp8",
                                         [](auto* op) {
                                           op->scores = program::RouterScores::kSigmoid;
                                         })),
    [](const auto& part) { return std::string(part.param.name); });

}  // namespace
}  // namespace ultraspeed::test
