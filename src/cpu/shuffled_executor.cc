#include <random>
#include <vector>

#include "base/check.h"
#include "cpu/executor.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "cpu/sync.h"
#include "program/print.h"

namespace ultraspeed::cpu {
namespace {

// How far one worker has come: the next unit of the next task.
struct Position {
  size_t task = 0;
  uint32_t unit = 0;
  bool started = false;  // the task's counter waits were met and `units` is known
  uint32_t units = 0;
};

class ShuffledExecutor final : public program::Executor {
 public:
  ShuffledExecutor(uint64_t seed, Activations activations, KvCacheType kv_cache)
      : random_(seed), activations_(activations), kv_cache_(kv_cache) {}

  uint64_t weight_bytes(const program::Program& program) const override {
    return cpu::weight_bytes(program, activations_);
  }

  bool keeps_logit_shares() const override { return true; }

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    US_TRY(machine_.load(std::move(programs), limits, read_weight, activations_, kv_cache_));
    for (const auto& program : machine_.programs()) sync_.emplace_back(program);
    return {};
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(machine_.check_step(index, input));
    output->columns.assign(input.columns.size(), {});
    machine_.poison_arenas();
    const program::Program& program = machine_.programs()[index];
    sync_[index].begin_epoch();
    scratch_.begin_step();
    std::vector<Position> positions(program.lists.size());
    std::vector<uint32_t> candidates(program.lists.size());
    for (uint32_t i = 0; i < candidates.size(); ++i) candidates[i] = i;
    // One worker moves only when nobody else can: whatever does not wait for it is done before.
    const auto laggard = static_cast<uint32_t>(random_() % candidates.size());
    std::swap(candidates[0], candidates[laggard]);
    while (!candidates.empty()) {
      // Tries the unfinished workers in random order until one can move.
      bool moved = false;
      for (size_t left = candidates.size(); left > 0 && !moved; --left) {
        const size_t first = left > 1 && candidates[0] == laggard ? 1 : 0;
        const size_t pick = first + random_() % (left - first);
        std::swap(candidates[pick], candidates[left - 1]);
        const uint32_t thread = candidates[left - 1];
        US_ASSIGN(moved, advance(program, index, thread, &positions[thread], input, output));
        if (moved && positions[thread].task == program.lists[thread].size()) {
          candidates.erase(candidates.begin() + static_cast<std::ptrdiff_t>(left - 1));
        }
      }
      if (!moved) return stuck(program, candidates, positions);
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    machine_.copy_cache(copy);
    return {};
  }

 private:
  // One unit of the worker's next task, if its waits are met.
  Result<bool> advance(const program::Program& program, uint32_t index, uint32_t thread,
                       Position* at, const program::StepInput& input, program::StepOutput* output) {
    if (at->task == program.lists[thread].size()) return true;
    SyncState& sync = sync_[index];
    const uint32_t rank = thread / program.num_workers;
    const program::Task& task = program.lists[thread][at->task];
    const OpContext context(&machine_, program, rank, task, input, output, &scratch_);
    if (!at->started) {
      for (const program::Wait& wait : task.waits) {
        const bool is_counter = wait.kind == program::WaitKind::kCounter;
        if (is_counter && sync.arrived(rank, wait) < wait.need) return false;
      }
      at->started = true;
      at->units = unit_count(context);
    }
    if (at->unit < at->units) {
      for (const program::Wait& wait : task.waits) {
        const bool is_slot = wait.kind == program::WaitKind::kSlot;
        if (is_slot && !sync.slot_ready(rank, wait, at->unit)) return false;
      }
      US_TRY(run_task(context, at->unit));
      sync.signal_unit(rank, task.signal, task.row_begin + at->unit * task.part);
      ++at->unit;
    }
    if (at->unit >= at->units) {
      sync.signal(rank, task.signal);
      *at = Position{at->task + 1, 0, false, 0};
    }
    return true;
  }

  static Status stuck(const program::Program& program, const std::vector<uint32_t>& candidates,
                      const std::vector<Position>& positions) {
    const uint32_t thread = candidates[0];
    return make_error(ErrorCode::kInternal, "program '{}' stuck: {} waits for ever", program.name,
                      program::task_location(program, thread / program.num_workers,
                                             thread % program.num_workers, positions[thread].task));
  }

  Machine machine_;
  std::vector<SyncState> sync_;  // [program]
  Scratch scratch_;
  std::mt19937_64 random_;
  Activations activations_;
  KvCacheType kv_cache_;
};

}  // namespace

std::unique_ptr<program::Executor> make_shuffled_executor(uint64_t seed, Activations activations,
                                                          KvCacheType kv_cache) {
  return std::make_unique<ShuffledExecutor>(seed, activations, kv_cache);
}

}  // namespace ultraspeed::cpu
