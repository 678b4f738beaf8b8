// The DFlash drafter's parts of a step.
//
// Draft: a sequence's columns are one draft block, an anchor and masks, at the positions that the
// target verifies next; so both parts work on the same columns. The block's keys and values live in
// activation buffers: drafting changes no cache (docs/program.md says what a GPU makes of that). It
// ends in the ids of the drafted columns, which the verifying part embeds.
//
// Context: every column's features become keys and values in the drafter's caches. The rows of
// rejected columns are overwritten when the sequence comes to their positions again.
#include "plan/lower_internal.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::kNoLayer;
using program::QkvProjOperands;
using program::SignalScope;

Status check_drafter(const model::ModelConfig& config, const model::DrafterConfig& drafter,
                     uint32_t num_ranks) {
  if (drafter.hidden_size != config.hidden_size ||
      drafter.num_target_layers != config.num_layers()) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: drafts for a model of {} layers with hidden_size {}, but {} has {} and "
                      "{}",
                      drafter.file, drafter.num_target_layers, drafter.hidden_size, config.file,
                      config.num_layers(), config.hidden_size);
  }
  // Fewer are other padding of the same table.
  if (drafter.vocab_size > config.vocab_size) {
    return make_error(ErrorCode::kUnsupported, "{}: has a vocabulary of {} tokens, but {} has {}",
                      drafter.file, drafter.vocab_size, config.file, config.vocab_size);
  }
  if (drafter.num_kv_heads % num_ranks != 0 || drafter.intermediate_size % num_ranks != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: {} ranks do not divide its {} KV heads and intermediate_size {}",
                      drafter.file, num_ranks, drafter.num_kv_heads, drafter.intermediate_size);
  }
  if (!drafter.has_mask_embedding && drafter.mask_token_id >= config.vocab_size) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: mask_token_id {} is outside the {} rows of {}'s embedding; expected a "
                      "mask_embedding.pt beside it",
                      drafter.file, drafter.mask_token_id, config.vocab_size, config.file);
  }
  if (drafter.target_layer_ids.size() > program::kMaxTaps) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: taps {} layers of the target, at most {} are "
                      "supported",
                      drafter.file, drafter.target_layer_ids.size(), program::kMaxTaps);
  }
  return {};
}

void Lowering::draft_part() {
  stack_ = &drafter_stack_;
  part_ = "draft.";
  program::EmbedOperands op;
  op.table = target_weight(TensorRole::kEmbedding);
  op.mask_token_id = drafter_->mask_token_id;
  if (drafter_->has_mask_embedding) op.mask = weight(TensorRole::kMaskEmbedding);
  embed("embed", op, {});
  for (uint32_t layer = 0; layer < stack_->num_layers(); ++layer) {
    layer_ = static_cast<uint16_t>(layer);
    draft_attention_block();
    dense_ffn();
  }
  layer_ = kNoLayer;
  drafted_ = propose(norm(TensorRole::kFinalNorm), program::kNoId, 0);
  stack_ = &config_;
  part_.clear();
}

void Lowering::draft_attention_block() {
  const QkvProjOperands sizes = head_sizes();
  const uint32_t num_groups = sizes.num_kv_heads;
  const Dependency hidden = after(hidden_.stage, 0);
  QkvProjOperands q = sizes;
  q.num_kv_heads = 0;
  q.norm = norm(TensorRole::kInputNorm);
  q.q_norm = norm(TensorRole::kQNorm);
  q.weight = weight(TensorRole::kQProj);
  q.hidden = hidden_.buffer;
  q.query = columns_buffer("query", q.num_q_heads * q.head_dim);
  qkv_tiles(&stage("q_proj", q), q, num_groups, hidden);
  const uint32_t q_stage = last_stage();

  QkvProjOperands kv = sizes;
  kv.num_q_heads = 0;
  kv.norm = q.norm;
  kv.k_norm = norm(TensorRole::kKNorm);
  kv.weight = weight(TensorRole::kKvProj);
  kv.hidden = hidden_.buffer;
  kv.cache_rows = columns_buffer("block_rows", kv.num_kv_heads * (kv.head_dim + kv.v_head_dim));
  qkv_tiles(&stage("kv_proj", kv), kv, num_groups, hidden);

  QkvProjOperands both = sizes;
  both.query = q.query;
  both.cache_rows = kv.cache_rows;
  attend({both, {q_stage, last_stage()}});
}

// The drafter's norm, the target's output head, a token for each drafted column, or with `accepted`
// for each accepted one.
Lowering::Proposed Lowering::propose(const program::NormRef& norm, program::BufferId accepted,
                                     uint32_t head) {
  const bool is_for_host = accepted != program::kNoId;
  program::LinearOperands logits;
  logits.norm = norm;
  logits.weight = target_weight(TensorRole::kLmHead);
  logits.input = hidden_.buffer;
  logits.output = columns_buffer("logits", config_.vocab_size);
  logits.rows = config_.vocab_size / num_ranks_;
  logits.total_rows = config_.vocab_size;
  logits.drafted_only = is_for_host ? 0 : 1;
  logits.accepted = accepted;
  logits.gather_to_rank_0 = 1;
  add_bands(&stage("lm_head", logits), logits.rows, after(hidden_.stage, 0), SignalScope::kOneRank);
  const uint32_t logits_stage = last_stage();

  program::ProposeOperands op;
  op.logits = logits.output;
  op.drafted = buffer("drafted", width(), width(),
                      is_for_host ? BufferDecl::Output::kHost : BufferDecl::Output::kNone);
  op.vocab_size = config_.vocab_size;
  op.accepted = accepted;
  op.head = head;
  add_columns(&stage("propose", op), after(logits_stage, 0), SignalScope::kAllRanks);
  return {op.logits, op.drafted};
}

void Lowering::extend_context() {
  stack_ = &drafter_stack_;
  part_ = "context.";
  program::LinearOperands fc;
  fc.weight = weight(TensorRole::kFeatureProj);
  fc.input = taps_[0].buffer;
  for (size_t i = 1; i < taps_.size(); ++i) fc.more_inputs[i - 1] = taps_[i].buffer;
  fc.output = columns_buffer("features", config_.hidden_size);
  fc.rows = config_.hidden_size / num_ranks_;
  fc.total_rows = config_.hidden_size;
  fc.broadcast = 1;
  // The last tap is made after the others.
  add_bands(&stage("fc", fc), fc.rows, after(taps_.back().stage, 0), SignalScope::kAllRanks);
  const uint32_t fc_stage = last_stage();

  for (uint32_t layer = 0; layer < stack_->num_layers(); ++layer) {
    layer_ = static_cast<uint16_t>(layer);
    QkvProjOperands kv = head_sizes();
    kv.num_q_heads = 0;
    kv.norm = norm(TensorRole::kFeatureNorm);
    kv.k_norm = norm(TensorRole::kKNorm);
    kv.weight = weight(TensorRole::kKvProj);
    kv.hidden = fc.output;
    kv.cache_rows = appended_rows(kv);
    kv.cache = cache();
    qkv_tiles(&stage("kv_proj", kv), kv, kv.num_kv_heads, after(fc_stage, 0));
  }
  layer_ = kNoLayer;
}

}  // namespace ultraspeed::plan
