#include "program/mutation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace ultraspeed::test {
namespace {

using program::Program;
using program::Task;
using Random = std::mt19937_64;

// A task to change, and where it stands.
struct Place {
  uint32_t list = 0;
  size_t index = 0;
  Task* task = nullptr;
};

std::optional<Place> random_place(Program* program, Random* random) {
  const auto list = static_cast<uint32_t>((*random)() % program->lists.size());
  std::vector<Task>& tasks = program->lists[list];
  if (tasks.empty()) return std::nullopt;
  const size_t index = (*random)() % tasks.size();
  return Place{list, index, &tasks[index]};
}

uint32_t step(Random* random) {
  return (*random)() % 2 == 0 ? 1u : ~0u;
}

// Each kind returns false when it does not apply to the task.

bool drop_wait(Program*, const Place& at, Random* random) {
  program::Wait& wait = at.task->waits[(*random)() % 2];
  if (wait.kind == program::WaitKind::kNone) return false;
  wait = {};
  return true;
}

bool change_need(Program*, const Place& at, Random* random) {
  program::Wait& wait = at.task->waits[(*random)() % 2];
  if (wait.kind == program::WaitKind::kNone) return false;
  wait.need = static_cast<uint16_t>(wait.need + step(random));
  return true;
}

bool wait_for_another(Program*, const Place& at, Random* random) {
  program::Wait& wait = at.task->waits[(*random)() % 2];
  if (wait.kind == program::WaitKind::kNone) return false;
  wait.id += step(random);
  return true;
}

bool drop_signal(Program*, const Place& at, Random*) {
  if (at.task->signal.kind == program::SignalKind::kNone) return false;
  at.task->signal = {};
  return true;
}

bool signal_another(Program*, const Place& at, Random* random) {
  if (at.task->signal.kind == program::SignalKind::kNone) return false;
  at.task->signal.id += step(random);
  return true;
}

bool signal_other_ranks(Program* program, const Place& at, Random* random) {
  if (program->num_ranks == 1 || at.task->signal.kind == program::SignalKind::kNone) return false;
  at.task->signal.scope = static_cast<program::SignalScope>((*random)() % 3);
  at.task->signal.rank = static_cast<uint16_t>((*random)() % program->num_ranks);
  return true;
}

bool delete_task(Program* program, const Place& at, Random*) {
  auto& list = program->lists[at.list];
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(at.index));
  return true;
}

bool repeat_task(Program* program, const Place& at, Random*) {
  auto& list = program->lists[at.list];
  const Task copy = *at.task;
  list.insert(list.begin() + static_cast<std::ptrdiff_t>(at.index), copy);
  return true;
}

bool swap_with_next(Program* program, const Place& at, Random*) {
  auto& list = program->lists[at.list];
  if (at.index + 1 >= list.size()) return false;
  std::swap(list[at.index], list[at.index + 1]);
  return true;
}

bool swap_with_any(Program* program, const Place& at, Random* random) {
  const auto other = random_place(program, random);
  if (!other) return false;
  std::swap(*at.task, *other->task);
  return true;
}

bool move_to_another_worker(Program* program, const Place& at, Random* random) {
  const uint32_t workers = program->num_workers;
  const uint32_t rank = at.list / workers;
  const auto target = static_cast<uint32_t>(rank * workers + (*random)() % workers);
  if (target == at.list) return false;
  auto& list = program->lists[target];
  const size_t index = std::min(at.index, list.size());
  list.insert(list.begin() + static_cast<std::ptrdiff_t>(index), *at.task);
  return delete_task(program, at, random);
}

bool shift_tile(Program*, const Place& at, Random* random) {
  at.task->row_begin += step(random);
  return true;
}

bool resize_tile(Program*, const Place& at, Random* random) {
  at.task->row_count += step(random);
  return true;
}

bool change_part(Program*, const Place& at, Random* random) {
  at.task->part += step(random);
  return true;
}

bool change_stage(Program*, const Place& at, Random* random) {
  at.task->stage += step(random);
  return true;
}

// The neighbouring stage with everything that names it, as a planner that confuses layers would.
bool change_layer(Program* program, const Place& at, Random*) {
  for (uint32_t stage = at.task->stage + 1; stage < program->stages.size(); ++stage) {
    if (program->stages[stage].opcode() != at.task->opcode) continue;
    at.task->stage = stage;
    at.task->layer = program->stages[stage].layer;
    return true;
  }
  return false;
}

