// The kernel of dense.h, and of what streams weights in the same way (expert_fp8.cuh): which pages
// and pieces of the operand a launch takes, a *plan* says. A unit is a tile of 64 rows and a *part*
// (a K-chunk, or an expert); cluster c has units c, c + clusters, .... A stage of the ring is a
// page and its piece.
#pragma once

#include <cstdint>

#include "cuda/ops/dense.h"
#include "cuda/ops/dense_epilogue.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/dense_product.cuh"
#include "cuda/tile/keep_bits.cuh"
#include "cuda/tile/page_ring.cuh"
#include "cuda/tile/partial_exchange.cuh"
#include "cuda/tile/stream_role.cuh"

namespace ultraspeed::cuda {

// Left to other launches up to width 32: enough for the one that makes the next operand.
inline constexpr uint32_t kDenseSpareBytes = 52 * 1024;

// A CTA's dynamic shared memory: partial sums, stages.
template <class Plan>
struct DenseShared {
  static constexpr uint32_t kColumns = Plan::kColumns;
  static constexpr uint32_t kLimit =
      Plan::kCtas == 2 ? kStreamSharedBytes / 2 - 1024
                       : kStreamSharedBytes - (kColumns <= 32 ? kDenseSpareBytes : 0);
  using Exchange = PartialExchange<kColumns, kColumns == 8 ? 2 : 1, Plan::kRanks>;
  static constexpr uint32_t kPieceBytes = Plan::Operand::piece_bytes(kColumns);
  static constexpr uint32_t kStageBytes = Plan::Page::kBytes + kPieceBytes;
  static constexpr uint32_t kStage = Exchange::kBytes;
  static constexpr uint32_t kStages = (kLimit - kStage) / kStageBytes;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};

// Where the pages and the pieces of a CTA in a unit begin, and how many there are.
struct StreamUnit {
  const std::byte* pages;
  const std::byte* pieces;
  uint32_t num_pages;
};

// Whether a launch has units. The first group of a step always has some: nothing waits for the
// number.
__device__ __forceinline__ bool has_units(const ColumnGroup& launch) {
  return launch.first_column == 0 || present_columns(launch) != 0;
}

// What dense.h's launches take: a CTA of a cluster has a quarter of a K-chunk, from unit to unit
// another one, as quarters are not equally long.
template <class PageOf, uint32_t kWidth>
struct DensePlan {
  using Page = PageOf;
  using Operand = DenseOperand<Page>;
  using Launch = DenseLaunch;
  static constexpr uint32_t kColumns = kWidth;
  static constexpr uint32_t kRanks = kDenseRanks;
  // CTAs that fit on a multiprocessor: with two, the next launch fills its ring while this one
  // ends.
  static constexpr uint32_t kCtas = kColumns == 8 ? 2 : 1;
  // Pages behind the ring that are on their way to L2: memory stays busy while a launch waits for
  // its operand with a full ring.
  static constexpr uint32_t kAhead = 8;
  // Whether it reads what launches before it wrote, besides the operand.
  static constexpr bool kReadsRoutes = false;

  __device__ DensePlan(const DenseLaunch& launch, uint32_t of_rank)
      : weights(launch.weights),
        operand(launch.operand),
        rank(of_rank),
        rows(launch.rows),
        tiles((rows + kDenseTileRows - 1) / kDenseTileRows),
        chunk_pages(launch.chunk_pages),
        row_pages(chunk_pages * launch.num_chunks),
        quarter_pages((chunk_pages + kRanks - 1) / kRanks),
        num_units(has_units(launch) ? tiles * launch.num_chunks : 0) {}

  // Which quarter of K is this CTA's.
  __device__ uint32_t part(uint32_t unit) const { return (rank + unit) % kRanks; }
  __device__ StreamUnit unit(uint32_t index) const {
    const uint32_t in_chunk = min(part(index) * quarter_pages, chunk_pages);
    const uint32_t first = index / tiles * chunk_pages + in_chunk;
    return {weights + (uint64_t{index % tiles} * row_pages + first) * Page::kBytes,
            operand + uint64_t{first} * Operand::piece_bytes(kColumns),
            min(quarter_pages, chunk_pages - in_chunk)};
  }
  __device__ const std::byte* page(const StreamUnit& of, uint32_t i) const {
    return of.pages + i * Page::kBytes;
  }
  __device__ const std::byte* piece(const StreamUnit& of, uint32_t i) const {
    return of.pieces + i * Operand::piece_bytes(kColumns);
  }

  const std::byte* weights;
  const std::byte* operand;
  uint32_t rank;
  uint32_t rows;           // of a matrix
  uint32_t tiles;          // of a matrix
  uint32_t chunk_pages;    // of a tile and a chunk
  uint32_t row_pages;      // of a tile
  uint32_t quarter_pages;  // of a CTA in a unit, at most
  uint32_t num_units;
};

// The pages of a CTA, one after the other.
template <class Plan>
class PageWalk {
 public:
  __device__ PageWalk(const Plan& plan, const StreamRole& role)
      : plan_(plan), index_(role.cluster), clusters_(role.num_clusters) {
    begin_unit();
  }

