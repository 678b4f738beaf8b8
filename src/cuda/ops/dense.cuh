// The kernel of dense.h. A unit is a tile of 64 rows and a K-chunk; cluster c has units c,
// c + clusters, ...; CTA r of a cluster takes quarter r of the chunk. A stage of the ring is a page
// and its piece of the operand.
#pragma once

#include <cstdint>

#include "cuda/ops/dense.h"
#include "cuda/ops/dense_epilogue.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/dense_product.cuh"
#include "cuda/tile/page_ring.cuh"
#include "cuda/tile/partial_exchange.cuh"
#include "cuda/tile/stream_role.cuh"

namespace ultraspeed::cuda {

// CTAs that fit on a multiprocessor: with two, the next launch fills its ring while this one ends.
template <uint32_t kColumns>
inline constexpr uint32_t kDenseCtas = kColumns == 8 ? 2 : 1;

// Left to other launches up to width 32: enough for the one that makes the next operand.
inline constexpr uint32_t kDenseSpareBytes = 52 * 1024;

// A CTA's dynamic shared memory: partial sums, stages.
template <class Page, uint32_t kColumns>
struct DenseShared {
  static constexpr uint32_t kLimit =
      kDenseCtas<kColumns> == 2 ? kStreamSharedBytes / 2 - 1024
                                : kStreamSharedBytes - (kColumns <= 32 ? kDenseSpareBytes : 0);
  using Exchange = PartialExchange<kColumns, kColumns == 8 ? 2 : 1, kDenseRanks>;
  static constexpr uint32_t kPieceBytes = DenseOperand<Page>::piece_bytes(kColumns);
  static constexpr uint32_t kStageBytes = Page::kBytes + kPieceBytes;
  static constexpr uint32_t kStage = Exchange::kBytes;
  static constexpr uint32_t kStages = (kLimit - kStage) / kStageBytes;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};

struct DenseShape {
  template <class Page>
  __device__ DenseShape(const DenseLaunch& launch, Page)
      : tiles((launch.rows + kDenseTileRows - 1) / kDenseTileRows),
        row_pages(launch.k / Page::kColumns),
        chunk_pages(row_pages / launch.num_chunks),
        pages(chunk_pages / kDenseRanks),
        num_units(has_columns(launch) ? tiles * launch.num_chunks : 0) {}

  // The first group of a step always has some: nothing waits for the number.
  __device__ static bool has_columns(const DenseLaunch& launch) {
    return launch.first_column == 0 || present_columns(launch) != 0;
  }

  uint32_t tiles;
  uint32_t row_pages;    // of a tile
  uint32_t chunk_pages;  // of a tile and a chunk
  uint32_t pages;        // of a CTA in a unit
  uint32_t num_units;
};

// The pages of a CTA, one after the other.
struct DenseWalk {
  __device__ DenseWalk(const DenseShape& of, const StreamRole& role)
      : shape(of), unit(role.cluster), clusters(role.num_clusters), rank(role.rank) {}

  __device__ bool is_done() const { return unit >= shape.num_units; }
  __device__ void advance() {
    if (++page == shape.pages) {
      page = 0;
      unit += clusters;
    }
  }
  // Of the operand, or of a tile's pages.
  __device__ uint32_t piece() const {
    return unit / shape.tiles * shape.chunk_pages + rank * shape.pages + page;
  }
  __device__ uint64_t matrix_page() const {
    return uint64_t{unit % shape.tiles} * shape.row_pages + piece();
  }

  const DenseShape& shape;
  uint32_t unit, clusters, rank;
  uint32_t page = 0;
};

// Pages that a CTA asks for at a time until its ring is full: enough to keep memory busy, and no
// long queue in front of what the launch ahead still waits for.
inline constexpr uint32_t kDenseInFlight = 2;
// Pages behind the ring that are on their way to L2: memory stays busy while a launch waits for its
// operand with a full ring.
inline constexpr uint32_t kDenseAhead = 8;

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
template <class Page, uint32_t kColumns>
class PageLoader {
 public:
  using Shared = DenseShared<Page, kColumns>;

