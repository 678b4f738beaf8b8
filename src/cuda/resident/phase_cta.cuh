// A CTA that streams phases' pages: its shared memory, and what its roles have in common.
//
// Roles (tile/stream_role.cuh): the loader's warp runs ahead of all waits and brings pages of
// weights, and the phases themselves, to shared memory; the operand warp waits for phases and
// brings what they wrote; consumer warps multiply; finishing warps add partial sums, write results
// and count the CTA at the phase. All walk the same phases, and the same slots of the page ring, in
// the same order.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/ops/context.cuh"
#include "cuda/ops/dense.cuh"
#include "cuda/ops/expert_w4a8_down.cuh"
#include "cuda/ops/expert_w4a8_gate_up.cuh"
#include "cuda/ops/f32_product.cuh"
#include "cuda/resident/phase.h"
#include "cuda/resident/phase_ctas.h"
#include "cuda/sync/phase_counter.cuh"

namespace ultraspeed::cuda {

static_assert(kPhaseRanks == kDenseRanks && kPhaseRanks == kGateUpMaxRanks);
inline constexpr uint32_t kPhaseSlots = 8;
inline constexpr uint32_t kPhaseEntries = 8;
inline constexpr uint32_t kPhaseRoleWarps = kStreamThreads / 32;

using PhaseExchange = PartialExchange<kPhaseColumns, 2, kPhaseRanks>;
using PhaseExchangeAlone = PartialExchange<kPhaseColumns, 2, 1>;  // of CTAs that share no K
static_assert(PhaseExchangeAlone::kBytes <= PhaseExchange::kBytes);
using PhaseProducts = ProductExchange<kPhaseColumns>;
// Of F32 products, by what divides K.
using PhaseProductTile = ProductTile<2, 1, 2, 4, 384>;
using SmallProductTile = ProductTile<2, 1, 2, 4, kF32LongStage>;
using LeastProductTile = ProductTile<2, 1, 2, 4, kF32ShortStage>;
static_assert(SmallProductTile::kRows == PhaseProductTile::kRows &&
              SmallProductTile::kColumns == PhaseProductTile::kColumns &&
              LeastProductTile::kRows == PhaseProductTile::kRows &&
              LeastProductTile::kColumns == PhaseProductTile::kColumns);
using PhaseRingPosition = RingPosition<kPhaseSlots>;

// A slot of the ring has, from its begin on, one of:
//   a dense page, its piece
//   a gate/up page
//   the down pages of two items, their pieces
//   rows of an F32 product's weights and inputs
inline constexpr uint32_t kDownPieceBytes = E4m3Operand<kPhaseColumns>::bytes(kSlabBlocks);
inline constexpr uint32_t kSlotBytes = kDownTeams * (DownPage::kBytes + kDownPieceBytes);
static_assert(kSlotBytes % 128 == 0);
static_assert(Fp8Page::kBytes + DenseOperand<Fp8Page>::piece_bytes(kPhaseColumns) <= kSlotBytes);
static_assert(Bf16Page::kBytes + DenseOperand<Bf16Page>::piece_bytes(kPhaseColumns) <= kSlotBytes);
static_assert(PhaseProductTile::kStageFloats * sizeof(float) <= kSlotBytes);

// Dynamic shared memory.
struct PhaseLayout {
  static constexpr uint32_t kSums = 0;
  static constexpr uint32_t kProducts = kSums + PhaseExchange::kBytes;
  static constexpr uint32_t kInput = kProducts + PhaseProducts::kBytes;  // of gate/up
  static constexpr uint32_t kSlots =
      kInput + E4m3Operand<kPhaseColumns>::bytes(kMaxPart / kBlockColumns);
  static constexpr uint32_t kBytes = kSlots + kPhaseSlots * kSlotBytes;
  static_assert(kSlots % 128 == 0);
};

// A phase as roles get it from the loader.
struct PhaseEntry {
  Phase phase;
  PhaseStep step;  // epoch 0: no phase, roles return
};

// Static shared memory.
struct PhaseShared {
  DenseRing<kPhaseSlots> ring;
  RingBarriers<kPhaseEntries> entries_ring;
  uint64_t input_full, input_empty;  // of gate/up's input, with which live_slots comes
  // What a dense phase waits for is there. Whoever takes part in it ends it before the next begins,
  // unless the step was aborted: then waits may end early, and who misses a phase of this barrier
  // waits until UnitCta::end_kernels() ends the kernels.
  uint64_t dense_begun;
  PhaseExchange sums;
  PhaseExchangeAlone sums_alone;
  PhaseProducts products;
  uint32_t live_slots;
  alignas(16) PhaseEntry entries[kPhaseEntries];

  // By one thread.
  __device__ void init() {
    ring.init();
    entries_ring.init(kPhaseRoleWarps);
    ptx::mbarrier_init(&input_full, 1);
    ptx::mbarrier_init(&dense_begun, 1);
    ptx::mbarrier_init(&input_empty, kConsumerWarps + kFinishWarps);
    sums.init();
    sums_alone.init();
    products.init();
  }
};

// What each role keeps from phase to phase.
struct PhaseRole {
  const ResidentPhases& resident;
  PhaseShared& shared;
  std::byte* const dynamic;
  const StreamRole stream;
  PhaseRingPosition at = {};
  RingPosition<kPhaseEntries> entry = {};
  PhaseStep step = {};
  uint32_t num_inputs = 0;  // of gate/up, so far
  uint32_t live_slots = 0;  // of the last gate/up
  uint32_t num_begins = 0;  // of dense phases that the CTA takes part in