  __device__ bool is_done() const { return index_ >= plan_.num_units; }
  __device__ void advance() {
    if (++page_ < unit_.num_pages) return;
    page_ = 0;
    index_ += clusters_;
    begin_unit();
  }
  __device__ const std::byte* page() const { return plan_.page(unit_, page_); }
  __device__ const std::byte* piece() const { return plan_.piece(unit_, page_); }

 private:
  // The next one that has pages.
  __device__ void begin_unit() {
    for (; !is_done(); index_ += clusters_) {
      unit_ = plan_.unit(index_);
      if (unit_.num_pages > 0) return;
    }
  }

  const Plan& plan_;
  uint32_t index_, clusters_;
  uint32_t page_ = 0;
  StreamUnit unit_ = {};
};

// Pages that a CTA asks for at a time until its ring is full: enough to keep memory busy, and no
// long queue in front of what the launch ahead still waits for.
inline constexpr uint32_t kDenseInFlight = 2;

// A stage's page and piece arrive apart: pages are fetched before the operand is there.
template <uint32_t kStages>
struct DenseRing {
  RingBarriers<kStages> pages;
  uint64_t piece_full[kStages];

  __device__ void init() {
    pages.init(kConsumerWarps);
    for (uint64_t& barrier : piece_full) ptx::mbarrier_init(&barrier, 1);
  }
};

// Streams pages, which depend on no launch, and fetches those behind the ring into L2.
template <class Plan>
class PageLoader {
 public:
  using Shared = DenseShared<Plan>;

  __device__ PageLoader(const Plan& plan, const StreamRole& role)
      : walk_(plan, role), ahead_(walk_), policy_(ptx::l2_evict_first()) {}

  // Until `end` pages are asked for.
  __device__ void load(DenseRing<Shared::kStages>& ring, std::byte* stages, uint32_t end) {
    for (; count_ < end && !walk_.is_done(); walk_.advance(), at_.advance(), ++count_) {
      if (count_ >= kDenseInFlight && count_ < Shared::kStages) {
        ptx::mbarrier_wait(&ring.pages.full[count_ - kDenseInFlight], 0);
      } else if (Plan::kAhead > 0 && count_ >= Shared::kStages) {
        fetch_until(count_ + Plan::kAhead);
      }
      claim_stage(ring.pages, at_, Plan::Page::kBytes);
      ptx::bulk_copy(stages + at_.stage * Shared::kStageBytes, walk_.page(), Plan::Page::kBytes,
                     &ring.pages.full[at_.stage], policy_);
    }
  }

 private:
  __device__ void fetch_until(uint32_t end) {
    for (; ahead_count_ < end && !ahead_.is_done(); ahead_.advance(), ++ahead_count_) {
      if (ahead_count_ >= Shared::kStages) {
        ptx::bulk_prefetch_l2(ahead_.page(), Plan::Page::kBytes);
      }
    }
  }

