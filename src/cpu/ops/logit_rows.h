// Rows of logits, [T, vocab_size], that ranks have shares of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "cpu/machine.h"
#include "cpu/ops/candidates.h"
#include "program/logit_shards.h"

namespace ultraspeed::cpu {

inline program::LogitShare share_of(const OpContext& context, uint32_t vocab_size) {
  return {vocab_size, context.num_ranks(), context.rank()};
}

// Column t's on this rank.
inline std::span<const float> logit_row(const OpContext& context, program::BufferId logits,
                                        uint32_t vocab_size, uint32_t t) {
  return {context.buffer(logits) + uint64_t{t} * vocab_size, vocab_size};
}

// This rank's share of it.
inline TokenValues shared_values(const OpContext& context, program::BufferId logits,
                                 uint32_t vocab_size, uint32_t t) {
  const program::LogitShare share = share_of(context, vocab_size);
  const auto row = logit_row(context, logits, vocab_size, t);
  return {row.subspan(share.begin, share.size), share.begin};
}

// The first of this rank's share, up to id `end`, to another rank or to itself.
inline void send_logits(const OpContext& context, program::BufferId logits, uint32_t vocab_size,
                        uint32_t t, uint32_t end, uint32_t to_rank) {
  if (to_rank == context.rank()) return;
  const uint32_t begin = share_of(context, vocab_size).begin;
  const uint64_t row = uint64_t{t} * vocab_size;
  std::copy(context.buffer(logits) + row + begin, context.buffer(logits) + row + end,
            context.buffer_of(to_rank, logits) + row + begin);
}

}  // namespace ultraspeed::cpu
