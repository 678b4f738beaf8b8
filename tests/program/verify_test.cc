// verify() accepts what the planner makes, for many shapes, and names what is wrong.
#include <gtest/gtest.h>

#include <functional>

#include "cpu/executor.h"
#include "model/config.h"
#include "model/weights.h"
#include "plan/plan.h"
#include "program/print.h"
#include "program/verify.h"
#include "support/checkpoint_generator.h"

namespace ultraspeed::test {
namespace {

using program::Program;
using program::Task;

using plan::AllReduce;

Result<plan::Plan> plan_generated(uint32_t ranks, uint32_t workers, uint32_t width,
                                  AllReduce all_reduce = AllReduce::kTwoShot,
                                  plan::LogitsPlace logits = plan::LogitsPlace::kRankZero) {
  const auto config = model::ModelConfig::parse("config.json", config_json(eight_rank_options()));
  if (!config) return tl::unexpected(config.error());
  plan::PlanOptions options;
  options.num_ranks = ranks;
  options.all_reduce = all_reduce;
  options.logits = logits;
  options.width = width;
  options.max_context = 4096;
  return plan::make_plan(
      *config, [&](const auto& source) { return model::expected_shape(*config, source); },
      cpu::cpu_limits(workers), options);
}

TEST(Verify, AcceptsPlansOfManyShapes) {
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t workers : {1u, 2u, 3u, 7u, 16u, 132u}) {
      for (const uint32_t width : {1u, 8u, 64u, 512u}) {
        uint64_t signals[2];
        for (const AllReduce all_reduce : {AllReduce::kTwoShot, AllReduce::kOneShot}) {
          const auto plan = plan_generated(ranks, workers, width, all_reduce);
          ASSERT_TRUE(plan) << plan.error().message;
          const auto report = program::verify(plan->program);
          ASSERT_TRUE(report) << report.error().message;
          EXPECT_EQ(report->num_tasks, plan->program.num_tasks());
          EXPECT_EQ(report->num_cross_rank_signals > 0, ranks > 1);
          signals[all_reduce == AllReduce::kOneShot ? 1 : 0] = report->num_cross_rank_signals;
        }
        EXPECT_EQ(signals[1]<signals[0], ranks> 1);
      }
    }
  }
}

TEST(Verify, AcceptsSharesOfLogitsOfManyShapes) {
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t workers : {1u, 3u, 132u}) {
      for (const uint32_t width : {1u, 8u, 64u, 512u}) {
        const auto plan =
            plan_generated(ranks, workers, width, AllReduce::kOneShot, plan::LogitsPlace::kShares);
        ASSERT_TRUE(plan) << plan.error().message;
        const auto report = program::verify(plan->program);
        ASSERT_TRUE(report) << report.error().message;
      }
    }
  }
}

Result<plan::Plan> plan_of(const model::ModelConfig& config, uint32_t ranks, uint32_t workers = 2,
                           plan::LogitsPlace logits = plan::LogitsPlace::kRankZero) {
  plan::PlanOptions options;
  options.num_ranks = ranks;
  options.logits = logits;
  return plan::make_plan(
      config, [&](const auto& source) { return model::expected_shape(config, source); },
      cpu::cpu_limits(workers), options);
}

// More workers than units of live experts, and enough layers to give memory to others.
TEST(Verify, AcceptsTheBundledModelOnManyWorkers) {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/models/tiny-mimo");
  ASSERT_TRUE(config) << config.error().message;
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    for (const uint32_t workers : {1u, 5u, 16u, 64u, 132u}) {
      for (const auto logits : {plan::LogitsPlace::kRankZero, plan::LogitsPlace::kShares}) {
        const auto plan = plan_of(*config, ranks, workers, logits);
        ASSERT_TRUE(plan) << plan.error().message;
        const auto report = program::verify(plan->program);
        EXPECT_TRUE(report) << report.error().message;
      }
    }
  }
}

TEST(Plan, RefusesWhatItCannotSplit) {
  EXPECT_EQ(plan_generated(3, 2, 8).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plan_generated(1, 2000, 8).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plan_generated(1, 2, 513).error().code, ErrorCode::kInvalidArgument);
  GeneratorOptions generator;
  generator.vocab_size = 254;
  const auto plan = plan_of(*model::ModelConfig::parse("config.json", config_json(generator)), 4);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(plan.error().message.find("vocab_size 254"), std::string::npos) << plan.error().message;
}

// [rank]: tasks of a stage.
std::vector<size_t> tasks_of(const Program& program, const std::string& stage) {
  std::vector<size_t> counts(program.num_ranks, 0);
  for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
    for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
      for (const Task& task : program.list(rank, worker)) {
        counts[rank] += program.stages[task.stage].name == stage ? 1 : 0;
      }
    }
  }
  return counts;
}

