// From tiles to task lists, and from dependencies to counters and flags.
#include <map>
#include <utility>

#include "base/check.h"
#include "plan/draft.h"

namespace ultraspeed::plan {

using program::Program;
using program::Signal;
using program::SignalKind;
using program::SignalScope;
using program::Task;
using program::Wait;
using program::WaitKind;

void build_lists(Draft* draft) {
  Program& program = draft->program;
  program.lists.assign(uint64_t{program.num_ranks} * program.num_workers, {});
  for (uint32_t index = 0; index < draft->stages.size(); ++index) {
    const StageDraft& stage = draft->stages[index];
    program.stages.push_back(stage.stage);
    for (const Tile& tile : stage.tiles) {
      Task task;
      task.opcode = stage.stage.opcode();
      task.layer = stage.stage.layer;
      task.stage = index;
      task.row_begin = tile.row_begin;
      task.row_count = tile.row_count;
      task.part = tile.part;
      program.lists[uint64_t{tile.rank} * program.num_workers + tile.worker].push_back(task);
    }
  }
}

namespace {

using StageGroup = std::pair<uint32_t, uint32_t>;  // stage, group

// Calls function(task, tile) for every task in the order in which build_lists() made them.
template <class Function>
void for_each_task(Draft* draft, Function function) {
  Program& program = draft->program;
  std::vector<size_t> next(program.lists.size(), 0);
  for (const StageDraft& stage : draft->stages) {
    for (const Tile& tile : stage.tiles) {
      const uint64_t list = uint64_t{tile.rank} * program.num_workers + tile.worker;
      function(program.lists[list][next[list]++], tile);
    }
  }
}

class CounterPass {
 public:
  explicit CounterPass(Draft* draft) : draft_(draft) {}

  void run() {
    number_what_is_waited_for();
    count_arrivals();
    for_each_task(draft_, [this](Task& task, const Tile& tile) {
      set_signal(&task, tile);
      for (int i = 0; i < 2; ++i) set_wait(tile, tile.after[i], &task.waits[i]);
    });
  }

 private:
  void number_what_is_waited_for() {
    Program& program = draft_->program;
    for (const StageDraft& stage : draft_->stages) {
      for (const Tile& tile : stage.tiles) {
        for (const Dependency& after : tile.after) {
          if (after.kind == WaitKind::kCounter &&
              counters_.try_emplace({after.stage, after.group}, program.num_counters).second) {
            ++program.num_counters;
          } else if (after.kind == WaitKind::kSlot &&
                     flags_.try_emplace(after.stage, program.num_flags).second) {
            program.num_flags += num_units(after.stage);
          }
        }
      }
    }
  }

  const program::ExpertGateUpOperands& loop(uint32_t stage) const {
    return std::get<program::ExpertGateUpOperands>(draft_->stages[stage].stage.operands);
  }
  uint32_t num_units(uint32_t stage) const {
    return loop(stage).max_slots * loop(stage).row_groups;
  }

  void count_arrivals() {
    const uint32_t ranks = draft_->program.num_ranks;
    arrivals_.assign(uint64_t{draft_->program.num_counters} * ranks, 0);
    for (uint32_t index = 0; index < draft_->stages.size(); ++index) {
      for (const Tile& tile : draft_->stages[index].tiles) {
        const auto counter = counters_.find({index, tile.group});
        if (counter == counters_.end()) continue;
        for (uint32_t rank = 0; rank < ranks; ++rank) {
          const uint32_t target = tile.scope == SignalScope::kLocal ? tile.rank : tile.target_rank;
          if (tile.scope == SignalScope::kAllRanks || rank == target) {
            ++arrivals_[uint64_t{counter->second} * ranks + rank];
          }
        }
      }
    }
  }

  void set_signal(Task* task, const Tile& tile) const {
    if (const auto flags = flags_.find(task->stage); flags != flags_.end()) {
      task->signal = Signal{flags->second, SignalKind::kSlot, SignalScope::kLocal, 0};
      return;
    }
    const auto counter = counters_.find({task->stage, tile.group});
    if (counter == counters_.end()) return;
    task->signal = Signal{counter->second, SignalKind::kCounter, tile.scope,
                          static_cast<uint16_t>(tile.target_rank)};
  }

  void set_wait(const Tile& tile, const Dependency& after, Wait* wait) const {
    if (after.kind == WaitKind::kNone) return;
    wait->kind = after.kind;
    if (after.kind == WaitKind::kSlot) {
      wait->id = flags_.at(after.stage);
      wait->need = static_cast<uint16_t>(loop(after.stage).row_groups);
      return;
    }
    wait->id = counters_.at({after.stage, after.group});
    const uint32_t need = arrivals_[uint64_t{wait->id} * draft_->program.num_ranks + tile.rank];
    US_CHECK(need > 0 && need <= 0xffff, "stage {} group {} signals rank {} {} times", after.stage,
             after.group, tile.rank, need);
    wait->need = static_cast<uint16_t>(need);
  }

  Draft* draft_;
  std::map<StageGroup, uint32_t> counters_;
  std::map<uint32_t, uint32_t> flags_;  // stage -> first flag
  std::vector<uint32_t> arrivals_;      // [counter, rank]
};

}  // namespace

void insert_counters(Draft* draft) {
  CounterPass(draft).run();
}

}  // namespace ultraspeed::plan
