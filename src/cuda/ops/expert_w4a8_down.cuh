// Down of the live experts into the partial sums of this rank's K-chunks (expert_w4a8.h). A unit is
// a tile of 64 rows and a chunk; CTA c has units c, c + CTAs, .... A stage of the ring is an item:
// a slot's page with its columns; the two consumer warpgroups take turns with the items, and the
// finishing warps add their products in the order of items, which is that of slots.
#pragma once

#include "cuda/ops/expert_w4a8.cuh"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kDownTeams = 2;  // warpgroups, each with every second item

// Left to the launch behind, which makes operands.
inline constexpr uint32_t kDownSpareBytes = 64 * 1024;

// The products of a turn on their way from the consumer warpgroups to the finishing warps. A buffer
// is, f32: [2 teams][n / 2 pairs of columns][128 threads / 4][2 rows][2 columns]: of thread p of 32
// rows 16 w + g and 16 w + g + 8 with p = 8 w + g.
template <uint32_t kColumns>
struct ProductExchange {
  static constexpr uint32_t kBuffers = kColumns <= 16 ? 4 : 2;
  static constexpr uint32_t kGroups = kColumns / 2;  // pairs of columns
  static constexpr uint32_t kGroupBytes = 32 * sizeof(float4);
  static constexpr uint32_t kTeamBytes = kGroups * kGroupBytes;
  static constexpr uint32_t kBufferBytes = kDownTeams * kTeamBytes;
  static constexpr uint32_t kBytes = kBuffers * kBufferBytes;

  uint64_t full[kBuffers];   // completes when all consumer warps have written
  uint64_t empty[kBuffers];  // completes when both finishing warps have read

  // Called by one thread; a CTA barrier follows.
  __device__ void init() {
    for (uint32_t i = 0; i < kBuffers; ++i) {
      ptx::mbarrier_init(&full[i], kConsumerWarps);
      ptx::mbarrier_init(&empty[i], kFinishWarps);
    }
  }

  // For a warp of team `team`: its product of turn number `turn` (0, 1, 2, ...).
  __device__ __forceinline__ void send(std::byte* buffers, uint32_t turn, uint32_t team,
                                       const float (&product)[kColumns / 2]) {
    const uint32_t buffer = turn % kBuffers, thread = threadIdx.x % 128;
    ptx::mbarrier_wait(&empty[buffer], (turn / kBuffers & 1) ^ 1);
    auto* to = reinterpret_cast<float4*>(buffers + buffer * kBufferBytes + team * kTeamBytes +
                                         thread % 4 * kGroupBytes) +
               thread / 4;
#pragma unroll
    for (uint32_t j = 0; j < kColumns / 8; ++j) {
      to[j * 4 * 32] =
          float4{product[4 * j], product[4 * j + 1], product[4 * j + 2], product[4 * j + 3]};
    }
    __syncwarp();
    if (thread % 32 == 0) ptx::mbarrier_arrive(&full[buffer]);
  }

  struct Sums {
    float first, second;  // rows of thread p = this lane
  };
  // For finishing warp f, which has column f of each pair: adds the turn's products, team by team.
  __device__ __forceinline__ void add(const std::byte* buffers, uint32_t turn, uint32_t finish_warp,
                                      Sums (&sums)[kGroups]) {
    const uint32_t buffer = turn % kBuffers;
    ptx::mbarrier_wait(&full[buffer], turn / kBuffers & 1);
#pragma unroll
    for (uint32_t i = 0; i < kGroups; ++i) {
#pragma unroll
      for (uint32_t team = 0; team < kDownTeams; ++team) {
        const auto* values =
            reinterpret_cast<const float*>(buffers + buffer * kBufferBytes + team * kTeamBytes +
                                           i * kGroupBytes + threadIdx.x % 32 * sizeof(float4));
        sums[i].first += values[finish_warp];
        sums[i].second += values[finish_warp + 2];
      }
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&empty[buffer]);
  }
};

template <uint32_t kColumns>
struct DownShared {
  using Exchange = ProductExchange<kColumns>;
  static constexpr uint32_t kPieceBytes = E4m3Operand<kColumns>::bytes(kSlabBlocks);
  static constexpr uint32_t kStageBytes = DownPage::kBytes + kPieceBytes;
  static constexpr uint32_t kStage = Exchange::kBytes;
  static constexpr uint32_t kLimit = kStreamSharedBytes - (kColumns <= 16 ? kDownSpareBytes : 0);
  static constexpr uint32_t kStages = (kLimit - kStage) / kStageBytes / kDownTeams * kDownTeams;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};

