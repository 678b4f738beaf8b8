// The finishing warps (phase_cta.cuh): sums of products to results, and the CTA's count at the
// phase.
#pragma once

#include "cuda/resident/phase_cta.cuh"

namespace ultraspeed::cuda {

class PhaseFinisher {
 public:
  __device__ explicit PhaseFinisher(const PhaseRole& role) : role_(role) {}

  __device__ void run() {
    role_.walk([this](const Phase& phase) {
      if (finish(phase) && role_.takes_part(phase)) arrive(phase);
    });
  }

 private:
  static constexpr uint32_t kBarrier = 2;     // of the finishing warps
  static constexpr uint32_t kNumTiles = ~0u;  // the exchange has no last one

  // Tiles do not depend on the format of pages.
  template <class Epilogue>
  __device__ bool finish_dense_phase(const Phase& phase) {
    const auto& [launch, epilogue] = phase.as<DensePhase<Epilogue>>();
    const DensePlan<Bf16Page, kPhaseColumns> plan(launch, role_.stream.rank);
    finish_dense(launch, epilogue, plan, role_.stream, role_.shared.sums,
                 role_.dynamic + PhaseLayout::kSums, tile_, kNumTiles);
    return true;
  }

  // Whether the phase is one that they finish.
  __device__ bool finish(const Phase& phase) {
    if (phase.kind == PhaseKind::kDenseStore) return finish_dense_phase<DenseStore>(phase);
    if (phase.kind == PhaseKind::kDensePartials) return finish_dense_phase<DensePartials>(phase);
    if (phase.kind == PhaseKind::kDenseSwiglu) return finish_dense_phase<DenseSwiglu>(phase);
    if (phase.kind == PhaseKind::kDenseQkv) return finish_dense_phase<DenseQkv>(phase);
    if (phase.kind == PhaseKind::kGateUp) {
      const auto& [launch, data] = phase.as<ExpertPhase<ExpertGateUpData>>();
      role_.await_input();
      role_.leave_input();
      const GateUpShape shape(launch, kPhaseRanks, role_.live_slots);
      finish_units<kPhaseColumns, kPhaseRanks>(launch, data, shape, role_.stream, role_.shared.sums,
                                               role_.dynamic + PhaseLayout::kSums, tile_,
                                               kNumTiles);
      return true;
    }
    if (phase.kind == PhaseKind::kDown) {
      const auto& [launch, data] = phase.as<ExpertPhase<ExpertDownData>>();
      const DownShape shape(launch, role_.live_slots);
      finish_down<kPhaseColumns>(launch, data, shape, role_.cta(), gridDim.x,
                                 role_.stream.finish_warp(), role_.shared.products,
                                 role_.dynamic + PhaseLayout::kProducts, turn_);
      return true;
    }
    return false;
  }

  __device__ void arrive(const Phase& phase) const {
    ptx::named_barrier(kBarrier, kFinishWarps * 32);
    if (role_.stream.finish_warp() == 0 && role_.stream.lane == 0) {
      role_.arrive(phase);
    }
  }

  PhaseRole role_;
  uint32_t tile_ = 0;  // that the exchange of sums carries next
  uint32_t turn_ = 0;  // that of down's products
};

}  // namespace ultraspeed::cuda