  __device__ std::byte* slots() const { return dynamic + PhaseLayout::kSlots; }
  __device__ std::byte* slot() const { return slots() + at.stage * kSlotBytes; }
  __device__ uint32_t cta() const { return blockIdx.x; }

  __device__ bool takes_part(const Phase& phase) const { return cta() < phase.arrivals; }

  // Calls visit(phase) for all phases of all steps. For a whole warp.
  template <class Visit>
  __device__ __forceinline__ void walk(const Visit& visit) {
    while (visit_next(visit)) {
    }
  }
  // For the next phase. False: there is none.
  template <class Visit>
  __device__ __forceinline__ bool visit_next(const Visit& visit) {
    ptx::mbarrier_wait(&shared.entries_ring.full[entry.stage], entry.parity);
    const PhaseEntry& next = shared.entries[entry.stage];
    step = next.step;
    if (step.epoch == 0) return false;
    visit(next.phase);
    leave_stage(shared.entries_ring, entry.stage);
    entry.advance();
    return true;
  }

  // For a warp that reads gate/up's input or takes its size: waits until both are there.
  __device__ __forceinline__ void await_input() {
    ptx::mbarrier_wait(&shared.input_full, num_inputs++ % 2);
    live_slots = shared.live_slots;
  }
  __device__ __forceinline__ void leave_input() const {
    __syncwarp();
    if (stream.lane == 0) ptx::mbarrier_arrive(&shared.input_empty);
  }

  // A dense phase's number among those that the CTA takes part in.
  __device__ __forceinline__ uint32_t next_begin(const Phase& phase) {
    return takes_part(phase) ? num_begins++ : 0;
  }
  // Waits until what dense phase `begin` needs is there: for loads beside its operand, and for sums
  // that go to CTAs which may still be in a phase before it. Partner: PhaseOperands::load().
  __device__ __forceinline__ void await_begin(uint32_t begin) const {
    ptx::mbarrier_wait(&shared.dense_begun, begin % 2);
  }

  // For one thread: waits for what the phase needs.
  __device__ __forceinline__ void await(const Phase& phase) const {
    begin_phase(resident, step, phase, cta());
  }
  // For one thread, behind a barrier of those that wrote: counts the CTA at the phase.
  __device__ __forceinline__ void arrive(const Phase& phase) const {
    end_phase(resident, step, phase, cta());
  }
};

__device__ __forceinline__ bool is_dense(PhaseKind kind) {
  return kind == PhaseKind::kDenseStore || kind == PhaseKind::kDensePartials ||
         kind == PhaseKind::kDenseSwiglu || kind == PhaseKind::kDenseQkv;
}

// What dense phases have in common, whatever becomes of their sums.
__device__ __forceinline__ const DenseLaunch& dense_launch(const Phase& phase) {
  return phase.as<DenseLaunch>();
}

// Calls call(DensePlan of the pages) for a dense phase.
template <class Call>
__device__ __forceinline__ void with_dense_plan(const Phase& phase, uint32_t rank,
                                                const Call& call) {
  const DenseLaunch& launch = dense_launch(phase);
  if (launch.format == tensor::WeightFormat::kBf16) {
    call(DensePlan<Bf16Page, kPhaseColumns>(launch, rank));
  } else {
    call(DensePlan<Fp8Page, kPhaseColumns>(launch, rank));
  }
}

__device__ __forceinline__ uint32_t max_slots_of(const program::RouteTable& route) {
  return static_cast<uint32_t>(route.pair_begin - route.expert);
}
// Of a step that was aborted before Route has ever written the table: none.
__device__ __forceinline__ uint32_t live_slots_of(const program::RouteTable& route) {
  const uint32_t count = *route.num_slots;
  return count <= max_slots_of(route) ? count : 0;
}

// This CTA's place in a phase of gate/up, where either the CTAs of a cluster share K or none do.
__device__ __forceinline__ StreamRole gate_up_role(const ExpertLaunch& launch,
                                                   const StreamRole& stream) {
  if (gate_up_ranks(launch.hidden) == kPhaseRanks) return stream;
  StreamRole alone = stream;
  alone.rank = 0;
  alone.cluster = blockIdx.x;
  alone.num_clusters = gridDim.x;
  return alone;
}

// Calls call(tile) with the type that an F32 product takes.
template <class Call>
__device__ __forceinline__ void with_f32_tile(const F32Product& data, const Call& call) {
  if (data.k % PhaseProductTile::kStageK == 0) {
    call(PhaseProductTile());
  } else if (data.k % SmallProductTile::kStageK == 0) {
    call(SmallProductTile());
  } else {
    call(LeastProductTile());
  }
}

// Tiles of an F32 product (ops/f32_product.cuh): those of the same rows are neighbours.
struct F32Tiles {
  static constexpr uint32_t kColumnTiles = kPhaseColumns / PhaseProductTile::kColumns;
  __host__ __device__ explicit F32Tiles(const F32Product& data)
      : count((data.num_rows + PhaseProductTile::kRows - 1) / PhaseProductTile::kRows *
              kColumnTiles) {}
  __device__ static uint32_t x(uint32_t unit) { return unit / kColumnTiles; }
  __device__ static uint32_t y(uint32_t unit) { return unit % kColumnTiles; }
  uint32_t count;
};

}  // namespace ultraspeed::cuda
