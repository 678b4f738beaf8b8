#include "program/print.h"

#include <fmt/format.h>

#include <iterator>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "program/access.h"

namespace ultraspeed::program {
namespace {

std::string print_wait(const Wait& wait) {
  switch (wait.kind) {
    case WaitKind::kNone:
      return {};
    case WaitKind::kCounter:
      return fmt::format(" wait c{}>={}", wait.id, wait.need);
    case WaitKind::kSlot:
      return fmt::format(" wait slot f{}+slot*{}", wait.id, wait.need);
  }
  return " wait ?";
}

std::string print_signal(const Signal& signal) {
  if (signal.kind == SignalKind::kNone) return {};
  if (signal.kind == SignalKind::kSlot) return fmt::format(" signal f{}+unit", signal.id);
  switch (signal.scope) {
    case SignalScope::kLocal:
      return fmt::format(" signal c{}", signal.id);
    case SignalScope::kOneRank:
      return fmt::format(" signal c{}@rank{}", signal.id, signal.rank);
    case SignalScope::kAllRanks:
      return fmt::format(" signal c{}@all", signal.id);
  }
  return " signal ?";
}

// One stage of the listing, summed over rank 0's tasks.
struct StageSummary {
  uint32_t tasks = 0;
  uint64_t bytes = 0;        // of weight blocks, in one unit
  std::set<uint32_t> after;  // stages that its tasks wait for or whose values they read
};

// Which stage signals a counter or the flags from an id on.
struct Signallers {
  std::map<uint32_t, uint32_t> counter_stage;
  std::map<uint32_t, uint32_t> flag_stage;
};

Signallers find_signallers(const Program& program) {
  Signallers result;
  for (const auto& list : program.lists) {
    for (const Task& task : list) {
      if (task.signal.kind == SignalKind::kCounter) {
        result.counter_stage[task.signal.id] = task.stage;
      } else if (task.signal.kind == SignalKind::kSlot) {
        result.flag_stage[task.signal.id] = task.stage;
      }
    }
  }
  return result;
}

// The stages that write each buffer of rank 0.
std::vector<std::set<uint32_t>> find_writers(const Program& program) {
  std::vector<std::set<uint32_t>> writers(program.buffers.size());
  std::vector<Access> accesses;
  for (uint32_t list = 0; list < program.lists.size(); ++list) {
    for (const Task& task : program.lists[list]) {
      task_accesses(program, list / program.num_workers, task, &accesses);
      for (const Access& access : accesses) {
        if (access.is_write && access.rank == 0) writers[access.buffer].insert(task.stage);
      }
    }
  }
  return writers;
}

// A stage comes after those it waits for and those whose values it reads: where the same worker did
// the work before, nothing needs to be waited for.
std::vector<StageSummary> summarize(const Program& program) {
  const Signallers signallers = find_signallers(program);
  const auto writers = find_writers(program);
  std::vector<StageSummary> summaries(program.stages.size());
  std::vector<Access> accesses;
  for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
    for (const Task& task : program.list(0, worker)) {
      StageSummary& summary = summaries[task.stage];
      ++summary.tasks;
      summary.bytes += uint64_t{task.block_count} * kWeightBlockBytes;
      for (const Wait& wait : task.waits) {
        if (wait.kind == WaitKind::kNone) continue;
        const auto& stages =
            wait.kind == WaitKind::kCounter ? signallers.counter_stage : signallers.flag_stage;
        const auto found = stages.find(wait.id);
        if (found != stages.end()) summary.after.insert(found->second);
      }
      task_accesses(program, 0, task, &accesses);
      for (const Access& access : accesses) {
        if (access.is_write) continue;
        summary.after.insert(writers[access.buffer].begin(), writers[access.buffer].end());
      }
    }
  }
  return summaries;
}

}  // namespace

std::vector<std::set<uint32_t>> stages_before(const Program& program) {
  std::vector<std::set<uint32_t>> before;
  for (StageSummary& summary : summarize(program)) before.push_back(std::move(summary.after));
  return before;
}

std::string task_location(const Program& program, uint32_t rank, uint32_t worker, size_t index) {
  const uint64_t thread = uint64_t{rank} * program.num_workers + worker;
  std::string text = fmt::format("rank {} worker {} task {}", rank, worker, index);
  if (thread >= program.lists.size() || index >= program.lists[thread].size()) return text;
  const Task& task = program.lists[thread][index];
  const bool known = task.stage < program.stages.size();
  const auto opcode = static_cast<uint32_t>(task.opcode);
  return fmt::format("{} ({}, {})", text, known ? program.stages[task.stage].name : "?",
                     opcode < kNumOpcodes ? kOpcodeNames[opcode] : "?");
}

std::string print_task(const Program& program, const Task& task) {
  const bool known = task.stage < program.stages.size();
  std::string line =
      fmt::format("{:<14} {:<28} rows [{}, +{})", opcode_name(task.opcode),
                  known ? program.stages[task.stage].name : "?", task.row_begin, task.row_count);
  if (task.part != 0) line += fmt::format(" part {}", task.part);
  if (task.block_count != 0)
    line += fmt::format(" blocks [{}, +{})", task.first_block, task.block_count);
  return line + print_wait(task.waits[0]) + print_wait(task.waits[1]) + print_signal(task.signal);
}

std::string print_program(const Program& program, bool tasks) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(
      out,
      "program {}: width {}, {} rank(s) x {} worker(s), {} tasks, {} counters, {} flags, "
      "arena {} bytes, {} bytes of weight blocks\n",
      program.name, program.width, program.num_ranks, program.num_workers, program.num_tasks(),
      program.num_counters, program.num_flags, program.arena_bytes,
      program.num_weight_blocks * kWeightBlockBytes);
  const std::vector<StageSummary> summaries = summarize(program);
  for (size_t i = 0; i < program.stages.size(); ++i) {
    fmt::format_to(out, "stage {:>4} {:<14} {:<28} {:>5} tasks {:>10} bytes", i,
                   opcode_name(program.stages[i].opcode()), program.stages[i].name,
                   summaries[i].tasks, summaries[i].bytes);
    const char* separator = "  after ";
    for (const uint32_t stage : summaries[i].after) {
      fmt::format_to(out, "{}{}", separator, program.stages[stage].name);
      separator = ", ";
    }
    text += '\n';
  }
  if (!tasks) return text;
  for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
    fmt::format_to(out, "rank 0 worker {}\n", worker);
    for (const Task& task : program.list(0, worker)) {
      fmt::format_to(out, "  {}\n", print_task(program, task));
    }
  }
  return text;
}

std::string print_layer_graph(const Program& program, uint16_t layer) {
  std::string text =
      "digraph layer {\n  rankdir=TB;\n  node [shape=box, fontname=\"Helvetica\"];\n";
  const auto out = std::back_inserter(text);
  const std::vector<StageSummary> summaries = summarize(program);
  for (size_t i = 0; i < program.stages.size(); ++i) {
    if (program.stages[i].layer != layer) continue;
    fmt::format_to(out, "  s{} [label=\"{}\\n{} tasks, {} bytes\"];\n", i, program.stages[i].name,
                   summaries[i].tasks, summaries[i].bytes);
    for (const uint32_t stage : summaries[i].after) {
      if (program.stages[stage].layer != layer) {
        fmt::format_to(out, "  s{} [label=\"{}\", style=dashed];\n", stage,
                       program.stages[stage].name);
      }
      fmt::format_to(out, "  s{} -> s{};\n", stage, i);
    }
  }
  return text + "}\n";
}

}  // namespace ultraspeed::program
