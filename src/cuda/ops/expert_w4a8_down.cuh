// Down of the live experts into the partial sums of this rank's K-chunks (expert_w4a8.h). A unit is
// a tile of 64 rows and a chunk; CTA c has units c, c + CTAs, .... A stage of the ring is a slot's
// page with its columns; the two consumer warpgroups take turns with the slots, and the finishing
// warps add their products in the order of slots.
#pragma once

#include "cuda/ops/expert_w4a8.cuh"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kDownTeams = 2;  // warpgroups, each with every second slot

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
        num_units(tiles * chunks),
        num_slots(live) {}

  // Of a warpgroup in a unit. Both have as many: with an odd number of slots the last stage, and
  // the product of it, is empty.
  __device__ uint32_t turns() const { return (num_slots + kDownTeams - 1) / kDownTeams; }

  uint32_t tiles, chunks;
  uint32_t num_units;
  uint32_t num_slots;
};

// The stages of a CTA's ring in order: all live slots of each of its units, filled up to turns.
struct DownWalk {
  // Units first, first + stride, ....
  __device__ DownWalk(const DownShape& shape_in, uint32_t first, uint32_t stride_in)
      : shape(shape_in), stride(stride_in) {
    begin_unit(first);
  }

  __device__ bool is_done() const { return unit >= shape.num_units || shape.num_slots == 0; }
  __device__ bool is_empty() const { return slot >= shape.num_slots; }
  __device__ const std::byte* pages(const ExpertLaunch& launch, const ExpertDownData& data) const {
    const uint64_t matrix_bytes = uint64_t{shape.tiles} * shape.chunks * DownPage::kBytes;
    return data.weights + launch.route.expert[slot] * matrix_bytes +
           uint64_t{page} * DownPage::kBytes;
  }
  // The slot's columns.
  __device__ uint64_t piece() const { return uint64_t{slot} * shape.chunks + chunk; }
  __device__ void advance() {
    if (++slot == shape.turns() * kDownTeams) begin_unit(unit + stride);
  }

  const DownShape& shape;
  const uint32_t stride;
  uint32_t slot;
  uint32_t chunk;
  uint32_t page;  // of an expert's matrix

 private:
  __device__ void begin_unit(uint32_t next) {
    unit = next;
    slot = 0;
    chunk = unit / shape.tiles;
    page = down_page(unit % shape.tiles, chunk, shape.chunks);
  }

  uint32_t unit;
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
__device__ __forceinline__ void multiply_unit(const DownShape& shape, uint32_t team, Stages& stages,
                                              ProductExchange<kColumns>& exchange,
                                              std::byte* sums_out, uint32_t& turn) {
  using Operand = E4m3Operand<kColumns>;
  constexpr uint32_t kBatch = kColumns == 8 ? 8 : kColumns <= 32 ? 4 : 2;  // products in registers
  Mxfp4Slab slab;
  if (kReadsAhead<kColumns> && team < shape.num_slots) slab = stages.read();
  for (uint32_t slot = team; slot < shape.turns() * kDownTeams; slot += kDownTeams) {
    const auto next = stages.next();
    float product[kColumns / 2] = {};
    if (slot < shape.num_slots) {
      const std::byte* piece = stages.piece();
      if (!kReadsAhead<kColumns>) slab = stages.read();
      const Mxfp4Slab of_slot = slab;
      const auto at = stages.at;
      multiply_slab<kColumns, kBatch, kDescriptorStep<kColumns>>(
          of_slot, operand_descriptor<kColumns>(piece),
          reinterpret_cast<const float*>(piece + Operand::code_bytes(kSlabBlocks)), product, [&] {
            if (!kReadsAhead<kColumns> || slot + kDownTeams >= shape.num_slots) return;
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
__device__ __forceinline__ void drain_unit(const DownShape& shape,
                                           DownStages<kColumns, kStages>& stages, uint32_t& bits) {
  for (uint32_t i = 0; i < shape.turns(); ++i) {
    bits ^= stages.read().bits();
    stages.leave();
    stages.at = stages.next();
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
  for (uint32_t unit = first; unit < shape.num_units; unit += stride) {
    typename Exchange::Sums sums[Exchange::kGroups] = {};
    for (uint32_t i = 0; i < shape.turns(); ++i) {
      exchange.add(sums_in, turn++, finish_warp, sums);
    }
    const uint32_t chunk = data.first_chunk + unit / shape.tiles;
    const uint32_t row = unit % shape.tiles * kBlockRows + lane / 8 * 16 + lane % 8;
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
    for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
      if constexpr (kWork == ExpertLaunch::Work::kDrain) {
        drain_unit(shape, stages, bits);
      } else {
        multiply_unit<kColumns>(shape, role.warpgroup, stages, exchange, shared, turn);
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