  __device__ PageLoader(const DenseLaunch& launch, const DenseShape& shape, const StreamRole& role)
      : weights_(launch.weights),
        walk_(shape, role),
        ahead_(shape, role),
        policy_(ptx::l2_evict_first()) {}

  // Until `end` pages are asked for.
  __device__ void load(DenseRing<Shared::kStages>& ring, std::byte* stages, uint32_t end) {
    for (; count_ < end && !walk_.is_done(); walk_.advance(), at_.advance(), ++count_) {
      if (count_ >= kDenseInFlight && count_ < Shared::kStages) {
        ptx::mbarrier_wait(&ring.pages.full[count_ - kDenseInFlight], 0);
      } else if (count_ >= Shared::kStages) {
        fetch_until(count_ + kDenseAhead);
      }
      claim_stage(ring.pages, at_, Page::kBytes);
      ptx::bulk_copy(stages + at_.stage * Shared::kStageBytes, address(walk_), Page::kBytes,
                     &ring.pages.full[at_.stage], policy_);
    }
  }

 private:
  __device__ const std::byte* address(const DenseWalk& walk) const {
    return weights_ + walk.matrix_page() * Page::kBytes;
  }
  __device__ void fetch_until(uint32_t end) {
    for (; ahead_count_ < end && !ahead_.is_done(); ahead_.advance(), ++ahead_count_) {
      if (ahead_count_ >= Shared::kStages) ptx::bulk_prefetch_l2(address(ahead_), Page::kBytes);
    }
  }

  const std::byte* weights_;
  DenseWalk walk_, ahead_;
  RingPosition<Shared::kStages> at_;
  uint64_t policy_;
  uint32_t count_ = 0, ahead_count_ = 0;
};

// Streams pieces of the operand to the same stages.
template <class Page, uint32_t kColumns, uint32_t kStages>
__device__ void load_pieces(const DenseLaunch& launch, const DenseShape& shape,
                            const StreamRole& role, DenseRing<kStages>& ring, std::byte* stages) {
  using Shared = DenseShared<Page, kColumns>;
  ptx::wait_for_grids();
  RingPosition<kStages> at;
  for (DenseWalk walk(shape, role); !walk.is_done(); walk.advance(), at.advance()) {
    ptx::mbarrier_wait(&ring.pages.empty[at.stage], at.parity ^ 1);  // as claim_stage()
    ptx::mbarrier_arrive_expect_tx(&ring.piece_full[at.stage], Shared::kPieceBytes);
    ptx::bulk_copy(stages + at.stage * Shared::kStageBytes + Page::kBytes,
                   launch.operand + uint64_t{walk.piece()} * Shared::kPieceBytes,
                   Shared::kPieceBytes, &ring.piece_full[at.stage]);
  }
}

template <class Page, uint32_t kColumns, DenseLaunch::Work kWork, uint32_t kStages, class Exchange>
__device__ __forceinline__ void consume_dense(const DenseLaunch& launch, const DenseShape& shape,
                                              const StreamRole& role, DenseRing<kStages>& ring,
                                              Exchange& exchange, std::byte* shared) {
  using Shared = DenseShared<Page, kColumns>;
  RingPosition<kStages> at;
  uint32_t index = 0;
  uint32_t bits = 0;
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    float sums[kColumns / 2] = {};
    for (uint32_t page = 0; page < shape.pages; ++page, at.advance()) {
      const std::byte* stage = shared + Shared::kStage + at.stage * Shared::kStageBytes;
      ptx::mbarrier_wait(&ring.pages.full[at.stage], at.parity);
      const DenseSlab<Page> slab(stage, role.warpgroup, role.warp % 4, role.lane);
      ptx::mbarrier_wait(&ring.piece_full[at.stage], at.parity);
      const auto leave = [&] { leave_stage(ring.pages, at.stage); };
      if constexpr (kWork == DenseLaunch::Work::kDrain) {
        bits ^= slab.bits();
        leave();
      } else {
        add_products<Page, kColumns>(slab, role.warpgroup, stage + Page::kBytes, sums, leave);
      }
    }
    if constexpr (kWork == DenseLaunch::Work::kProducts) {
      exchange.send(shared, index++, role.rank, role.warpgroup, sums);
    }
  }
  if constexpr (kWork == DenseLaunch::Work::kDrain) {
    keep_bits(bits, const_cast<std::byte*>(launch.operand));
  }
}

