// What of a rank's share of the logits goes where (docs/ranks.md, section 3).
#include "cpu/ops/logit_rows.h"
#include "cpu/ops/share_sample.h"
#include "program/step_check.h"

namespace ultraspeed::cpu {
namespace {

using program::LogitPeaks;
using program::LogitShare;
using program::LogitShortlist;
using program::SampleOperands;

template <class T>
T* elements(const OpContext& context, uint32_t rank, program::BufferId id) {
  return reinterpret_cast<T*>(context.buffer_of(rank, id));
}

std::span<const LogitPeaks> all_peaks(const OpContext& context, const SampleOperands& op,
                                      uint32_t t) {
  const uint32_t ranks = context.num_ranks();
  const LogitPeaks* first = elements<LogitPeaks>(context, context.rank(), op.peaks);
  return {first + uint64_t{t} * ranks, ranks};
}

}  // namespace

Status send_peaks(const OpContext& context, const SampleOperands& op, uint32_t t) {
  const program::Column& column = context.input.columns[t];
  const LogitShare share = share_of(context, op.vocab_size);
  if (program::needs_all_logits(column.sampling, op.vocab_size)) {
    send_logits(context, op.logits, op.vocab_size, t, share.end, 0);
    return {};
  }
  US_TRY(program::check_sampling(column.sampling, column.position, op.vocab_size));
  const TokenValues values = shared_values(context, op.logits, op.vocab_size, t);
  const LogitPeaks peaks = peaks_of(values, column.sampling);
  for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
    const uint64_t place = uint64_t{t} * context.num_ranks() + context.rank();
    elements<LogitPeaks>(context, rank, op.peaks)[place] = peaks;
  }
  send_logits(context, op.logits, op.vocab_size, t, share.head_end(), share.head_owner());
  return {};
}

void send_shortlist(const OpContext& context, const SampleOperands& op, uint32_t t) {
  const program::Column& column = context.input.columns[t];
  const LogitShare share = share_of(context, op.vocab_size);
  const std::span<const LogitPeaks> peaks = all_peaks(context, op, t);
  if (share.first_piece() < share.end_piece()) {
    const uint32_t begin = share.first_piece() * kLogitPiece;
    const auto row = logit_row(context, op.logits, op.vocab_size, t);
    const uint64_t sums = uint64_t{t} * program::num_logit_pieces(op.vocab_size);
    sum_pieces(peaks, row.subspan(begin, share.pieces_end() - begin),
               context.buffer_of(0, op.piece_sums) + sums + share.first_piece());
  }
  const uint64_t place = uint64_t{t} * context.num_ranks() + context.rank();
  elements<LogitShortlist>(context, 0, op.shortlists)[place] =
      shortlist_of(peaks, shared_values(context, op.logits, op.vocab_size, t), column.position,
                   column.sampling, op.vocab_size);
}

LogitShares logit_shares(const OpContext& context, const SampleOperands& op, uint32_t t) {
  const uint32_t ranks = context.num_ranks();
  const uint32_t pieces = program::num_logit_pieces(op.vocab_size);
  const float* sums = context.buffer(op.piece_sums) + uint64_t{t} * pieces;
  const LogitShortlist* lists = elements<LogitShortlist>(context, context.rank(), op.shortlists);
  return {op.vocab_size,
          all_peaks(context, op, t),
          {sums, pieces},
          {lists + uint64_t{t} * ranks, ranks}};
}

}  // namespace ultraspeed::cpu