struct DownShape {
  // live: live_slots() of the launch.
  __device__ DownShape(const ExpertLaunch& launch, uint32_t live)
      : tiles(launch.hidden / kBlockRows),
        chunks(launch.intermediate / launch.chunk_columns),
        pages(down_pages(launch)),
        num_units(tiles * chunks),
        num_slots(live) {}

  uint32_t tiles, chunks;
  uint32_t pages;  // of a row of tiles
  uint32_t num_units;
  uint32_t num_slots;
};

// What a unit consists of.
struct DownUnit {
  __device__ DownUnit(const DownShape& shape, uint32_t unit)
      : tile(unit % shape.tiles),
        chunk(unit / shape.tiles),
        columns(chunk, shape.chunks, shape.pages),
        num_items(shape.num_slots * columns.num_pages) {}

  // Of a warpgroup. Both have as many: with an odd number of items the last stage, and the product
  // of it, is empty.
  __device__ uint32_t turns() const { return (num_items + kDownTeams - 1) / kDownTeams; }

  uint32_t tile, chunk;
  DownChunk columns;
  uint32_t num_items;  // all live slots, the pages of each
};

// The stages of a CTA's ring in order: all items of each of its units, filled up to turns.
struct DownWalk {
  // Units first, first + stride, ....
  __device__ DownWalk(const DownShape& shape_in, uint32_t first, uint32_t stride_in)
      : shape(shape_in), stride(stride_in), at(first), unit(shape_in, first) {
    begin_unit();
  }

  __device__ bool is_done() const { return at >= shape.num_units || shape.num_slots == 0; }
  __device__ bool is_empty() const { return item >= unit.num_items; }
  __device__ bool is_last() const { return item + 1 == unit.num_items; }
  __device__ const std::byte* pages(const ExpertLaunch& launch, const ExpertDownData& data) const {
    const uint64_t matrix_pages = uint64_t{(shape.tiles + 1) / 2 * 2} * shape.pages;
    return data.weights +
           (launch.route.expert[slot] * matrix_pages + first_page + 2 * page) * DownPage::kBytes;
  }
  // The slot's columns.
  __device__ uint64_t piece() const {
    return uint64_t{slot} * shape.pages + unit.columns.first_page + page;
  }
  __device__ void advance() {
    ++item;
    if (++page == unit.columns.num_pages) {
      page = 0;
      ++slot;
    }
    if (item < end) return;
    at += stride;
    begin_unit();
  }

  const DownShape& shape;
  const uint32_t stride;

 private:
  // The next one that has items.
  __device__ void begin_unit() {
    for (; !is_done(); at += stride) {
      unit = DownUnit(shape, at);
      if (unit.num_items > 0) break;
    }
    item = slot = page = 0;
    end = unit.turns() * kDownTeams;
    first_page = down_page(unit.tile, unit.columns.first_page, shape.pages);
  }

  uint32_t at;  // number of the unit
  DownUnit unit;
  uint32_t item, slot, page;  // of the unit, the page of its columns
  uint32_t end;
  uint32_t first_page;  // of an expert's matrix; the next of the same tile is two behind it
};

template <uint32_t kColumns, uint32_t kStages>
__device__ void load_down(const ExpertLaunch& launch, const ExpertDownData& data,
                          const DownShape& shape, const StreamRole& role,
                          RingBarriers<kStages>& ring, std::byte* shared) {
  using Shared = DownShared<kColumns>;
  const uint64_t policy = ptx::l2_evict_first();
  const auto stage_of = [&](const RingPosition<kStages>& at) {
    return shared + Shared::kStage + at.stage * Shared::kStageBytes;
  };
  const auto load_page = [&](const DownWalk& walk, const RingPosition<kStages>& at) {
    claim_stage(ring, at, walk.is_empty() ? 0 : Shared::kStageBytes);
    if (walk.is_empty()) return;
    ptx::bulk_copy(stage_of(at), walk.pages(launch, data), DownPage::kBytes, &ring.full[at.stage],
                   policy);
  };
  const auto load_columns = [&](const DownWalk& walk, const RingPosition<kStages>& at) {
    if (walk.is_empty()) return;
    ptx::bulk_copy(stage_of(at) + DownPage::kBytes, data.input + walk.piece() * Shared::kPieceBytes,
                   Shared::kPieceBytes, &ring.full[at.stage]);
  };
  DownWalk walk(shape, role.cluster, role.num_clusters);
  RingPosition<kStages> at;
  for (; !walk.is_done() && at.parity == 0; walk.advance(), at.advance()) load_page(walk, at);
  await_grid_before();
  DownWalk columns(shape, role.cluster, role.num_clusters);
  RingPosition<kStages> columns_at;
  for (uint32_t i = 0; i < kStages && !columns.is_done(); ++i) {
    load_columns(columns, columns_at);
    columns.advance();
    columns_at.advance();
  }
  for (; !walk.is_done(); walk.advance(), at.advance()) {
    load_page(walk, at);
    load_columns(walk, at);
  }
}

