// Where this rank's partial sums of a tile go: to the rank that owns the rows, or to all.
#pragma once

#include <algorithm>

#include "cpu/machine.h"

namespace ultraspeed::cpu {

class Partials {
 public:
  Partials(const OpContext& context, program::WeightId weight, program::BufferId id, bool to_all)
      : context_(context),
        id_(id),
        to_all_(to_all),
        num_chunks_(context.program.num_chunks(weight)) {
    const uint32_t owned = context.hidden_size() / context.num_ranks();
    target_ = to_all ? context.rank() : context.task.row_begin / owned;
  }

  uint32_t num_chunks() const { return num_chunks_; }

  // Chunk `chunk` of this rank's for column t: [H], on one of the ranks that they go to.
  float* at(uint32_t t, uint32_t chunk) const { return on(target_, t, chunk); }
  // From one column to the next, and from one chunk to the next.
  uint64_t column_stride() const { return uint64_t{program::kReductionChunks} * hidden_size(); }
  uint64_t chunk_stride() const { return hidden_size(); }

  // Copies the tile's rows to the other ranks, if they are for all.
  void send() const {
    if (!to_all_) return;
    const uint32_t begin = context_.task.row_begin, count = context_.task.row_count;
    for (uint32_t rank = 0; rank < context_.num_ranks(); ++rank) {
      if (rank == target_) continue;
      for (uint32_t i = 0; i < context_.num_columns() * num_chunks_; ++i) {
        const uint32_t t = i / num_chunks_, chunk = i % num_chunks_;
        std::copy_n(at(t, chunk) + begin, count, on(rank, t, chunk) + begin);
      }
    }
  }

 private:
  uint64_t hidden_size() const { return context_.hidden_size(); }

  float* on(uint32_t rank, uint32_t t, uint32_t chunk) const {
    const uint64_t first = context_.program.first_chunk(context_.rank());
    return context_.buffer_of(rank, id_) + t * column_stride() + (first + chunk) * chunk_stride();
  }

  const OpContext& context_;
  program::BufferId id_;
  bool to_all_;
  uint32_t num_chunks_;
  uint32_t target_ = 0;
};

}  // namespace ultraspeed::cpu
