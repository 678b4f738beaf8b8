// The consumer warps (phase_cta.cuh): products of pages.
#pragma once

#include "cuda/resident/phase_cta.cuh"

namespace ultraspeed::cuda {

// A warpgroup's stages of down: a slot has a page and a piece for each of both.
struct SharedDownStages {
  __device__ void wait() const {
    ptx::mbarrier_wait(&ring.pages.full[at.stage], at.parity);
    ptx::mbarrier_wait(&ring.piece_full[at.stage], at.parity);
  }
  __device__ const std::byte* page() const {
    return slots + at.stage * kSlotBytes + team * DownPage::kBytes;
  }
  __device__ const std::byte* piece() const {
    return slots + at.stage * kSlotBytes + kDownTeams * DownPage::kBytes + team * kDownPieceBytes;
  }
  __device__ __forceinline__ Mxfp4Slab read() const {
    wait();
    return {page(), page() + DownPage::kCodeBytes};
  }
  __device__ void leave() const { leave_stage(ring.pages, at.stage); }
  __device__ PhaseRingPosition next() const {
    PhaseRingPosition next = at;
    next.advance();
    return next;
  }

  DenseRing<kPhaseSlots>& ring;
  const std::byte* slots;
  uint32_t team;
  PhaseRingPosition at;
};

// Gives sums to the exchange of the CTAs that share K. One loop serves both: it is long.
struct EitherExchange {
  __device__ __forceinline__ void send(std::byte* buffers, uint32_t index, uint32_t rank,
                                       uint32_t warpgroup, const float (&sums)[kPhaseColumns / 2]) {
    if (is_alone) {
      alone.send(buffers, index, rank, warpgroup, sums);
    } else {
      shared.send(buffers, index, rank, warpgroup, sums);
    }
  }

  PhaseExchange& shared;
  PhaseExchangeAlone& alone;
  bool is_alone;
};

class PhaseConsumer {
 public:
  __device__ explicit PhaseConsumer(const PhaseRole& role) : role_(role) {}

  __device__ void run() {
    role_.walk([this](const Phase& phase) { consume(phase); });
  }

 private:
  __device__ void consume(const Phase& phase) {
    if (is_dense(phase.kind)) {
      return dense_launch(phase).format == tensor::WeightFormat::kBf16 ? dense<Bf16Page>(phase)
                                                                       : dense<Fp8Page>(phase);
    }
    if (phase.kind == PhaseKind::kGateUp) return gate_up(phase);
    if (phase.kind == PhaseKind::kDown) return down(phase);
    if (phase.kind == PhaseKind::kF32Product) return f32_product(phase);
  }

  template <class Page>
  __device__ __forceinline__ void dense(const Phase& phase) {
    using Plan = DensePlan<Page, kPhaseColumns>;
    const Plan plan(dense_launch(phase), role_.stream.rank);
    const uint32_t begin = role_.next_begin(phase);
    consume_dense<Plan, DenseLaunch::Work::kProducts, kSlotBytes>(
        plan, role_.stream, role_.shared.ring, role_.at, role_.slots(), role_.shared.sums,
        role_.dynamic + PhaseLayout::kSums, tile_, [&] { role_.await_begin(begin); });
  }

  __device__ __forceinline__ void gate_up(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertGateUpData>>();
    role_.await_input();
    const bool is_alone = gate_up_ranks(launch.hidden) == 1;
    const StreamRole stream = gate_up_role(launch, role_.stream);
    const GateUpShape shape(launch, gate_up_ranks(launch.hidden), role_.live_slots);
    uint32_t tile = is_alone ? tile_alone_ : tile_;
    EitherExchange exchange{role_.shared.sums, role_.shared.sums_alone, is_alone};
    consume_gate_up<kPhaseColumns, ExpertLaunch::Work::kProducts, kSlotBytes, true>(
        data, shape, stream, role_.dynamic + PhaseLayout::kInput, role_.shared.ring.pages, role_.at,
        role_.slots(), exchange, role_.dynamic + PhaseLayout::kSums, tile);
    if (is_alone) {
      tile_alone_ = tile;
    } else {
      tile_ = tile;
    }
    role_.leave_input();
  }

  __device__ __forceinline__ void down(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertDownData>>();
    const DownShape shape(launch, role_.live_slots);
    for (uint32_t unit = role_.cta(); unit < shape.num_units; unit += gridDim.x) {
      SharedDownStages stages{role_.shared.ring, role_.slots(), role_.stream.warpgroup, role_.at};
      multiply_unit<kPhaseColumns>(DownUnit(shape, unit), role_.stream.warpgroup, stages,
                                   role_.shared.products, role_.dynamic + PhaseLayout::kProducts,
                                   turn_);
      role_.at = stages.at;
    }
  }

  __device__ void await_slot() const {
    ptx::mbarrier_wait(&role_.shared.ring.pages.full[role_.at.stage], role_.at.parity);
  }
  __device__ void leave_slot() {
    leave_stage(role_.shared.ring.pages, role_.at.stage);
    role_.at.advance();
  }

  template <class Tile>
  __device__ __forceinline__ void multiply_f32(const F32Product& data) {
    static_assert(Tile::kWarps == kConsumerWarps);
    const F32Tiles tiles(data);
    const auto next = [&] {
      await_slot();
      ptx::mbarrier_wait(&role_.shared.ring.piece_full[role_.at.stage], role_.at.parity);
      return reinterpret_cast<const float*>(role_.slot());
    };
    for (uint32_t unit = role_.cta(); unit < tiles.count; unit += gridDim.x) {
      make_sums<Tile>(data, F32Tiles::x(unit), F32Tiles::y(unit), next, [&] { leave_slot(); });
    }
  }

  __device__ __forceinline__ void f32_product(const Phase& phase) {
    const auto& data = phase.as<F32Product>();
    with_f32_tile(data, [&]<class Tile>(Tile) { multiply_f32<Tile>(data); });
    if (!role_.takes_part(phase)) return;
    task_barrier();
    if (threadIdx.x == 0) role_.arrive(phase);
  }

  PhaseRole role_;
  uint32_t tile_ = 0;  // that the exchange of sums carries next
  uint32_t tile_alone_ = 0;
  uint32_t turn_ = 0;  // that of down's products
};

}  // namespace ultraspeed::cuda
