// The packed weight arena: a tile's rows fill whole blocks, in the order of the stages and their
// tiles. All ranks share the numbering.

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

// The blocks of each tile of a stage on one rank, and of one matrix of the stage's weight.
void layout_stage(Draft* draft, uint32_t stage, const std::vector<Task*>& tasks) {
  Program& program = draft->program;
  const auto* loop = std::get_if<ExpertGateUpOperands>(&program.stages[stage].operands);
  program::WeightDecl* weight = nullptr;
  const auto first = static_cast<uint32_t>(program.num_weight_blocks);
  uint32_t next = 0;
  for (Task* task : tasks) {
    const program::WeightRows rows = program::task_weight_rows(program, *task);
    if (rows.weight == program::kNoId) return;
    weight = &program.weights[rows.weight];
    task->block_count = blocks_of(program, rows);
    // All units of a loop have the same number of blocks; unit u uses those of its row group.
    task->first_block = first + (loop != nullptr ? 0 : next);
    if (loop == nullptr) next += task->block_count;
  }
  if (weight == nullptr) return;
  if (loop != nullptr) next = loop->row_groups * tasks.front()->block_count;
  weight->first_block = first;
  weight->blocks_per_matrix = next;
  program.num_weight_blocks += uint64_t{next} * weight->count;
}

}  // namespace

void layout_weight_blocks(Draft* draft) {
  Program& program = draft->program;
  // The tasks of each stage and rank in tile order; every rank has the same tiles of a weight.
  for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
    program.num_weight_blocks = 0;
    std::vector<std::vector<Task*>> by_stage(program.stages.size());
    std::vector<size_t> next(program.num_workers, 0);
    for (const StageDraft& stage : draft->stages) {
      for (const Tile& tile : stage.tiles) {
        if (tile.rank != rank) continue;
        Task& task =
            program.lists[uint64_t{rank} * program.num_workers + tile.worker][next[tile.worker]++];
        by_stage[task.stage].push_back(&task);
      }
    }
    for (uint32_t stage = 0; stage < by_stage.size(); ++stage) {
      layout_stage(draft, stage, by_stage[stage]);
    }
  }
}

}  // namespace ultraspeed::plan