bool change_opcode(Program*, const Place& at, Random* random) {
  at.task->opcode = static_cast<program::Opcode>((*random)() % program::kNumOpcodes);
  return true;
}

bool shift_blocks(Program*, const Place& at, Random* random) {
  if (at.task->block_count == 0) return false;
  at.task->first_block += step(random);
  return true;
}

bool resize_blocks(Program*, const Place& at, Random* random) {
  at.task->block_count += step(random);
  return true;
}

bool share_memory(Program* program, const Place&, Random* random) {
  program::BufferDecl& a = program->buffers[(*random)() % program->buffers.size()];
  const program::BufferDecl& b = program->buffers[(*random)() % program->buffers.size()];
  if (a.size_bytes == 0 || b.size_bytes == 0 || a.size_bytes > b.size_bytes) return false;
  a.offset_bytes = b.offset_bytes;
  return true;
}

struct Kind {
  std::string_view name;
  bool (*apply)(Program*, const Place&, Random*);
  bool is_order = false;  // order_mutation_kinds()
};

constexpr std::array kKinds = {
    Kind{"drop a wait", drop_wait, true},
    Kind{"change a threshold", change_need},
    Kind{"wait for another counter", wait_for_another},
    Kind{"drop a signal", drop_signal},
    Kind{"signal another counter", signal_another},
    Kind{"signal other ranks", signal_other_ranks},
    Kind{"delete a task", delete_task},
    Kind{"repeat a task", repeat_task},
    Kind{"swap neighbours", swap_with_next, true},
    Kind{"swap two tasks", swap_with_any},
    Kind{"move a task", move_to_another_worker, true},
    Kind{"shift a tile", shift_tile},
    Kind{"resize a tile", resize_tile},
    Kind{"change a part", change_part},
    Kind{"change a stage", change_stage},
    Kind{"confuse layers", change_layer},
    Kind{"change an opcode", change_opcode},
    Kind{"shift weight blocks", shift_blocks},
    Kind{"resize weight blocks", resize_blocks},
    Kind{"share memory", share_memory, true},
};

bool equal_programs(const Program& a, const Program& b) {
  const auto same_buffers = [](const program::BufferDecl& x, const program::BufferDecl& y) {
    return x.offset_bytes == y.offset_bytes;
  };
  return a.lists == b.lists && std::equal(a.buffers.begin(), a.buffers.end(), b.buffers.begin(),
                                          b.buffers.end(), same_buffers);
}

}  // namespace

std::vector<std::string_view> mutation_kinds() {
  std::vector<std::string_view> names;
  for (const Kind& kind : kKinds) names.push_back(kind.name);
  return names;
}

std::vector<std::string_view> order_mutation_kinds() {
  std::vector<std::string_view> names;
  for (const Kind& kind : kKinds) {
    if (kind.is_order) names.push_back(kind.name);
  }
  return names;
}

std::optional<Mutation> mutate(Program* program, Random* random,
                               const std::vector<std::string_view>& kinds) {
  const std::string_view name = kinds[(*random)() % kinds.size()];
  const Kind& kind = *std::ranges::find(kKinds, name, &Kind::name);
  const auto place = random_place(program, random);
  if (!place) return std::nullopt;
  const Program before = *program;
  const std::string where = fmt::format(
      "{}: rank {} worker {} task {} of stage {}", kind.name, place->list / program->num_workers,
      place->list % program->num_workers, place->index, program->stages[place->task->stage].name);
  if (!kind.apply(program, *place, random) || equal_programs(before, *program)) {
    *program = before;
    return std::nullopt;
  }
  return Mutation{kind.name, where};
}

bool same_work(const Program& a, const Program& b) {
  using Piece = std::array<uint32_t, 8>;
  const auto pieces = [](const Program& program) {
    std::vector<Piece> result;
    for (uint32_t list = 0; list < program.lists.size(); ++list) {
      for (const Task& task : program.lists[list]) {
        result.push_back({list / program.num_workers, static_cast<uint32_t>(task.opcode),
                          task.stage, task.row_begin, task.row_count, task.part, task.first_block,
                          task.block_count});
      }
    }
    std::sort(result.begin(), result.end());
    return result;
  };
  return pieces(a) == pieces(b);
}

}  // namespace ultraspeed::test
