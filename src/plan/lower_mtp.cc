// The target's multi-token-prediction heads: a tail of the step, after Accept, on its own columns.
//
// Head k embeds the token k + 1 positions after a column, joins it with the column's residual of
// the target's last layer (before the final norm, the same for every head), and goes through one
// dense layer with a cache of its own; what it proposes for a sequence's accepted column goes back
// to the host, which has it verified in the sequence's next step. Nothing else is kept between
// steps.
//
// The columns behind the accepted one leave rows in the heads' caches that are overwritten when the
// sequence comes to their positions again. Of the rows up to it that a step adds, the last k of
// head k are made with what earlier heads proposed; they stay when it proves wrong, as in sglang's
// multi-layer worker.
#include "plan/lower_internal.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::kNoLayer;
using program::SignalScope;

Status check_mtp(const model::ModelConfig& heads) {
  if (heads.num_layers() <= program::kMaxMtpHeads) return {};
  return make_error(ErrorCode::kUnsupported, "{}: {} MTP layers, at most {} are supported",
                    heads.file, heads.num_layers(), program::kMaxMtpHeads);
}

void Lowering::heads_part() {
  stack_ = mtp_;
  part_ = "mtp.";
  const Residual target = hidden_;
  program::FollowOperands follow;
  follow.sampled = verified_.sampled;
  follow.accepted = verified_.accepted;
  for (uint32_t head = 0; head < mtp_->num_layers(); ++head) {
    layer_ = static_cast<uint16_t>(head);
    follow.distance = head + 1;
    follow_tokens(&follow);
    join_with(target);
    attention_block();
    dense_ffn();
    const program::BufferId logits =
        draft_logits(norm(TensorRole::kMtpFinalNorm), verified_.accepted);
    const Proposed proposed = propose(logits, verified_.accepted, head);
    if (head < follow.proposed.size()) follow.proposed[head] = proposed.tokens;
  }
  layer_ = kNoLayer;
  stack_ = &config_;
  part_.clear();
}

// The embeddings of the tokens that follow; leaves hidden_ there.
void Lowering::follow_tokens(program::FollowOperands* op) {
  const uint32_t before = last_stage();  // Accept, or what the head before proposed
  op->tokens = buffer("tokens", width(), width(), BufferDecl::Output::kNone);
  Tile tile;
  tile.row_count = width();
  tile.after[0] = after(before, 0);
  tile.scope = SignalScope::kAllRanks;
  stage("follow", *op).tiles.push_back(tile);

  program::EmbedOperands embedding;
  embedding.table = target_weight(TensorRole::kEmbedding);
  embedding.tokens = op->tokens;
  embed("embed", embedding, {after(last_stage(), 0)});
}

// hidden_ becomes the head's projection of what it is and of the target's residual.
void Lowering::join_with(const Residual& target) {
  program::LinearOperands op;
  op.norm = norm(TensorRole::kMtpEmbeddingNorm);
  op.second_norm = norm(TensorRole::kMtpHiddenNorm);
  op.weight = weight(TensorRole::kMtpProj);
  op.input = hidden_.buffer;
  op.more_inputs[0] = target.buffer;
  op.output = columns_buffer("joined", config_.hidden_size);
  op.rows = config_.hidden_size / num_ranks_;
  op.total_rows = config_.hidden_size;
  op.broadcast = 1;
  add_bands(&stage("eh_proj", op), op.rows, after(hidden_.stage, 0), SignalScope::kAllRanks);
  hidden_ = {op.output, last_stage()};
}

}  // namespace ultraspeed::plan
