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

Result<plan::Plan> plan_generated(uint32_t ranks, uint32_t workers, uint32_t width) {
  const auto config = model::ModelConfig::parse("config.json", config_json(eight_rank_options()));
  if (!config) return tl::unexpected(config.error());
  plan::PlanOptions options;
  options.num_ranks = ranks;
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
        const auto plan = plan_generated(ranks, workers, width);
        ASSERT_TRUE(plan) << plan.error().message;
        const auto report = program::verify(plan->program);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->num_tasks, plan->program.num_tasks());
        EXPECT_EQ(report->num_cross_rank_signals > 0, ranks > 1);
      }
    }
  }
}

// More workers than units of live experts, and enough layers to give memory to others.
TEST(Verify, AcceptsTheBundledModelOnManyWorkers) {
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/models/tiny-mimo");
  ASSERT_TRUE(config) << config.error().message;
  for (const uint32_t workers : {16u, 64u, 132u}) {
    const auto plan = plan::make_plan(
        *config, [&](const auto& source) { return model::expected_shape(*config, source); },
        cpu::cpu_limits(workers), plan::PlanOptions());
    ASSERT_TRUE(plan) << plan.error().message;
    const auto report = program::verify(plan->program);
    EXPECT_TRUE(report) << report.error().message;
  }
}

TEST(Plan, RefusesWhatItCannotSplit) {
  EXPECT_EQ(plan_generated(3, 2, 8).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plan_generated(1, 2000, 8).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plan_generated(1, 2, 513).error().code, ErrorCode::kInvalidArgument);
  const auto config = model::ModelConfig::load(US_SOURCE_DIR "/models/tiny-mimo");
  plan::PlanOptions options;
  options.num_ranks = 4;
  const auto plan = plan::make_plan(
      *config, [&](const auto& source) { return model::expected_shape(*config, source); },
      cpu::cpu_limits(2), options);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(plan.error().message.find("KV heads"), std::string::npos) << plan.error().message;
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
