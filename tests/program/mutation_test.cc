// Every damaged program is rejected by verify(), caught by running it, or provably equivalent.
#include <gtest/gtest.h>

#include "base/check.h"
#include "cpu/executor.h"
#include "program/mutation.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/model_runner.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

struct Counts {
  int rejected = 0;    // by verify()
  int caught = 0;      // by a run that got stuck or gave other bits
  int equivalent = 0;  // verified, the same work: proven equal, and seen to be
  int survived = 0;
  int total() const { return rejected + caught + equivalent + survived; }
};

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62};

class MutationTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    GeneratorOptions generator;
    // Sizes that two ranks can split.
    generator.intermediate_size = 512;
    generator.moe_intermediate_size = 64;
    generator.embedding_format = tensor::WeightFormat::kBf16;
    US_CHECK(write_checkpoint(directory_.path(), generator).has_value());
    base_ = open(nullptr, 1).value();
    expected_ = run(&*base_).value();
  }

  Result<ModelRunner> open(const program::Program* program, uint64_t seed) {
    RunnerOptions options;
    options.num_ranks = GetParam();
    options.num_workers = GetParam() == 1 ? 3 : 2;
    options.width = 6;
    options.max_context = 64;
    options.make_executor = [=] { return cpu::make_shuffled_executor(seed); };
    options.verify = false;
    if (program != nullptr) options.change_program = [=](auto* planned) { *planned = *program; };
    return ModelRunner::open(directory_.path(), options);
  }

  static Result<std::vector<TopLogits>> run(ModelRunner* runner) {
    return runner->feed(kPrompt, 4, 256);
  }

  // Runs a program that verify() accepted in three random orders.
  bool runs_alike(const program::Program& program) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      auto runner = open(&program, seed);
      if (!runner) return false;
      const auto result = run(&*runner);
      if (!result || result->size() != expected_.size()) return false;
      for (size_t i = 0; i < expected_.size(); ++i) {
        if ((*result)[i].ids != expected_[i].ids) return false;
        if ((*result)[i].logits != expected_[i].logits) return false;
      }
    }
    return true;
  }

  TemporaryDirectory directory_;
  std::optional<ModelRunner> base_;
  std::vector<TopLogits> expected_;
};

TEST_P(MutationTest, NoneSurvives) {
  const program::Program& original = base_->program();
  ASSERT_TRUE(program::verify(original));
  ASSERT_TRUE(runs_alike(original));
  std::mt19937_64 random(GetParam());
  Counts counts;
  const int wanted = scaled(700);
  while (counts.total() < wanted) {
    program::Program program = original;
    const auto what = mutate(&program, &random);
    if (!what) continue;
    if (!program::verify(program)) {
      ++counts.rejected;
    } else if (!runs_alike(program)) {
      EXPECT_FALSE(same_work(original, program))
          << *what << ": verify() proved it equivalent, yet it runs differently";
      ++counts.caught;
    } else if (same_work(original, program)) {
      ++counts.equivalent;
    } else {
      ++counts.survived;
      ADD_FAILURE() << "survived: " << *what;
    }
  }
  std::printf(
      "%d rank(s): %d mutated programs: %d rejected, %d caught by running, %d proven "
      "equivalent, %d survived\n",
      static_cast<int>(GetParam()), counts.total(), counts.rejected, counts.caught,
      counts.equivalent, counts.survived);
  EXPECT_GT(counts.rejected, wanted / 2);
}

INSTANTIATE_TEST_SUITE_P(Ranks, MutationTest, testing::Values(1, 2));

}  // namespace
}  // namespace ultraspeed::test
