// The packed weight arena: a tile's rows fill whole blocks, in the order of the weights and their
// tiles. All ranks share the numbering.

#include "base/check.h"
#include "plan/draft.h"
#include "program/access.h"

namespace ultraspeed::plan {
namespace {

using program::ExpertDownOperands;
using program::ExpertGateUpOperands;
using program::Program;
using program::Task;

uint32_t blocks_of(const Program& program, const program::WeightRows& rows) {
  const program::WeightDecl& weight = program.weights[rows.weight];
  const uint64_t bytes = tensor::packed_bytes(weight.format, rows.rows, weight.cols);
  return static_cast<uint32_t>((bytes + program::kWeightBlockBytes - 1) /
                               program::kWeightBlockBytes);
}

// [stage]: the tasks of one rank in tile order; every rank that has a share of a weight has the
// same tiles of it.
using TasksByStage = std::vector<std::vector<Task*>>;

TasksByStage tasks_by_stage(Draft* draft, uint32_t rank) {
  Program& program = draft->program;
  TasksByStage by_stage(program.stages.size());
  std::vector<size_t> next(program.num_workers, 0);
  for (const StageDraft& stage : draft->stages) {
    for (const Tile& tile : stage.tiles) {
      if (tile.rank != rank) continue;
      Task& task =
          program.lists[uint64_t{rank} * program.num_workers + tile.worker][next[tile.worker]++];
      by_stage[task.stage].push_back(&task);
    }
  }
  return by_stage;
}

// The blocks of each tile of a stage, and of one matrix of the stage's weight.
void layout_stage(Program* program, uint32_t stage, const std::vector<Task*>& tasks) {
  const auto* loop = std::get_if<ExpertGateUpOperands>(&program->stages[stage].operands);
  program::WeightDecl& weight =
      program->weights[program::task_weight_rows(*program, *tasks.front()).weight];
  const auto first = static_cast<uint32_t>(program->num_weight_blocks);
  uint32_t next = 0;
  for (Task* task : tasks) {
    task->block_count = blocks_of(*program, program::task_weight_rows(*program, *task));
    // All units of a loop have the same number of blocks; unit u uses those of its row group.
    task->first_block = first + (loop != nullptr ? 0 : next);
    if (loop == nullptr) next += task->block_count;
  }
  if (loop != nullptr) next = loop->row_groups * tasks.front()->block_count;
  weight.first_block = first;
  weight.blocks_per_matrix = next;
  program->num_weight_blocks += uint64_t{next} * weight.count;
}

void share_blocks(const std::vector<Task*>& with, const std::vector<Task*>& tasks) {
  US_CHECK(with.size() == tasks.size(), "{} tiles and {} of one weight", with.size(), tasks.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    US_CHECK(with[i]->row_begin == tasks[i]->row_begin && with[i]->part == tasks[i]->part,
             "two stages cut one weight in different ways");
    tasks[i]->first_block = with[i]->first_block;
    tasks[i]->block_count = with[i]->block_count;
  }
}

}  // namespace

void layout_weight_blocks(Draft* draft) {
  Program& program = draft->program;
  const TasksByStage first_rank = tasks_by_stage(draft, 0);  // it has a share of every weight
  std::vector<std::vector<uint32_t>> users(program.weights.size());  // stages of each weight
  for (uint32_t stage = 0; stage < first_rank.size(); ++stage) {
    if (first_rank[stage].empty()) continue;
    const auto rows = program::task_weight_rows(program, *first_rank[stage].front());
    if (rows.weight != program::kNoId) users[rows.weight].push_back(stage);
  }
  for (const std::vector<uint32_t>& stages : users) {
    if (!stages.empty()) layout_stage(&program, stages[0], first_rank[stages[0]]);
  }
  for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
    const TasksByStage by_stage = rank == 0 ? first_rank : tasks_by_stage(draft, rank);
    for (const std::vector<uint32_t>& stages : users) {
      for (const uint32_t stage : stages) {
        if (!by_stage[stage].empty()) share_blocks(first_rank[stages[0]], by_stage[stage]);
      }
    }
  }
}

}  // namespace ultraspeed::plan
