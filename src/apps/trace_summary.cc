#include "apps/trace_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>

#include "apps/perfetto.h"
#include "base/check.h"
#include "program/print.h"

namespace ultraspeed::apps {
namespace {

double microseconds(uint64_t from_ns, uint64_t to_ns) {
  return static_cast<double>(static_cast<int64_t>(to_ns - from_ns)) / 1000;
}

// Of the stages of an operation, or of all.
struct OperationTime {
  uint32_t num_stages = 0, num_tasks = 0;
  double hand_off_us = 0, spread_us = 0, longest_us = 0, span_us = 0, work_us = 0;

  void add(const StageTime& stage) {
    ++num_stages;
    num_tasks += stage.num_tasks;
    hand_off_us += stage.hand_off_us();
    spread_us += stage.last_us - stage.first_us;
    longest_us += stage.longest_us;
    span_us += stage.span_us();
    work_us += stage.work_us;
  }
};

std::vector<std::string> operation_row(std::string_view name, const OperationTime& of,
                                       size_t num_workers, double step_us) {
  const auto workers = static_cast<double>(num_workers);
  const auto mean = [&](double sum) { return fmt::format("{:.2f}", sum / of.num_stages); };
  return {
      std::string(name),
      fmt::format("{}", of.num_stages),
      fmt::format("{}", of.num_tasks),
      mean(of.hand_off_us),
      mean(of.spread_us),
      mean(of.longest_us),
      mean(of.span_us),
      fmt::format("{:.1f}", of.span_us),
      fmt::format("{:.1f} %", 100 * of.span_us / step_us),
      of.span_us > 0 ? fmt::format("{:.1f} %", 100 * of.work_us / (of.span_us * workers)) : "-"};
}

}  // namespace

std::vector<StageTime> stage_times(const program::Program& program,
                                   const program::StepTrace& trace) {
  US_CHECK(trace.lists.size() == program.lists.size(), "{} lists", trace.lists.size());
  std::vector<StageTime> stages(program.stages.size());
  for (size_t i = 0; i < trace.lists.size(); ++i) {
    for (size_t k = 0; k < trace.lists[i].size(); ++k) {
      const program::TaskTime& time = trace.lists[i][k];
      StageTime& stage = stages[program.lists[i][k].stage];
      const double begin = microseconds(trace.begin_ns, time.begin_ns);
      const double end = microseconds(trace.begin_ns, time.end_ns);
      stage.first_us = stage.num_tasks == 0 ? begin : std::min(stage.first_us, begin);
      stage.last_us = std::max(stage.last_us, begin);
      stage.end_us = std::max(stage.end_us, end);
      stage.longest_us = std::max(stage.longest_us, end - begin);
      stage.work_us += end - begin;
      ++stage.num_tasks;
    }
  }
  const std::vector<std::set<uint32_t>> before = program::stages_before(program);
  for (uint32_t i = 0; i < stages.size(); ++i) {
    stages[i].stage = i;
    for (const uint32_t other : before[i]) {
      if (other == i || stages[other].end_us < stages[i].ready_us) continue;
      stages[i].ready_us = stages[other].end_us;
      stages[i].after = other;
    }
  }
  std::erase_if(stages, [](const StageTime& stage) { return stage.num_tasks == 0; });
  return stages;
}

TextTable operation_table(const program::Program& program, const std::vector<StageTime>& stages,
                          double step_us) {
  std::array<OperationTime, program::kNumOpcodes> operations = {};
  OperationTime all;
  for (const StageTime& stage : stages) {
    operations[static_cast<size_t>(program.stages[stage.stage].opcode())].add(stage);
    all.add(stage);
  }
  TextTable table;
  table.head = {"operation", "stages",  "tasks",  "hand-off us", "spread us",
                "task us",   "span us", "sum us", "of step",     "busy"};
  for (size_t i = 0; i < operations.size(); ++i) {
    if (operations[i].num_stages == 0) continue;
    table.rows.push_back(
        operation_row(program::kOpcodeNames[i], operations[i], program.lists.size(), step_us));
  }
  table.rows.push_back(operation_row("all", all, program.lists.size(), step_us));
  return table;
}

TextTable hand_off_table(const program::Program& program, const std::vector<StageTime>& stages,
                         size_t count) {
  std::vector<StageTime> slowest;
  for (const StageTime& stage : stages) {
    if (stage.after != program::kNoId) slowest.push_back(stage);
  }
  std::ranges::stable_sort(slowest, std::ranges::greater(), &StageTime::hand_off_us);
  slowest.resize(std::min(slowest.size(), count));
  TextTable table;
  table.head = {"from", "to", "hand-off us", "until the last task us"};
  table.num_names = 2;
  for (const StageTime& stage : slowest) {
    table.rows.push_back({program.stages[stage.after].name, program.stages[stage.stage].name,
                          fmt::format("{:.2f}", stage.hand_off_us()),
                          fmt::format("{:.2f}", stage.last_us - stage.ready_us)});
  }
  return table;
}

std::string perfetto_json(const program::Program& program, const program::StepTrace& trace) {
  PerfettoTrace perfetto;
  for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
    perfetto.name_process(rank, fmt::format("rank {}", rank));
  }
  for (size_t i = 0; i < trace.lists.size(); ++i) {
    const PerfettoTrace::Track track = {i / program.num_workers, i % program.num_workers};
    perfetto.name_track(track, fmt::format("worker {}", track.tid));
    const auto add = [&](std::string_view name, std::string_view category, uint64_t begin_ns,
                         uint64_t end_ns) {
      perfetto.add(track, name, category, microseconds(trace.begin_ns, begin_ns),
                   microseconds(begin_ns, end_ns));
    };
    for (size_t k = 0; k < trace.lists[i].size(); ++k) {
      const program::TaskTime& time = trace.lists[i][k];
      const program::Stage& stage = program.stages[program.lists[i][k].stage];
      if (time.begin_ns > time.wait_ns) add("wait", "wait", time.wait_ns, time.begin_ns);
      add(stage.name, program::opcode_name(stage.opcode()), time.begin_ns, time.end_ns);
    }
  }
  return perfetto.json();
}

}  // namespace ultraspeed::apps
