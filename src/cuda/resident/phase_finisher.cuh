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
    const uint32_t begin = role_.next_begin(phase);
    if (DenseFinish<Epilogue>::kLoads && role_.takes_part(phase)) role_.await_begin(begin);
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
      const StreamRole stream = gate_up_role(launch, role_.stream);
      const GateUpShape shape(launch, gate_up_ranks(launch.hidden), role_.live_slots);
      std::byte* sums = role_.dynamic + PhaseLayout::kSums;
      if (gate_up_ranks(launch.hidden) == 1) {
        finish_alone(launch, data, shape, stream, sums);
      } else {
        finish_units<kPhaseColumns, kPhaseRanks>(launch, data, shape, stream, role_.shared.sums,
                                                 sums, tile_, kNumTiles);
      }
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

  // finish_units() of a CTA that shares no K, in less code.
  __device__ void finish_alone(const ExpertLaunch& launch, const ExpertGateUpData& data,
                               const GateUpShape& shape, const StreamRole& stream,
                               const std::byte* sums) {
    PhaseExchangeAlone& exchange = role_.shared.sums_alone;
    const uint32_t warp = stream.finish_warp();
    for (uint32_t unit = stream.cluster; unit < shape.num_units;
         unit += stream.num_clusters, ++tile_alone_) {
      const GateUpBias bias(launch, data, unit);
      exchange.receive(tile_alone_, warp);
#pragma unroll 1
      for (uint32_t group = 0; group < PhaseExchangeAlone::kGroups; ++group) {
        const uint32_t column = PhaseExchangeAlone::column(group, 0, warp);
        const RoutedPair pair =
            find_pair(launch.route, unit / shape.tiles, launch.first_column + column);
        const PhaseExchangeAlone::Sums of_lane =
            PhaseExchangeAlone::sum(sums, tile_alone_, group, warp);
        finish_gate_up<kPhaseColumns>(launch, data, unit, column, pair, bias, of_lane.first,
                                      of_lane.second);
      }
      exchange.release(tile_alone_, kNumTiles);
    }
  }

  __device__ void arrive(const Phase& phase) const {
    ptx::named_barrier(kBarrier, kFinishWarps * 32);
    if (role_.stream.finish_warp() == 0 && role_.stream.lane == 0) {
      role_.arrive(phase);
    }
  }

  PhaseRole role_;
  uint32_t tile_ = 0;  // that the exchange of sums carries next
  uint32_t tile_alone_ = 0;
  uint32_t turn_ = 0;  // that of down's products
};

}  // namespace ultraspeed::cuda
