// What a step of a program waited for: its stages in order of time, by operation, and the hand-offs
// between them.
#pragma once

#include <string>
#include <vector>

#include "apps/text_table.h"
#include "program/trace.h"

namespace ultraspeed::apps {

// A stage, microseconds from the step's begin. ready_us: the latest end of the stages that it waits
// for or reads; the other three are of its tasks.
struct StageTime {
  uint32_t stage = 0, num_tasks = 0;
  double ready_us = 0, first_us = 0, last_us = 0, end_us = 0;  // last_us: the last begin
  double longest_us = 0;                                       // task
  double work_us = 0;                                          // of all tasks
  uint32_t after = program::kNoId;  // the stage that made it ready; kNoId: none

  // From ready to the first task's begin; 0 where it began before all was ready.
  double hand_off_us() const { return first_us > ready_us ? first_us - ready_us : 0; }
  // What it adds to the step if nothing runs beside it.
  double span_us() const { return end_us > ready_us ? end_us - ready_us : 0; }
};

// REQUIRES: the trace is of the program.
std::vector<StageTime> stage_times(const program::Program& program,
                                   const program::StepTrace& trace);

// By operation, and the sum: stages, tasks, what hands over, works and idles.
TextTable operation_table(const program::Program& program, const std::vector<StageTime>& stages,
                          double step_us);

// The `count` slowest hand-offs, slowest first.
TextTable hand_off_table(const program::Program& program, const std::vector<StageTime>& stages,
                         size_t count);

// A track a worker, in Chrome's trace event format, which ui.perfetto.dev shows.
std::string perfetto_json(const program::Program& program, const program::StepTrace& trace);

}  // namespace ultraspeed::apps