// The stages of a consumer warpgroup's ring, every second one: it alone uses them, so that none may
// be a lap ahead of what the other waits for.
template <uint32_t kColumns, uint32_t kStages>
struct DownStages {
  using Shared = DownShared<kColumns>;
  static_assert(kStages % kDownTeams == 0);

  __device__ DownStages(RingBarriers<kStages>& of_ring, const std::byte* of_shared, uint32_t team)
      : ring(of_ring), shared(of_shared) {
    at.stage = team;
  }

  __device__ const std::byte* page() const {
    return shared + Shared::kStage + at.stage * Shared::kStageBytes;
  }
  __device__ const std::byte* piece() const { return page() + DownPage::kBytes; }
  __device__ void wait() const { ptx::mbarrier_wait(&ring.full[at.stage], at.parity); }
  __device__ __forceinline__ Mxfp4Slab read() const {
    wait();
    return {page(), page() + DownPage::kCodeBytes};
  }
  __device__ void leave() const { leave_stage(ring, at.stage); }
  __device__ RingPosition<kStages> next() const {
    RingPosition<kStages> next = at;
    next.stage += kDownTeams;
    if (next.stage >= kStages) next = {next.stage - kStages, next.parity ^ 1};
    return next;
  }

  RingBarriers<kStages>& ring;
  const std::byte* shared;
  RingPosition<kStages> at;
};

// A warpgroup's products of a unit. A slab is read while the product before runs. turn: of all
// units'.
template <uint32_t kColumns, class Stages>
__device__ __forceinline__ void multiply_unit(const DownUnit& unit, uint32_t team, Stages& stages,
                                              ProductExchange<kColumns>& exchange,
                                              std::byte* sums_out, uint32_t& turn) {
  using Operand = E4m3Operand<kColumns>;
  constexpr uint32_t kBatch = kColumns == 8 ? 8 : kColumns <= 32 ? 4 : 2;  // products in registers
  Mxfp4Slab slab;
  if (kReadsAhead<kColumns> && team < unit.num_items) slab = stages.read();
  for (uint32_t item = team; item < unit.turns() * kDownTeams; item += kDownTeams) {
    const auto next = stages.next();
    float product[kColumns / 2] = {};
    if (item < unit.num_items) {
      const std::byte* piece = stages.piece();
      if (!kReadsAhead<kColumns>) slab = stages.read();
      const Mxfp4Slab of_item = slab;
      const auto at = stages.at;
      multiply_slab<kColumns, kBatch, kDescriptorStep<kColumns>>(
          of_item, operand_descriptor<kColumns>(piece),
          reinterpret_cast<const float*>(piece + Operand::code_bytes(kSlabBlocks)), product, [&] {
            if (!kReadsAhead<kColumns> || item + kDownTeams >= unit.num_items) return;
            stages.at = next;
            slab = stages.read();
          });
      stages.at = at;
    } else {
      stages.wait();
    }
    stages.leave();
    stages.at = next;
    exchange.send(sums_out, turn++, team, product);
  }
}

// Reads a unit's stages as multiply_unit() does and computes nothing.
template <uint32_t kColumns, uint32_t kStages>
__device__ __forceinline__ void drain_unit(const DownUnit& unit,
                                           DownStages<kColumns, kStages>& stages, uint32_t& bits) {
  for (uint32_t i = 0; i < unit.turns(); ++i) {
    bits ^= stages.read().bits();
    stages.leave();
    stages.at = stages.next();
  }
}

