// Every damaged program is rejected by verify(), caught by running it, or proven equivalent by
// verify() and by brute force (order_oracle.h).
#include <gtest/gtest.h>

#include <map>

#include "base/check.h"
#include "cpu/executor.h"
#include "program/mutation.h"
#include "program/order_oracle.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/model_runner.h"
#include "support/scale.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

struct Counts {
  int rejected = 0;    // by verify()
  int caught = 0;      // by a run that got stuck or gave other bits
  int equivalent = 0;  // verified, the same work, in order by the oracle, and seen to run alike
  int survived = 0;
  int total() const { return rejected + caught + equivalent + survived; }

  Counts& operator+=(const Counts& other) {
    rejected += other.rejected;
    caught += other.caught;
    equivalent += other.equivalent;
    survived += other.survived;
    return *this;
  }
};

void print_counts(uint32_t ranks, uint64_t seed, const std::map<std::string_view, Counts>& counts) {
  std::printf("%u rank(s), seed %lu\n%-26s %8s %8s %10s %8s\n", ranks, seed, "damage", "rejected",
              "caught", "equivalent", "survived");
  const auto print_row = [](std::string_view name, const Counts& row) {
    std::printf("%-26.*s %8d %8d %10d %8d\n", static_cast<int>(name.size()), name.data(),
                row.rejected, row.caught, row.equivalent, row.survived);
  };
  Counts sum;
  for (const auto& [kind, row] : counts) {
    print_row(kind, row);
    sum += row;
  }
  print_row(std::to_string(sum.total()) + " mutated programs", sum);
}

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 62};

// Programs with a drafter draft a block after the prompt; with MTP heads they verify one.
enum class Drafts { kNone, kDflash, kSelecting, kMtp };

struct Shape {
  uint32_t ranks;
  Drafts drafts;
  plan::LogitsPlace logits = plan::LogitsPlace::kRankZero;
};

class MutationTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    GeneratorOptions generator;
    // Sizes that two ranks can split.
    generator.intermediate_size = 512;
    generator.moe_intermediate_size = 64;
    generator.embedding_format = tensor::WeightFormat::kBf16;
    generator.num_mtp_layers = 2;
    US_CHECK(write_checkpoint(directory_.path(), generator).has_value());
    DrafterOptions drafter;
    if (GetParam().drafts == Drafts::kSelecting) drafter.selector_rank = 5;
    US_CHECK(write_drafter(drafter_directory_.path(), drafter).has_value());
    base_ = open(nullptr, 1).value();
    expected_ = run(&*base_).value();
  }

  static bool drafts_in_program() {
    return GetParam().drafts == Drafts::kDflash || GetParam().drafts == Drafts::kSelecting;
  }

  Result<ModelRunner> open(const program::Program* program, uint64_t seed) {
    RunnerOptions options;
    options.num_ranks = GetParam().ranks;
    options.num_workers = GetParam().ranks == 1 ? 3 : 2;
    options.logits = GetParam().logits;
    if (drafts_in_program()) options.drafter = drafter_directory_.path();
    options.has_mtp = GetParam().drafts == Drafts::kMtp;
    options.width = 6;
    options.max_context = 64;
    options.make_executor = [=] { return cpu::make_shuffled_executor(seed); };
    options.verify = false;
    if (program != nullptr) options.change_program = [=](auto* planned) { *planned = *program; };
    return ModelRunner::open(directory_.path(), options);
  }

  static Result<std::vector<TopLogits>> run(ModelRunner* runner) {
    US_ASSIGN(std::vector<TopLogits> results, runner->feed(kPrompt, 4, 256));
    if (GetParam().logits == plan::LogitsPlace::kShares) US_TRY(run_on(runner, &results));
    if (GetParam().drafts == Drafts::kNone) return results;
    std::vector<program::Column> block = runner->draft_block(39, 6);
    if (GetParam().drafts == Drafts::kMtp) accept_all(&block);
    US_ASSIGN(const program::StepOutput output, runner->step(block));
    for (const program::ColumnOutput& column : output.columns) {
      results.push_back({{column.drafted_id, column.token_id}, {column.logit}});
      std::vector<int32_t>& ids = results.back().ids;
      ids.insert(ids.end(), column.proposed_ids.begin(), column.proposed_ids.end());
    }
    return results;
  }

  // Columns that are chosen from ranks' shares of the logits, in each way.
  static Status run_on(ModelRunner* runner, std::vector<TopLogits>* results) {
    std::vector<program::Column> columns = runner->draft_block(11, 6);
    for (size_t i = 0; i < columns.size(); ++i) {
      columns[i].is_drafted = false;
      columns[i].token_id = static_cast<int32_t>(21 * i);
      program::ColumnSampling& sampling = columns[i].sampling;
      sampling.temperature = i % 3 == 0 ? 0.0F : 3.0F;
      sampling.top_k = i % 3 == 2 ? 30 : 0;
      sampling.num_logprobs = 30;
    }
    US_ASSIGN(const program::StepOutput output, runner->step(columns));
    for (const program::ColumnOutput& column : output.columns) {
      results->push_back({{column.token_id}, {column.logit, column.logprob}});
      for (const auto& [id, logprob] : column.top_logprobs) {
        results->back().ids.push_back(id);
        results->back().logits.push_back(logprob);
      }
    }
    return {};
  }

  // Explicit drafts, all of them what the target chooses: what MTP heads propose depends on every
  // column then.
  static void accept_all(std::vector<program::Column>* block) {
    for (size_t i = 0; i < block->size(); ++i) {
      (*block)[i].is_drafted = false;
      (*block)[i].token_id = static_cast<int32_t>(39 + i);
      (*block)[i].sampling.forced_token_id = static_cast<int32_t>(40 + i);
    }
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

  TemporaryDirectory directory_, drafter_directory_;
  std::optional<ModelRunner> base_;
  std::vector<TopLogits> expected_;
};