  PageWalk<Plan> walk_, ahead_;
  RingPosition<Shared::kStages> at_;
  uint64_t policy_;
  uint32_t count_ = 0, ahead_count_ = 0;
};

// Streams pieces of the operand to the same stages, of kStageBytes, from stage `at` on.
template <class Plan, uint32_t kStageBytes, uint32_t kStages>
__device__ __forceinline__ void load_pieces(const Plan& plan, const StreamRole& role,
                                            DenseRing<kStages>& ring, RingPosition<kStages>& at,
                                            std::byte* stages) {
  constexpr uint32_t kPieceBytes = Plan::Operand::piece_bytes(Plan::kColumns);
  for (PageWalk<Plan> walk(plan, role); !walk.is_done(); walk.advance(), at.advance()) {
    ptx::mbarrier_wait(&ring.pages.empty[at.stage], at.parity ^ 1);  // as claim_stage()
    ptx::mbarrier_arrive_expect_tx(&ring.piece_full[at.stage], kPieceBytes);
    ptx::bulk_copy(stages + at.stage * kStageBytes + Plan::Page::kBytes, walk.piece(), kPieceBytes,
                   &ring.piece_full[at.stage]);
  }
}

// What a consumer warp does, from stage `at` of kStageBytes on. index: of the next tile that the
// exchange, whose buffers are at `sums_out`, carries. await_begin(): where this CTA has no page of
// a unit, so that it waits for nothing else, until others may be sent sums.
template <class Plan, typename Plan::Launch::Work kWork, uint32_t kStageBytes, uint32_t kStages,
          class Exchange, class AwaitBegin>
__device__ __forceinline__ void consume_dense(const Plan& plan, const StreamRole& role,
                                              DenseRing<kStages>& ring, RingPosition<kStages>& at,
                                              const std::byte* stages, Exchange& exchange,
                                              std::byte* sums_out, uint32_t& index,
                                              const AwaitBegin& await_begin) {
  using Page = typename Plan::Page;
  using Work = typename Plan::Launch::Work;
  constexpr uint32_t kColumns = Plan::kColumns;
  uint32_t bits = 0;
  for (uint32_t unit = role.cluster; unit < plan.num_units; unit += role.num_clusters, ++index) {
    float sums[kColumns / 2] = {};
    const uint32_t num_pages = plan.unit(unit).num_pages;
    if (num_pages == 0) await_begin();
    for (uint32_t page = 0; page < num_pages; ++page, at.advance()) {
      const std::byte* stage = stages + at.stage * kStageBytes;
      ptx::mbarrier_wait(&ring.pages.full[at.stage], at.parity);
      const DenseSlab<Page> slab(stage, role.warpgroup, role.warp % 4, role.lane);
      ptx::mbarrier_wait(&ring.piece_full[at.stage], at.parity);
      const auto leave = [&] { leave_stage(ring.pages, at.stage); };
      if constexpr (kWork == Work::kDrain) {
        bits ^= slab.bits();
        leave();
      } else {
        add_products<typename Plan::Operand, kColumns>(slab, role.warpgroup, stage + Page::kBytes,
                                                       sums, leave);
      }
    }
    if constexpr (kWork == Work::kProducts) {
      exchange.send(sums_out, index, plan.part(unit), role.warpgroup, sums);
    }
  }
  if constexpr (kWork == Work::kDrain) {
    keep_bits(bits, const_cast<std::byte*>(plan.operand));
  }
}

// What a finishing warp does with the tiles from number `index` on of `num_tiles` that the exchange
// carries in all.
template <class Plan, class Epilogue, class Exchange>
__device__ __forceinline__ void finish_dense(const typename Plan::Launch& launch,
                                             const Epilogue& epilogue, const Plan& plan,
                                             const StreamRole& role, Exchange& exchange,
                                             const std::byte* sums_in, uint32_t& index,
                                             uint32_t num_tiles) {
  using Finish = DenseFinish<Epilogue>;
  const uint32_t end_column = Finish::kWritesAll ? Plan::kColumns : present_columns(launch);
  for (uint32_t unit = role.cluster; unit < plan.num_units; unit += role.num_clusters, ++index) {
    const uint32_t pair = unit % plan.tiles * kDenseTilePairs + role.lane;
    const auto column_of = [&](uint32_t group) {
      return Exchange::column(group, role.rank, role.finish_warp());
    };
    const auto place_of = [&](uint32_t group) {
      return DensePlace{plan.rows, pair, unit / plan.tiles, launch.first_column + column_of(group)};
    };
    const auto is_written = [&](uint32_t group) {
      return column_of(group) < end_column && 2 * pair < plan.rows;
    };
    decltype(Finish::load(epilogue, DensePlace())) loaded[Exchange::kGroups];
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      if (is_written(i)) loaded[i] = Finish::load(epilogue, place_of(i));
    }
    typename Exchange::Sums sums[Exchange::kGroups];
    exchange.take(sums_in, index, num_tiles, role.finish_warp(), sums);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      if (!is_written(i)) continue;
      Finish::store(epilogue, place_of(i), loaded[i], sums[i].first, sums[i].second);
    }
  }
}

// A CTA exits when its warps are done: its consumers have waited for all that others send to its
// barriers, its finishing warps for all sums.
template <class Plan, class Epilogue, typename Plan::Launch::Work kWork>
__global__ void __cluster_dims__(Plan::kRanks) __launch_bounds__(kStreamThreads, Plan::kCtas)
    dense_kernel(const __grid_constant__ typename Plan::Launch launch,
                 const __grid_constant__ Epilogue epilogue) {
  using Shared = DenseShared<Plan>;
  using Work = typename Plan::Launch::Work;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ DenseRing<Shared::kStages> ring;
  __shared__ typename Shared::Exchange exchange;
  const StreamRole role;
  const Plan plan(launch, role.rank);
  std::byte* stages = shared + Shared::kStage;
  if constexpr (!Plan::kReadsRoutes) ptx::launch_dependents();
  PageLoader<Plan> loader(plan, role);
  if (role.is_loader()) {
    ring.init();
    exchange.init();
    ptx::fence_mbarrier_init();
    loader.load(ring, stages, min(kDenseInFlight, Shared::kStages));
  }
  __syncwarp();
  ptx::cluster_arrive();
  ptx::cluster_wait();

  if (role.is_loader()) {
    loader.load(ring, stages, ~0u);
  } else if (role.is_operand_loader()) {
    ptx::wait_for_grids();
    // No earlier: what the next launch reads at once was written two launches before it.
    if constexpr (Plan::kReadsRoutes) ptx::launch_dependents();
    RingPosition<Shared::kStages> at;
    load_pieces<Plan, Shared::kStageBytes>(plan, role, ring, at, stages);
  } else if (role.is_consumer()) {
    RingPosition<Shared::kStages> at;
    uint32_t index = 0;
    consume_dense<Plan, kWork, Shared::kStageBytes>(plan, role, ring, at, stages, exchange, shared,
                                                    index, [] {});
  } else if (role.is_finisher()) {
    if constexpr (kWork == Work::kProducts) {
      ptx::wait_for_grids();
      uint32_t index = 0;
      finish_dense(launch, epilogue, plan, role, exchange, shared, index,
                   role.units(plan.num_units));
    }
  }
}

}  // namespace ultraspeed::cuda