const program::WeightDecl& weight_of(const Program& program, const std::string& name) {
  for (const program::WeightDecl& weight : program.weights) {
    if (weight.name == name) return weight;
  }
  throw std::runtime_error("no weight " + name);
}

// tiny-mimo: 8 q heads, 2 or 4 kv heads; 1536 dense and 128 expert columns, in FP8 and MXFP4.
TEST(Plan, DealsWholeHeadsAndScaleBlocksToRanks) {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/models/tiny-mimo");
  ASSERT_TRUE(config) << config.error().message;
  struct Share {
    uint32_t ranks, kv_heads, dense_columns, dense_stride, expert_columns, expert_stride;
  };
  for (const Share& share : {Share{1, 2, 1536, 1, 128, 1}, Share{2, 1, 768, 1, 64, 1},
                             Share{4, 1, 384, 1, 32, 1}, Share{8, 1, 384, 2, 32, 2}}) {
    const auto plan = plan_of(*config, share.ranks);
    ASSERT_TRUE(plan) << plan.error().message;
    const Program& program = plan->program;
    EXPECT_EQ(program.caches[0].num_kv_heads, share.kv_heads);
    EXPECT_EQ(weight_of(program, "layers.0.o_proj").cols, 512 / share.ranks);
    EXPECT_EQ(weight_of(program, "layers.0.o_proj").rank_stride, 1u);
    const auto& dense = weight_of(program, "layers.0.down_proj");
    EXPECT_EQ(dense.cols, share.dense_columns);
    EXPECT_EQ(dense.rank_stride, share.dense_stride);
    const auto& down = weight_of(program, "layers.1.expert_down");
    EXPECT_EQ(down.cols, share.expert_columns);
    EXPECT_EQ(down.rank_stride, share.expert_stride);
    EXPECT_EQ(weight_of(program, "layers.1.expert_gate_up").rank_stride, share.expert_stride);
  }
  const auto eight = plan_of(*config, 8);
  for (const char* stage : {"layers.1.route", "layers.1.expert_gate_up", "layers.1.expert_down"}) {
    const std::vector<size_t> tasks = tasks_of(eight->program, stage);
    for (uint32_t rank = 0; rank < 8; ++rank) {
      EXPECT_EQ(tasks[rank], rank % 2 == 0 ? tasks[0] : 0u) << stage << " on rank " << rank;
    }
    EXPECT_GT(tasks[0], 0u);
  }
}

// 4 q heads of 96 columns in FP8: a slice of one head would lie in two blocks, of two it has its
// own.
TEST(Plan, HeadsGoToFewerRanksThatKeepScales) {
  GeneratorOptions generator;
  generator.output_projection_format = tensor::WeightFormat::kFp8Block128;
  generator.v_head_dim = 96;
  const auto config = model::ModelConfig::parse("config.json", config_json(generator));
  ASSERT_TRUE(config) << config.error().message;
  const plan::ShapeLookup shape_of = [&](const model::WeightSource& source) {
    const bool is_o_proj = source.role == model::TensorRole::kOProj;
    return is_o_proj ? model::weight_shape(*config, source, tensor::WeightFormat::kFp8Block128)
                     : model::expected_shape(*config, source);
  };
  plan::PlanOptions options;
  options.num_ranks = 8;
  const auto plan = plan::make_plan(*config, shape_of, cpu::cpu_limits(3), options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(weight_of(plan->program, "layers.1.o_proj").rank_stride, 8u);  // 384 columns
  EXPECT_EQ(plan->program.caches[1].rank_stride, 8u);
  EXPECT_TRUE(program::verify(plan->program));
}

// A planned program with one change, and what verify() says of it.
std::string rejection(const std::function<void(Program*)>& change, uint32_t ranks = 2) {
  Program program = plan_generated(ranks, 3, 8).value().program;
  change(&program);
  const auto report = program::verify(program);
  return report ? "accepted" : report.error().message;
}

Task& task_of(Program* program, uint32_t list, const std::string& stage) {
  for (Task& task : program->lists[list]) {
    if (program->stages[task.stage].name == stage) return task;
  }
  throw std::runtime_error("no task of " + stage);
}

void expect_mentions(const std::string& message, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " not in: " << message;
  }
}

TEST(Verify, NamesAThreshold) {
  expect_mentions(rejection([](Program* p) { ++task_of(p, 3, "layers.2.route").waits[0].need; }),
                  {"rank 1 worker 0", "layers.2.route", "waits for 2 increments", "which gets 1"});
}

// A rank without experts' columns that is given a tile of them.
TEST(Verify, NamesARankWithoutAShare) {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/models/tiny-mimo");
  Program program = plan_of(*config, 8, 1).value().program;
  const Task down = task_of(&program, 0, "layers.1.expert_down");
  program.lists[1].push_back(down);
  expect_mentions(program::verify(program).error().message,
                  {"rank 1 worker 0", "rank without 'layers.1.expert_down'"});
}