TEST_P(MutationTest, NoneSurvives) {
  const program::Program& original = base_->program();
  ASSERT_TRUE(program::verify(original));
  ASSERT_EQ(find_disorder(original), std::nullopt);
  ASSERT_TRUE(runs_alike(original));
  const uint64_t seed = GetParam().ranks;
  std::mt19937_64 random(seed);
  std::map<std::string_view, Counts> counts;
  const int wanted = scaled(GetParam().drafts == Drafts::kNone ? 700 : 350);
  int rejected = 0;
  for (int total = 0; total < wanted;) {
    program::Program program = original;
    const auto what = mutate(&program, &random);
    if (!what) continue;
    ++total;
    Counts& of_kind = counts[what->kind];
    if (!program::verify(program)) {
      ++of_kind.rejected;
      ++rejected;
      continue;
    }
    const bool is_same_work = same_work(original, program);
    const auto disorder = find_disorder(program);
    EXPECT_EQ(disorder, std::nullopt) << what->place << ": verify() accepted it";
    if (!runs_alike(program)) {
      EXPECT_FALSE(is_same_work) << what->place << ": proven equivalent, yet it runs differently";
      ++of_kind.caught;
    } else if (is_same_work && !disorder) {
      ++of_kind.equivalent;
    } else {
      ++of_kind.survived;
      ADD_FAILURE() << "survived: " << what->place;
    }
  }
  print_counts(GetParam().ranks, seed, counts);
  EXPECT_GT(rejected, wanted / 2);
}

// Damage to order and memory alone, where the two proofs must agree both ways: verify() is not
// too strict either.
TEST_P(MutationTest, VerifyAgreesWithBruteForce) {
  const program::Program& original = base_->program();
  std::mt19937_64 random(100 + GetParam().ranks);
  int disorders = 0;
  const int wanted = scaled(300);
  for (int total = 0; total < wanted;) {
    program::Program program = original;
    const auto what = mutate(&program, &random, order_mutation_kinds());
    if (!what) continue;
    ++total;
    const auto verdict = program::verify(program);
    const auto disorder = find_disorder(program);
    EXPECT_EQ(verdict.has_value(), !disorder.has_value())
        << what->place << "\nverify: " << (verdict ? "accepted" : verdict.error().message)
        << "\noracle: " << disorder.value_or("accepted");
    disorders += disorder.has_value() ? 1 : 0;
  }
  std::printf("%u rank(s): %d of %d changes of order or memory are wrong, by both proofs\n",
              GetParam().ranks, disorders, wanted);
  EXPECT_GT(disorders, wanted / 4);
  EXPECT_LT(disorders, wanted);
}

INSTANTIATE_TEST_SUITE_P(Shapes, MutationTest,
                         testing::Values(Shape{1, Drafts::kNone}, Shape{2, Drafts::kNone},
                                         Shape{8, Drafts::kNone}, Shape{1, Drafts::kDflash},
                                         Shape{2, Drafts::kDflash}, Shape{2, Drafts::kSelecting},
                                         Shape{1, Drafts::kMtp}, Shape{2, Drafts::kMtp},
                                         Shape{2, Drafts::kNone, plan::LogitsPlace::kShares},
                                         Shape{8, Drafts::kNone, plan::LogitsPlace::kShares},
                                         Shape{2, Drafts::kSelecting, plan::LogitsPlace::kShares},
                                         Shape{2, Drafts::kMtp, plan::LogitsPlace::kShares}));

}  // namespace
}  // namespace ultraspeed::test
