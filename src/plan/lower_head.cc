// The target's output head, the choice of a token for each column, and what of the drafts it agrees
// with.
#include <utility>

#include "plan/lower_internal.h"
#include "program/logit_shards.h"

namespace ultraspeed::plan {

using model::TensorRole;
using program::BufferDecl;
using program::BufferId;
using program::SamplePart;
using program::SignalScope;

void Lowering::head() {
  program::LinearOperands logits;
  logits.norm = norm(TensorRole::kFinalNorm);
  logits.logits_only = 1;
  program::SampleOperands sample;
  sample.logits = output_head(logits);
  sample.vocab_size = config_.vocab_size;
  sample.draft_logits = drafted_.logits;
  sample.drafted = drafted_.tokens;
  sample.sampled = buffer("sampled", width(), width(), BufferDecl::Output::kHost);
  if (keeps_logit_shares_) {
    choose_from_shares(sample);
  } else {
    const Dependency logits_made = after(last_stage(), 0);
    add_columns(&stage("sample", sample), logits_made, SignalScope::kLocal);
  }
  accept(sample.sampled);
}

// A product with the output head: on rank 0, or a share on each rank.
BufferId Lowering::output_head(program::LinearOperands op) {
  op.weight = target_weight(TensorRole::kLmHead);
  op.input = hidden_.buffer;
  op.rows = config_.vocab_size / num_ranks_;
  op.total_rows = config_.vocab_size;
  op.gather_to_rank_0 = keeps_logit_shares_ ? 0 : 1;
  op.keeps_share = keeps_logit_shares_ ? 1 : 0;
  const uint32_t elements = width() * config_.vocab_size;
  const uint32_t extent = keeps_logit_shares_ ? elements : config_.vocab_size;
  op.output = buffer("logits", extent, elements, BufferDecl::Output::kNone);
  // Target rank 0 is Tile's default.
  add_bands(&stage("lm_head", op), op.rows, after(hidden_.stage, 0),
            keeps_logit_shares_ ? SignalScope::kLocal : SignalScope::kOneRank);
  return op.output;
}

// A column does not wait for others.
void Lowering::choose_from_shares(program::SampleOperands choice) {
  using program::LogitPeaks;
  using program::LogitShortlist;
  const uint32_t places = width() * num_ranks_;
  const uint32_t sums = width() * program::num_logit_pieces(config_.vocab_size);
  choice.part = SamplePart::kChoice;
  choice.peaks =
      buffer("logit_peaks", places, places * sizeof(LogitPeaks) / 4, BufferDecl::Output::kNone);
  choice.piece_sums = buffer("logit_sums", sums, sums, BufferDecl::Output::kNone);
  choice.shortlists =
      buffer("shortlists", places, places * sizeof(LogitShortlist) / 4, BufferDecl::Output::kNone);

  program::SampleOperands peaks;
  peaks.logits = choice.logits;
  peaks.vocab_size = choice.vocab_size;
  peaks.peaks = choice.peaks;
  peaks.part = SamplePart::kPeaks;
  const Dependency logits_made = after(last_stage(), 0);
  StageDraft& largest = stage("logit_peaks", peaks);
  add_columns_of_ranks(&largest, logits_made, SignalScope::kAllRanks);
  for (Tile& tile : largest.tiles) tile.group = tile.row_begin;

  program::SampleOperands shortlist = peaks;
  shortlist.piece_sums = choice.piece_sums;
  shortlist.shortlists = choice.shortlists;
  shortlist.part = SamplePart::kShortlist;
  const uint32_t peaks_stage = last_stage();
  StageDraft& shortlists = stage("shortlist", shortlist);
  add_columns_of_ranks(&shortlists, {}, SignalScope::kOneRank);
  for (Tile& tile : shortlists.tiles) {
    tile.group = tile.row_begin;
    tile.after[0] = after(peaks_stage, tile.group);
  }

  const uint32_t shortlist_stage = last_stage();
  StageDraft& sample = stage("sample", choice);
  add_columns(&sample, {}, SignalScope::kLocal);
  for (Tile& tile : sample.tiles) tile.after[0] = after(shortlist_stage, tile.row_begin);
}

void Lowering::accept(BufferId sampled) {
  program::AcceptOperands op;
  op.sampled = sampled;
  op.accepted = buffer("accepted", width(), width(), BufferDecl::Output::kHost);
  op.drafted = drafted_.tokens;
  op.broadcast = mtp_ != nullptr && num_ranks_ > 1 ? 1 : 0;
  verified_ = {op.sampled, op.accepted};
  Tile tile;
  tile.row_count = width();
  tile.after[0] = after(last_stage(), 0);
  stage("accept", op).tiles.push_back(tile);
}

}  // namespace ultraspeed::plan
