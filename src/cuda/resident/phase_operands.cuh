// The operand warp (phase_cta.cuh): waits for the phases that a phase with pages needs, then brings
// what they wrote beside its pages.
#pragma once

#include <type_traits>

#include "cuda/resident/phase_cta.cuh"

namespace ultraspeed::cuda {

class PhaseOperands {
 public:
  __device__ explicit PhaseOperands(const PhaseRole& role) : role_(role) {}

  __device__ void run() {
    role_.walk([this](const Phase& phase) {
      if (role_.stream.lane == 0) load(phase);
    });
  }

 private:
  // All CTAs read the input of gate/up, and how many slots are live.
  __device__ void load(const Phase& phase) {
    if (phase.kind == PhaseKind::kGateUp || role_.takes_part(phase)) role_.await(phase);
    if (is_dense(phase.kind)) {
      // Partner: PhaseRole::await_begin().
      if (role_.takes_part(phase)) ptx::mbarrier_arrive(&role_.shared.dense_begun);
      with_dense_plan(phase, role_.stream.rank, [&](const auto& plan) {
        using Plan = std::decay_t<decltype(plan)>;
        load_pieces<Plan, kSlotBytes>(plan, role_.stream, role_.shared.ring, role_.at,
                                      role_.slots());
      });
      return;
    }
    if (phase.kind == PhaseKind::kGateUp) return load_gate_up(phase);
    if (phase.kind == PhaseKind::kDown) return load_down(phase);
    if (phase.kind == PhaseKind::kF32Product) {
      const auto& data = phase.as<F32Product>();
      with_f32_tile(data, [&]<class Tile>(Tile) { load_f32<Tile>(data); });
    }
  }

  // Announces `bytes` of what stands beside a page, once the slot is free.
  __device__ void claim(uint32_t bytes) {
    ptx::mbarrier_wait(&role_.shared.ring.pages.empty[role_.at.stage], role_.at.parity ^ 1);
    ptx::mbarrier_arrive_expect_tx(&role_.shared.ring.piece_full[role_.at.stage], bytes);
  }
  __device__ void copy(uint32_t offset, const void* from, uint32_t bytes) {
    ptx::bulk_copy(role_.slot() + offset, from, bytes,
                   &role_.shared.ring.piece_full[role_.at.stage]);
  }

  __device__ void load_gate_up(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertGateUpData>>();
    ptx::mbarrier_wait(&role_.shared.input_empty, role_.num_inputs++ % 2 ^ 1);
    role_.live_slots = live_slots_of(launch.route);
    role_.shared.live_slots = role_.live_slots;
    const StreamRole stream = gate_up_role(launch, role_.stream);
    const uint32_t ranks = gate_up_ranks(launch.hidden);
    const GateUpShape shape(launch, ranks, role_.live_slots);
    load_input<kPhaseColumns>(data, shape, stream.rank, ranks, &role_.shared.input_full,
                              role_.dynamic + PhaseLayout::kInput);
    // Slots that nothing is brought to: the loader sees to their barriers.
    role_.at.advance(stream.units(shape.num_units) * shape.pages);
  }

  __device__ void load_down(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertDownData>>();
    const DownShape shape(launch, role_.live_slots);
    for (DownWalk walk(shape, role_.cta(), gridDim.x); !walk.is_done(); role_.at.advance()) {
      const bool is_last_alone = walk.is_last();
      claim((is_last_alone ? 1 : kDownTeams) * kDownPieceBytes);
      for (uint32_t team = 0; team < kDownTeams; ++team, walk.advance()) {
        if (walk.is_empty()) continue;
        copy(kDownTeams * DownPage::kBytes + team * kDownPieceBytes,
             data.input + walk.piece() * kDownPieceBytes, kDownPieceBytes);
      }
    }
  }

  template <class Tile>
  __device__ void load_f32(const F32Product& data) {
    constexpr uint32_t kRowBytes = Tile::kStageK * sizeof(float);
    const F32Tiles tiles(data);
    for (uint32_t unit = role_.cta(); unit < tiles.count; unit += gridDim.x) {
      const uint32_t first = F32Tiles::y(unit) * Tile::kColumns;
      for (uint32_t k = 0; k < data.k; k += Tile::kStageK, role_.at.advance()) {
        claim(Tile::kColumns * kRowBytes);
        for (uint32_t i = 0; i < Tile::kColumns; ++i) {
          const uint64_t t = min(first + i, data.width - 1);
          copy((Tile::kRows + i) * Tile::kStride * sizeof(float), data.rows + t * data.k + k,
               kRowBytes);
        }
      }
    }
  }

  PhaseRole role_;
};

}  // namespace ultraspeed::cuda