TEST(Verify, NamesACacheOfOtherRanks) {
  expect_mentions(rejection([](Program* p) { p->caches[1].rank_stride = 2; }),
                  {"'layers.1.qkv_proj' does not fill its cache"});
}

TEST(Verify, NamesARankStrideThatDoesNotDivide) {
  expect_mentions(rejection([](Program* p) { p->weights[3].rank_stride = 3; }),
                  {"every 3th of the ranks"});
}

TEST(Verify, NamesARace) {
  expect_mentions(
      rejection([](Program* p) { task_of(p, 2, "layers.1.o_proj").waits[0] = {}; }, 1),
      {"layers.1.o_proj", "reads", "layers.1.attention_output", "not ordered after its write"});
}

TEST(Verify, NamesADeadlock) {
  expect_mentions(rejection([](Program* p) {
                    // The first task of a list waits for what comes last in it.
                    auto& list = p->lists[0];
                    std::rotate(list.begin(), list.end() - 1, list.end());
                  }),
                  {"deadlock", "rank 0 worker 0 task 0"});
}

program::BufferDecl& buffer_of(Program* program, const std::string& name) {
  for (auto& buffer : program->buffers) {
    if (buffer.name == name) return buffer;
  }
  throw std::runtime_error("no buffer " + name);
}

TEST(Verify, NamesMemoryStillInUse) {
  expect_mentions(rejection([](Program* p) {
                    buffer_of(p, "layers.1.attention_residual").offset_bytes =
                        buffer_of(p, "layers.0.ffn_residual").offset_bytes;
                  }),
                  {"layers.1.attention_residual", "memory"});
}

// One worker's only tile of a stage reads one value and writes the other.
TEST(Verify, NamesATaskThatOverwritesWhatItReads) {
  Program program = plan_generated(1, 1, 8).value().program;
  buffer_of(&program, "layers.1.attention_residual").offset_bytes =
      buffer_of(&program, "layers.1.o_partials").offset_bytes;
  const auto report = program::verify(program);
  ASSERT_FALSE(report);
  expect_mentions(report.error().message,
                  {"writes", "layers.1.attention_residual", "memory may still be in use"});
}

// A worker without units reads the route table when it comes to it; no flag waits for that. In what
// is planned the table's memory is nobody else's; here that of a buffer made soon after it.
TEST(Verify, NamesARouteTableThatAnIdleWorkerMayStillRead) {
  Program program = plan_generated(1, 132, 8).value().program;
  ASSERT_TRUE(program::verify(program));
  buffer_of(&program, "layers.2.query").offset_bytes =
      buffer_of(&program, "layers.1.route_table").offset_bytes;
  const auto report = program::verify(program);
  ASSERT_FALSE(report);
  expect_mentions(report.error().message,
                  {"writes", "layers.2.query", "memory may still be in use"});
}

TEST(Verify, NamesWeightBlocksOfALoop) {
  const auto shift = [](Program* p) { ++task_of(p, 1, "layers.2.expert_gate_up").first_block; };
  expect_mentions(rejection(shift), {"layers.2.expert_gate_up", "units' weight blocks begin at"});
}

TEST(Verify, NamesGapsAndOverlaps) {
  expect_mentions(rejection([](Program* p) { --task_of(p, 0, "layers.1.router").row_count; }),
                  {"layers.1.router", "weight blocks"});
  expect_mentions(rejection([](Program* p) { --task_of(p, 0, "embed").row_count; }),
                  {"embedding", "never written"});
  expect_mentions(rejection([](Program* p) { task_of(p, 1, "sample").row_begin = 0; }),
                  {"sampled", "already written"});
  expect_mentions(rejection([](Program* p) { p->lists[0].pop_back(); }),
                  {"step ends without a complete 'accepted'"});
}

TEST(Print, LocationsOfBrokenTasksAreSafe) {
  Program program = plan_generated(1, 2, 8).value().program;
  program.lists[0][0].stage = 1'000'000;
  program.lists[0][0].opcode = static_cast<program::Opcode>(200);
  EXPECT_EQ(program::task_location(program, 0, 0, 0), "rank 0 worker 0 task 0 (?, ?)");
  EXPECT_EQ(program::task_location(program, 9, 9, 9), "rank 9 worker 9 task 9");
  EXPECT_FALSE(program::verify(program));
}

TEST(Print, ListingNamesStagesAndDependencies) {
  const Program program = plan_generated(1, 2, 8).value().program;
  const std::string text = program::print_program(program, true);
  expect_mentions(text, {"program decode: width 8", "layers.2.expert_down", "after layers.2.route",
                         "rank 0 worker 1", "wait slot f", "signal c"});
  const std::string graph = program::print_layer_graph(program, 2);
  expect_mentions(graph, {"digraph", "layers.2.qkv_proj", "->", "layers.1.ffn_residual"});
}

}  // namespace
}  // namespace ultraspeed::test