template <class Epilogue, class Exchange>
__device__ __forceinline__ void finish_dense(const DenseLaunch& launch, const Epilogue& epilogue,
                                             const DenseShape& shape, const StreamRole& role,
                                             Exchange& exchange, const std::byte* shared) {
  using Finish = DenseFinish<Epilogue>;
  const uint32_t present = present_columns(launch);
  ptx::wait_for_grids();
  const uint32_t num_units = role.units(shape.num_units);
  uint32_t index = 0;
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters, ++index) {
    const uint32_t pair = unit % shape.tiles * kDenseTilePairs + role.lane;
    const auto is_written = [&](uint32_t column) {
      return column < present && 2 * pair < launch.rows;
    };
    decltype(Finish::load(epilogue, 0, 0)) loaded[Exchange::kGroups];
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      const uint32_t column = Exchange::column(i, role.rank, role.finish_warp());
      if (is_written(column)) {
        loaded[i] = Finish::load(epilogue, pair, launch.first_column + column);
      }
    }
    typename Exchange::Sums sums[Exchange::kGroups];
    exchange.take(shared, index, num_units, role.finish_warp(), sums);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      const uint32_t column = Exchange::column(i, role.rank, role.finish_warp());
      if (!is_written(column)) continue;
      Finish::store(epilogue, launch, loaded[i], pair, unit / shape.tiles,
                    launch.first_column + column, sums[i].first, sums[i].second);
    }
  }
}

// A CTA exits when its warps are done: its consumers have waited for all that others send to its
// barriers, its finishing warps for all sums.
template <class Page, uint32_t kColumns, class Epilogue, DenseLaunch::Work kWork>
__global__ void __cluster_dims__(kDenseRanks)
    __launch_bounds__(kStreamThreads, kDenseCtas<kColumns>)
        dense_kernel(const __grid_constant__ DenseLaunch launch,
                     const __grid_constant__ Epilogue epilogue) {
  using Shared = DenseShared<Page, kColumns>;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ DenseRing<Shared::kStages> ring;
  __shared__ typename Shared::Exchange exchange;
  const StreamRole role;
  const DenseShape shape(launch, Page());
  std::byte* stages = shared + Shared::kStage;
  ptx::launch_dependents();
  PageLoader<Page, kColumns> loader(launch, shape, role);
  if (role.is_loader()) {
    ring.init();
    ptx::fence_mbarrier_init();
    loader.load(ring, stages, min(kDenseInFlight, Shared::kStages));
  } else if (threadIdx.x == 0) {
    exchange.init();
    ptx::fence_mbarrier_init();
  }
  __syncwarp();
  ptx::cluster_arrive();
  ptx::cluster_wait();

  if (role.is_loader()) {
    loader.load(ring, stages, ~0u);
  } else if (role.is_operand_loader()) {
    load_pieces<Page, kColumns>(launch, shape, role, ring, stages);
  } else if (role.is_consumer()) {
    consume_dense<Page, kColumns, kWork>(launch, shape, role, ring, exchange, shared);
  } else if (role.is_finisher()) {
    if constexpr (kWork == DenseLaunch::Work::kProducts) {
      finish_dense(launch, epilogue, shape, role, exchange, shared);
    }
  }
}

}  // namespace ultraspeed::cuda
