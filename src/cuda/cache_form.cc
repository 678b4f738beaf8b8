#include "cuda/cache_form.h"

#include <variant>

#include "cuda/ops/flash_attention.h"

namespace ultraspeed::cuda {
namespace {

using program::AttentionOperands;
using program::Program;
using program::QkvProjOperands;

// Whether ops/flash_attention.h attends like this.
bool fits(const Program& program, const AttentionOperands& op) {
  if (!has_flash_heads(op.num_q_heads, op.num_kv_heads, op.head_dim, op.v_head_dim)) return false;
  const bool has_chunks =
      op.chunk_positions != 0 && op.chunk_positions % kFlashStepPositions == 0 &&
      op.max_chunks <= kMaxFlashChunks &&
      FlashChunks(op.chunk_positions).count(op.max_chunks * op.chunk_positions) <= kMaxFlashChunks;
  const uint32_t ring = program.caches[op.cache].ring_positions;
  const uint32_t piece = op.window != 0 ? ring : program.kv_page_positions;
  const bool is_plain = op.is_causal != 0 && op.is_window_before_step == 0;
  return has_chunks && (is_plain || program.width <= kMaxFlashColumns) &&
         (op.window != 0) == (ring != 0) && piece != 0 && piece % kKvTilePositions == 0;
}

// They write the same rows to a cache, in the same scales.
bool are_alike(const QkvProjOperands& a, const QkvProjOperands& b) {
  return a.weight == b.weight && a.norm.weight == b.norm.weight &&
         a.k_norm.weight == b.k_norm.weight && a.value_scale == b.value_scale &&
         a.num_q_heads == b.num_q_heads && a.num_kv_heads == b.num_kv_heads;
}

bool has_tiles(std::span<const Program> programs, program::CacheId id) {
  const QkvProjOperands* writer = nullptr;
  bool is_read = false;
  for (const Program& program : programs) {
    for (const program::Stage& stage : program.stages) {
      if (const auto* op = std::get_if<AttentionOperands>(&stage.operands);
          op != nullptr && op->cache == id) {
        if (!fits(program, *op)) return false;
        is_read = true;
      }
      if (const auto* op = std::get_if<QkvProjOperands>(&stage.operands);
          op != nullptr && op->cache == id) {
        if (writer == nullptr) writer = op;
        if (!are_alike(*op, *writer)) return false;
      }
    }
  }
  return writer != nullptr && is_read;
}

}  // namespace

std::vector<CacheForm> cache_forms(std::span<const Program> programs, program::KvCacheType type) {
  std::vector<CacheForm> forms(programs[0].caches.size(), CacheForm::kRows);
  if (type == program::KvCacheType::kF32) return forms;
  const bool is_bf16 = type == program::KvCacheType::kBf16;
  for (program::CacheId id = 0; id < forms.size(); ++id) {
    if (!has_tiles(programs, id)) continue;
    forms[id] = is_bf16 ? CacheForm::kBf16Tiles : CacheForm::kE4m3Tiles;
  }
  return forms;
}

uint64_t cache_bytes(const Program& program, program::CacheId id, CacheForm form,
                     const program::CacheLimits& limits) {
  const program::CacheDecl& decl = program.caches[id];
  if (form == CacheForm::kRows) {
    return program::cache_positions(program, decl, limits) * decl.position_bytes();
  }
  const uint64_t pieces = decl.ring_positions != 0 ? limits.num_sequences : limits.num_kv_pages;
  return pieces * tiles_of_piece(program, id) * kv_tile_bytes(tile_format(form));
}

}  // namespace ultraspeed::cuda
