// Sample over logits that ranks have shares of: what sample_column() gives for all of them, from
// what ranks tell of their shares (program/logit_shards.h). Of columns of which
// program::needs_all_logits() is false.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "cpu/machine.h"
#include "cpu/ops/candidates.h"
#include "program/logit_shards.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// What ranks have told of a column.
struct LogitShares {
  uint32_t vocab_size = 0;
  std::span<const program::LogitPeaks> peaks;           // [ranks]
  std::span<const float> piece_sums;                    // [num_logit_pieces()]
  std::span<const program::LogitShortlist> shortlists;  // [ranks]
};

// First each rank, of its share of the logits.
program::LogitPeaks peaks_of(const TokenValues& share, const program::ColumnSampling& sampling);

// Then each rank, knowing the peaks of all: the exponentials' sums of its pieces, whose logits
// `pieces` are, and its shortlist. Where the peaks are an error, nothing; choose_from_shares() says
// so.
void sum_pieces(std::span<const program::LogitPeaks> peaks, std::span<const float> pieces,
                float* sums);
program::LogitShortlist shortlist_of(std::span<const program::LogitPeaks> peaks,
                                     const TokenValues& share, uint32_t position,
                                     const program::ColumnSampling& sampling, uint32_t vocab_size);

// Then rank 0. Results, errors among them, are sample_column()'s.
Result<program::ColumnOutput> choose_from_shares(const LogitShares& shares, uint32_t position,
                                                 const program::ColumnSampling& sampling);

// The same on column t of a step. send_peaks() also sends logits: to the ranks that sum pieces of
// theirs, and to rank 0 where a column needs all.
Status send_peaks(const OpContext& context, const program::SampleOperands& op, uint32_t t);
void send_shortlist(const OpContext& context, const program::SampleOperands& op, uint32_t t);
LogitShares logit_shares(const OpContext& context, const program::SampleOperands& op, uint32_t t);

}  // namespace ultraspeed::cpu
