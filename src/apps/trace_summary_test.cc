#include "apps/trace_summary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace ultraspeed::apps {
namespace {

// Two workers: a Route that waits for two Linear tasks of a counter.
program::Program small_program() {
  program::Program program;
  program.num_workers = 2;
  program.num_counters = 1;
  program.buffers = {{.name = "hidden"}, {.name = "logits"}, {.name = "route"}};
  program::LinearOperands router;
  router.input = 0;
  router.output = 1;
  program::RouteOperands choice;
  choice.logits = 1;
  choice.route = 2;
  program.stages = {{.name = "router", .operands = router}, {.name = "route", .operands = choice}};
  program::Task linear;
  linear.opcode = program::Opcode::kLinear;
  linear.signal = {.id = 0, .kind = program::SignalKind::kCounter};
  program::Task route;
  route.opcode = program::Opcode::kRoute;
  route.stage = 1;
  route.waits[0] = {.id = 0, .need = 2, .kind = program::WaitKind::kCounter};
  program.lists = {{linear, route}, {linear}};
  return program;
}

program::StepTrace small_trace() {
  return {.begin_ns = 1000,
          .end_ns = 9000,
          .lists = {{{1000, 2000, 4000}, {4100, 6500, 9000}}, {{1000, 3000, 6000}}}};
}

TEST(TraceSummary, StagesBeginWhenWhatTheyWaitForHasEnded) {
  const auto stages = stage_times(small_program(), small_trace());
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0].after, program::kNoId);
  EXPECT_DOUBLE_EQ(stages[0].first_us, 1);
  EXPECT_DOUBLE_EQ(stages[0].last_us, 2);
  EXPECT_DOUBLE_EQ(stages[0].end_us, 5);
  EXPECT_DOUBLE_EQ(stages[0].longest_us, 3);
  EXPECT_DOUBLE_EQ(stages[0].work_us, 5);
  EXPECT_EQ(stages[1].after, 0u);
  EXPECT_DOUBLE_EQ(stages[1].ready_us, 5);
  EXPECT_DOUBLE_EQ(stages[1].hand_off_us(), 0.5);
  EXPECT_DOUBLE_EQ(stages[1].span_us(), 3);
}

TEST(TraceSummary, SpansOfAChainAddUpToTheStep) {
  const program::Program program = small_program();
  const auto stages = stage_times(program, small_trace());
  const TextTable table = operation_table(program, stages, 8);
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(table.rows[2][0], "all");
  EXPECT_EQ(table.rows[2][7], "8.0");
  EXPECT_EQ(table.rows[2][8], "100.0 %");
  const TextTable hand_offs = hand_off_table(program, stages, 5);
  ASSERT_EQ(hand_offs.rows.size(), 1u);
  EXPECT_EQ(hand_offs.rows[0][0], "router");
  EXPECT_EQ(hand_offs.rows[0][1], "route");
}

TEST(TraceSummary, PerfettoHasEveryTaskAndWait) {
  const auto json = nlohmann::json::parse(perfetto_json(small_program(), small_trace()));
  uint32_t tasks = 0, waits = 0, names = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "M") {
      ++names;
    } else if (event["name"] == "wait") {
      ++waits;
    } else {
      ++tasks;
    }
  }
  EXPECT_EQ(tasks, 3u);
  EXPECT_EQ(waits, 3u);
  EXPECT_EQ(names, 3u);  // two workers, a rank
}

}  // namespace
}  // namespace ultraspeed::apps
