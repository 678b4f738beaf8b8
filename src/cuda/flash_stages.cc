#include "cuda/flash_stages.h"

#include <algorithm>
#include <variant>

#include "base/check.h"

namespace ultraspeed::cuda {
namespace {

using program::AttentionMergeOperands;
using program::AttentionOperands;
using program::QkvProjOperands;

// Blocks of a launch of `columns` columns of `sequences` sequences, at most: each sequence begins
// one of its own.
uint64_t most_blocks(uint32_t columns, uint32_t sequences, uint32_t heads) {
  const uint32_t begun = std::min(columns, sequences);
  return begun + (columns - begun) / (kFlashRows / flash_group(heads));
}

bool is_short(const AttentionOperands& op) {
  return is_short_window(op.window) && op.is_causal != 0 && op.is_window_before_step == 0;
}

void need_floats(uint64_t* floats, uint64_t to) {
  *floats = std::max(*floats, to);
}

}  // namespace

void add_flash_scratch(const program::Program& program, std::span<const CacheForm> cache_forms,
                       uint32_t num_sequences, ScratchFloats* floats) {
  const auto has_tiles = [&](program::CacheId cache) {
    return cache != program::kNoId && cache_forms[cache] != CacheForm::kRows;
  };
  ScratchFloats& need = *floats;
  const uint64_t width = program.width;
  for (const program::Stage& stage : program.stages) {
    if (const auto* qkv = std::get_if<QkvProjOperands>(&stage.operands);
        qkv != nullptr && has_tiles(qkv->cache)) {
      need_floats(&need[kKvRowScratch],
                  width * qkv->num_kv_heads * (kFlashHeadDim + kFlashValueDim));
    }
    const auto* op = std::get_if<AttentionOperands>(&stage.operands);
    if (op == nullptr || !has_tiles(op->cache)) continue;
    if (is_short(*op)) continue;
    const uint64_t operand_bytes = query_operand_bytes(
        tile_format(cache_forms[op->cache]), program.width, op->num_q_heads, op->num_kv_heads);
    need_floats(&need[kQueryScratch], operand_bytes / sizeof(float));
    need_floats(&need[kQueryScaleScratch], width * op->num_q_heads);
    if (op->window != 0) continue;
    const uint32_t columns = std::min(program.width, kMaxFlashColumns);
    const uint64_t units =
        most_blocks(columns, num_sequences, op->num_q_heads / op->num_kv_heads) * op->num_kv_heads *
        FlashChunks(op->chunk_positions).count(op->max_chunks * op->chunk_positions);
    need_floats(&need[kPartialSumScratch], units * kFlashRows * kFlashValueDim);
    need_floats(&need[kPartialStateScratch], units * kFlashRows * 2);
  }
}

Result<FlashStages> FlashStages::make(const Machine& machine, uint32_t program,
                                      const StepView* step) {
  FlashStages stages(machine, program, step);
  US_ASSIGN(stages.num_multiprocessors_, count_multiprocessors());
  US_ASSIGN(stages.arrivals_, DeviceMemory::allocate(2 * sizeof(uint32_t)));
  US_TRY(cuda_status(cudaMemset(stages.arrivals_.data(), 0, stages.arrivals_.size_bytes()),
                     "clearing counters of attention"));
  return stages;
}

const AttentionOperands& FlashStages::attention_of(const AttentionMergeOperands& op) const {
  const auto writes = [&](const program::Stage& stage) {
    const auto* attention = std::get_if<AttentionOperands>(&stage.operands);
    return attention != nullptr && attention->output == op.partials;
  };
  const auto found = std::ranges::find_if(program_->stages, writes);
  US_CHECK(found != program_->stages.end(), "nobody writes buffer {}", op.partials);
  return std::get<AttentionOperands>(found->operands);
}

QkvProjOperands FlashStages::with_rows(const QkvProjOperands& op) const {
  QkvProjOperands rows = op;
  rows.cache = program::kNoId;
  rows.cache_rows = scratch_id(*program_, kKvRowScratch);
  return rows;
}

// It has to follow the one writer, before another one's rows are in scratch.
bool FlashStages::attention_takes_rows(program::CacheId cache) const {
  uint32_t writers = 0;
  bool takes = true;
  for (size_t i = 0; i < program_->stages.size(); ++i) {
    const auto* qkv = std::get_if<QkvProjOperands>(&program_->stages[i].operands);
    if (qkv == nullptr || qkv->cache != cache) continue;
    ++writers;
    const auto* next = i + 1 < program_->stages.size()
                           ? std::get_if<AttentionOperands>(&program_->stages[i + 1].operands)
                           : nullptr;
    takes = takes && next != nullptr && next->cache_rows == qkv->cache_rows && is_short(*next);
  }
  return takes && writers == 1;
}

cudaError_t FlashStages::store_rows(const QkvProjOperands& op, KernelSink& sink) const {
  if (attention_takes_rows(op.cache)) return cudaSuccess;
  return store_rows(
      op.cache, [this](uint32_t rank) { return scratch(rank, kKvRowScratch); }, sink);
}

template <class RowsOf>
cudaError_t FlashStages::store_rows(program::CacheId cache, const RowsOf& rows_of,
                                    KernelSink& sink) const {
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank(); ++rank) {
    const cudaError_t error = sink.run(KvRows{.step = step_,
                                              .num_columns = program_->width,
                                              .cache = machine_->tiles(rank, cache),
                                              .format = format(cache),
                                              .rows = rows_of(rank)});
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t FlashStages::store_queries(const AttentionOperands& op, KernelSink& sink) const {
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank(); ++rank) {
    const cudaError_t error =
        sink.run(QueryRows{.step = step_,
                           .queries = machine_->buffer(rank, index_, op.query),
                           .num_columns = program_->width,
                           .num_q_heads = op.num_q_heads,
                           .num_kv_heads = op.num_kv_heads,
                           .head_dim = op.head_dim,
                           .scale = op.scale,
                           .format = format(op.cache),
                           .operands = reinterpret_cast<std::byte*>(scratch(rank, kQueryScratch)),
                           .scales = scratch(rank, kQueryScaleScratch)});
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t FlashStages::attend(const AttentionOperands& op, program::BufferId output,
                                KernelSink& sink) const {
  FlashAttention launch;
  launch.step = step_;
  launch.max_columns = program_->width;
  launch.scale = op.scale;
  launch.format = format(op.cache);
  launch.num_q_heads = op.num_q_heads;
  launch.window = op.window;
  launch.is_causal = op.is_causal != 0;
  launch.is_window_before_step = op.is_window_before_step != 0;
  launch.chunk_positions = op.chunk_positions;
  launch.follows_grid = true;
  // A window's blocks are few.
  const uint32_t most_units = kMaxFlashColumns * op.num_kv_heads;
  launch.num_ctas =
      op.window != 0 ? std::min(num_multiprocessors_, most_units) : num_multiprocessors_;
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank(); ++rank) {
    launch.cache = machine_->tiles(rank, op.cache);
    if (is_short(op)) {
      launch.query = machine_->buffer(rank, index_, op.query);
      if (attention_takes_rows(op.cache)) launch.rows = scratch(rank, kKvRowScratch);
    } else {
      launch.query_operands = reinterpret_cast<const std::byte*>(scratch(rank, kQueryScratch));
      launch.query_scales = scratch(rank, kQueryScaleScratch);
    }
    launch.output = machine_->buffer(rank, index_, output);
    launch.sinks = machine_->vector(rank, op.sink);
    launch.partials = {scratch(rank, kPartialSumScratch),
                       reinterpret_cast<float2*>(scratch(rank, kPartialStateScratch)),
                       arrivals_.as<uint32_t>()};
    const cudaError_t error = sink.run(launch);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

bool FlashStages::stores_block_rows(const QkvProjOperands& op) const {
  if (op.cache != program::kNoId || op.num_kv_heads == 0) return false;
  return std::ranges::any_of(program_->stages, [&](const program::Stage& stage) {
    const auto* attention = std::get_if<AttentionOperands>(&stage.operands);
    return attention != nullptr && attention->is_draft_block != 0 &&
           attention->cache_rows == op.cache_rows && has_tiles(attention->cache);
  });
}

cudaError_t FlashStages::launch(const AttentionOperands& op, KernelSink& sink) const {
  if (op.is_draft_block != 0) {
    const cudaError_t error = store_rows(
        op.cache, [&](uint32_t rank) { return machine_->buffer(rank, index_, op.cache_rows); },
        sink);
    if (error != cudaSuccess) return error;
  }
  if (is_short(op)) {
    US_CHECK(op.num_splits == 1, "{} splits of a window", op.num_splits);
    return attend(op, op.output, sink);
  }
  const cudaError_t error = store_queries(op, sink);
  if (error != cudaSuccess || op.num_splits > 1) return error;
  return attend(op, op.output, sink);
}

cudaError_t FlashStages::launch(const AttentionMergeOperands& op, KernelSink& sink) const {
  return attend(attention_of(op), op.output, sink);
}

}  // namespace ultraspeed::cuda
