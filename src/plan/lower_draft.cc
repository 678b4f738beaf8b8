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

static_assert(model::kMaxSelectorRank <= program::kMaxSelectorRank &&
              model::kMaxSelectorCandidates <= program::kMaxNominees);

Status check_drafter(const model::ModelConfig& config, const model::DrafterConfig& drafter) {
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
  if (drafter.selector.rank != 0 && drafter.vocab_size != config.vocab_size) {
    return make_error(ErrorCode::kUnsupported, "{}: its selector is for {} tokens, but {} has {}",
                      drafter.file, drafter.vocab_size, config.file, config.vocab_size);
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
  const program::NormRef final_norm = norm(TensorRole::kFinalNorm);
  if (drafter_->selector.rank != 0) {
    const program::BufferId rows = selector_rows(final_norm);
    drafted_ = select(draft_logits(final_norm, program::kNoId), rows);
  } else {
    drafted_ = propose(draft_logits(final_norm, program::kNoId), program::kNoId, 0);
  }
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

// What the selector has of each drafted column, on every rank. Before the logits: on a GPU both
// products take the same normalised rows.
program::BufferId Lowering::selector_rows(const program::NormRef& norm) {
  program::LinearOperands op;
  op.norm = norm;
  op.weight = weight(TensorRole::kSelectorProj);
  op.input = hidden_.buffer;
  op.rows = op.total_rows = drafter_->selector.rank;
  op.output = columns_buffer("selector_rows", op.rows);
  op.drafted_only = 1;
  add_bands(&stage("selector", op), op.rows, after(hidden_.stage, 0), SignalScope::kLocal);
  return op.output;
}

// The drafter's norm and the target's output head, for each drafted column, or with `accepted` for
// each accepted one.
program::BufferId Lowering::draft_logits(const program::NormRef& norm, program::BufferId accepted) {
  program::LinearOperands logits;
  logits.norm = norm;
  logits.drafted_only = accepted != program::kNoId ? 0 : 1;
  logits.accepted = accepted;
  return output_head(logits);
}

// The likeliest of each of these columns, by the logits of the stage before.
program::BufferId Lowering::nominate(program::BufferId logits, program::BufferId accepted,
                                     uint32_t count) {
  program::NominateOperands op;
  op.logits = logits;
  op.vocab_size = config_.vocab_size;
  op.num_nominees = count;
  op.accepted = accepted;
  op.of_share = keeps_logit_shares_ ? 1 : 0;
  const uint32_t places = width() * (keeps_logit_shares_ ? num_ranks_ : 1);
  op.nominees = buffer("nominees", places, uint64_t{2} * count * places, BufferDecl::Output::kNone);
  const Dependency logits_made = after(last_stage(), 0);
  StageDraft& nominating = stage("nominate", op);
  if (keeps_logit_shares_) {
    add_columns_of_ranks(&nominating, logits_made, SignalScope::kOneRank);
  } else {
    add_columns(&nominating, logits_made, SignalScope::kLocal);
  }
  return op.nominees;
}

// A token for each of these columns, by the logits of the stage before.
Lowering::Proposed Lowering::propose(program::BufferId logits, program::BufferId accepted,
                                     uint32_t head) {
  program::ProposeOperands op;
  op.logits = logits;
  op.drafted =
      buffer("drafted", width(), width(),
             accepted != program::kNoId ? BufferDecl::Output::kHost : BufferDecl::Output::kNone);
  op.vocab_size = config_.vocab_size;
  op.accepted = accepted;
  op.head = head;
  if (keeps_logit_shares_) op.nominees = nominate(logits, accepted, 1);
  const Dependency made = after(last_stage(), 0);  // logits or nominees
  add_columns(&stage("propose", op), made, SignalScope::kAllRanks);
  return {op.logits, op.drafted};
}

// The same by the drafter's selector, whose rows were made before the logits.
Lowering::Proposed Lowering::select(program::BufferId logits, program::BufferId rows) {
  const uint32_t rows_stage = last_stage() - 1;
  const uint32_t num_nominees = drafter_->selector.num_candidates;
  const program::BufferId nominees = nominate(logits, program::kNoId, num_nominees);

  program::ProposeOperands op;
  op.logits = logits;
  op.drafted = buffer("drafted", width(), width(), BufferDecl::Output::kNone);
  op.vocab_size = config_.vocab_size;
  if (keeps_logit_shares_) op.nominees = nominees;
  op.selector = {nominees,
                 rows,
                 weight(TensorRole::kPredecessorCodes),
                 weight(TensorRole::kSuccessorCodes),
                 static_cast<uint16_t>(num_nominees),
                 static_cast<uint16_t>(drafter_->selector.rank)};
  Tile whole;
  whole.row_count = width();
  whole.after[0] = after(last_stage(), 0);
  whole.after[1] = after(rows_stage, 0);
  whole.scope = SignalScope::kAllRanks;
  stage("propose", op).tiles.push_back(whole);
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
