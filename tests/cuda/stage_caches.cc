#include "cuda/stage_caches.h"

#include <algorithm>
#include <variant>

#include "base/check.h"
#include "cuda/ops/flash_attention.h"

namespace ultraspeed::test {

using program::AttentionOperands;
using program::QkvProjOperands;

const AttentionOperands* StageCaches::attention_of(uint32_t stage) const {
  const program::Operands& operands = program_.stages[stage].operands;
  if (const auto* op = std::get_if<AttentionOperands>(&operands)) return op;
  const auto* merge = std::get_if<program::AttentionMergeOperands>(&operands);
  if (merge == nullptr) return nullptr;
  for (const program::Stage& other : program_.stages) {
    const auto* op = std::get_if<AttentionOperands>(&other.operands);
    if (op != nullptr && op->output == merge->partials) return op;
  }
  return nullptr;
}

program::CacheId StageCaches::tiles_of(uint32_t stage) const {
  const auto* qkv = std::get_if<QkvProjOperands>(&program_.stages[stage].operands);
  const AttentionOperands* attention = attention_of(stage);
  const program::CacheId id = qkv != nullptr         ? qkv->cache
                              : attention != nullptr ? attention->cache
                                                     : program::kNoId;
  const bool is_tiles = id != program::kNoId && gpu_.cache_form(id) != cuda::CacheForm::kRows;
  return is_tiles ? id : program::kNoId;
}

bool StageCaches::attention_stores(uint32_t stage) const {
  const AttentionOperands* op = attention_of(stage);
  return op != nullptr && tiles_of(stage) != program::kNoId && op->is_draft_block == 0 &&
         op->is_causal != 0 && op->is_window_before_step == 0 && cuda::is_short_window(op->window);
}

const QkvProjOperands& StageCaches::writer_of(const AttentionOperands& block) const {
  const auto writes = [&](const program::Stage& stage) {
    const auto* op = std::get_if<QkvProjOperands>(&stage.operands);
    return op != nullptr && op->num_kv_heads != 0 && op->cache_rows == block.cache_rows;
  };
  const auto found = std::ranges::find_if(program_.stages, writes);
  US_CHECK(found != program_.stages.end(), "nobody writes buffer {}", block.cache_rows);
  return std::get<QkvProjOperands>(found->operands);
}

bool StageCaches::makes_block_rows(uint32_t stage) const {
  const auto* op = std::get_if<QkvProjOperands>(&program_.stages[stage].operands);
  if (op == nullptr || op->num_kv_heads == 0 || op->cache != program::kNoId) return false;
  for (uint32_t i = stage; i < program_.stages.size(); ++i) {
    const auto* attention = std::get_if<AttentionOperands>(&program_.stages[i].operands);
    if (attention == nullptr || attention->cache_rows != op->cache_rows) continue;
    return tiles_of(i) != program::kNoId;
  }
  return false;
}

}  // namespace ultraspeed::test