// The weighted biases of a unit's experts, to sums of rows row and row + 8 of a finishing warp's
// columns.
template <uint32_t kColumns>
__device__ __forceinline__ void add_biases(
    const ExpertLaunch& launch, const ExpertDownData& data, uint32_t num_slots, uint32_t row,
    uint32_t finish_warp,
    typename ProductExchange<kColumns>::Sums (&sums)[ProductExchange<kColumns>::kGroups]) {
  const program::RouteTable& route = launch.route;
  for (uint32_t slot = 0; slot < num_slots; ++slot) {
    const float* bias = data.bias + uint64_t{route.expert[slot]} * launch.hidden + row;
    const float first = bias[0], second = bias[8];
    for (uint32_t pair = route.pair_begin[slot]; pair < route.pair_begin[slot + 1]; ++pair) {
      const uint32_t column = route.pair_column[pair] - launch.first_column;  // huge before it
      const float weight = route.pair_weight[pair];
#pragma unroll
      for (uint32_t i = 0; i < ProductExchange<kColumns>::kGroups; ++i) {
        if (column != 2 * i + finish_warp) continue;
        sums[i].first = fmaf(weight, first, sums[i].first);
        sums[i].second = fmaf(weight, second, sums[i].second);
      }
    }
  }
}

// What finishing warp `finish_warp` does with units first, first + stride, .... turn: of all that
// the exchange carries.
template <uint32_t kColumns>
__device__ __forceinline__ void finish_down(const ExpertLaunch& launch, const ExpertDownData& data,
                                            const DownShape& shape, uint32_t first, uint32_t stride,
                                            uint32_t finish_warp,
                                            ProductExchange<kColumns>& exchange,
                                            const std::byte* sums_in, uint32_t& turn) {
  using Exchange = ProductExchange<kColumns>;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t present = present_columns(launch);
  for (uint32_t index = first; index < shape.num_units; index += stride) {
    const DownUnit unit(shape, index);
    const uint32_t chunk = data.first_chunk + unit.chunk;
    const uint32_t row = unit.tile * kBlockRows + lane / 8 * 16 + lane % 8;
    typename Exchange::Sums sums[Exchange::kGroups] = {};
    if (data.bias != nullptr && chunk == 0) {
      add_biases<kColumns>(launch, data, shape.num_slots, row, finish_warp, sums);
    }
    const uint32_t turns = unit.turns();
    for (uint32_t i = 0; i < turns; ++i) exchange.add(sums_in, turn++, finish_warp, sums);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      const uint32_t column = 2 * i + finish_warp;
      if (column >= present) continue;
      const uint64_t t = launch.first_column + column;
      float* out = data.partials + (t * program::kReductionChunks + chunk) * launch.hidden + row;
      out[0] = sums[i].first;
      out[8] = sums[i].second;
    }
  }
}

template <uint32_t kColumns, ExpertLaunch::Work kWork>
__global__ void __cluster_dims__(1) __launch_bounds__(kStreamThreads, 1)
    expert_down_kernel(const __grid_constant__ ExpertLaunch launch,
                       const __grid_constant__ ExpertDownData data) {
  using Shared = DownShared<kColumns>;
  constexpr uint32_t kStages = Shared::kStages;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ RingBarriers<kStages> ring;
  __shared__ typename Shared::Exchange exchange;
  const StreamRole role;
  if (threadIdx.x == 0) {
    ring.init(kConsumerWarps / kDownTeams);
    exchange.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const DownShape shape(launch, live_slots(launch));

  if (role.is_loader()) {
    load_down<kColumns, kStages>(launch, data, shape, role, ring, shared);
  } else if (role.is_consumer()) {
    DownStages<kColumns, kStages> stages(ring, shared, role.warpgroup);
    uint32_t turn = 0;
    uint32_t bits = 0;
    for (uint32_t index = role.cluster; index < shape.num_units; index += role.num_clusters) {
      const DownUnit unit(shape, index);
      if constexpr (kWork == ExpertLaunch::Work::kDrain) {
        drain_unit(unit, stages, bits);
      } else {
        multiply_unit<kColumns>(unit, role.warpgroup, stages, exchange, shared, turn);
      }
    }
    if constexpr (kWork == ExpertLaunch::Work::kDrain) {
      keep_bits(bits, data.partials);
    }
  } else if (role.is_finisher() && kWork == ExpertLaunch::Work::kProducts) {
    uint32_t turn = 0;
    finish_down<kColumns>(launch, data, shape, role.cluster, role.num_clusters, role.finish_warp(),
                          exchange, shared, turn);
  }
}

}  // namespace ultraspeed::cuda
