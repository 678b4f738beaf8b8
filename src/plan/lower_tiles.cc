// How the stages of a step are cut into tiles, and what each waits for.
#include <algorithm>

#include "plan/lower_internal.h"
#include "plan/tiling.h"

namespace ultraspeed::plan {

using program::BufferId;
using program::SignalScope;

void Lowering::add_bands(StageDraft* stage, uint32_t rows, Dependency after, SignalScope scope,
                         uint32_t rank_stride) {
  for (uint32_t rank = 0; rank < num_ranks_; rank += rank_stride) {
    uint32_t index = 0;
    for (const RowRange& range : bands(0, rows, num_workers_, 16)) {
      Tile tile;
      tile.rank = rank;
      tile.worker = index++ % num_workers_;
      tile.row_begin = range.begin;
      tile.row_count = range.count;
      tile.after[0] = after;
      tile.scope = scope;
      stage->tiles.push_back(tile);
    }
  }
}

// One tile a column, on one rank.
void Lowering::add_columns(StageDraft* stage, Dependency after, SignalScope scope, uint32_t rank) {
  for (uint32_t column = 0; column < width(); ++column) {
    Tile tile;
    tile.rank = rank;
    tile.worker = column % num_workers_;
    tile.row_begin = column;
    tile.row_count = 1;
    tile.after[0] = after;
    tile.scope = scope;
    stage->tiles.push_back(tile);
  }
}

// One tile a column on every rank.
void Lowering::add_columns_of_ranks(StageDraft* stage, Dependency after, SignalScope scope) {
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) add_columns(stage, after, scope, rank);
}

// A rank that gives no partial sums is waited for by nobody in one shot, and others would overwrite
// what it still reads: there the owners' sums keep the ranks together.
bool Lowering::is_one_shot(uint32_t rank_stride) const {
  return all_reduce_ == AllReduce::kOneShot && num_ranks_ > 1 && rank_stride == 1;
}

// Products whose K is split over the ranks: every rank computes all rows of H, each row for its
// owner, who adds the ranks' partial sums, or in one shot for all. With one rank the adding tile
// follows on the same worker, so no one has to wait for it.
void Lowering::partial_product(StageDraft* product, Dependency first, Dependency second,
                               uint32_t rank_stride) {
  const bool to_all = is_one_shot(rank_stride);
  const uint32_t num_owners = to_all ? 1 : num_ranks_;
  const uint32_t owned = config_.hidden_size / num_owners;
  const uint32_t workers_per_owner = std::max(1u, num_workers_ / num_owners);
  for (uint32_t rank = 0; rank < num_ranks_; rank += rank_stride) {
    uint32_t index = 0;
    for (uint32_t owner = 0; owner < num_owners; ++owner) {
      for (const RowRange& range : bands(owner * owned, owned, workers_per_owner, 16)) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = range.begin;
        tile.row_count = range.count;
        tile.after[0] = first;
        tile.after[1] = second;
        tile.scope = to_all ? SignalScope::kAllRanks : SignalScope::kOneRank;
        tile.target_rank = owner;
        product->tiles.push_back(tile);
      }
    }
  }
}

void Lowering::reduce(const char* what, const Sum& sum, uint32_t rank_stride) {
  const bool is_own = is_one_shot(rank_stride);
  const uint32_t product = last_stage();
  program::ReduceOperands op;
  op.partials = sum.partials;
  op.bias = sum.bias;
  op.residual = hidden_.buffer;
  op.output = columns_buffer(what, config_.hidden_size);
  op.is_own = is_own ? 1 : 0;
  StageDraft& summing = stage(what, op);
  const uint32_t owned = config_.hidden_size / (is_own ? 1 : num_ranks_);
  for (uint32_t rank = 0; rank < num_ranks_; ++rank) {
    uint32_t index = 0;
    const uint32_t first = is_own ? 0 : rank * owned;
    for (const RowRange& range : bands(first, owned, num_workers_, 16)) {
      Tile tile;
      tile.rank = rank;
      tile.worker = index++ % num_workers_;
      tile.row_begin = range.begin;
      tile.row_count = range.count;
      if (num_ranks_ > 1) tile.after[0] = after(product, 0);
      // Where it has a share, its part of the product comes after the residual.
      if (!program::has_share(rank, rank_stride)) tile.after[1] = after(hidden_.stage, 0);
      tile.scope = is_own ? SignalScope::kLocal : SignalScope::kAllRanks;
      summing.tiles.push_back(tile);
    }
  }
  hidden_ = {op.output, last_stage()};
}

// Tiles by KV head group, so that a group's attention waits for its own heads alone.
void Lowering::qkv_tiles(StageDraft* stage, const program::QkvProjOperands& op, uint32_t num_groups,
                         Dependency after) {
  const uint32_t group_size = op.num_q_heads / num_groups;
  const uint32_t rank_stride = draft_->program.weights[op.weight].rank_stride;
  for (uint32_t rank = 0; rank < num_ranks_; rank += rank_stride) {
    uint32_t index = 0;
    const auto add = [&](uint32_t head, uint32_t group) {
      for (uint32_t part = 0; part < op.head_parts; ++part) {
        Tile tile;
        tile.rank = rank;
        tile.worker = index++ % num_workers_;
        tile.row_begin = head;
        tile.row_count = 1;
        tile.part = part;
        tile.after[0] = after;
        tile.group = group;
        stage->tiles.push_back(tile);
      }
    };
    for (uint32_t group = 0; group < num_groups; ++group) {
      if (op.num_kv_heads != 0) {
        add(op.num_q_heads + group, group);
        add(op.num_q_heads + op.num_kv_heads + group, group);
      }
      for (uint32_t i = 0; i < group_size; ++i) add(group * group_size + i, group);
    }
  }
}

}  // namespace ultraspeed::plan
