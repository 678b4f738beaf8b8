// The loader's warp (phase_cta.cuh): phases and pages of weights, ahead of all waits. It waits for
// free slots, and for routes, without which nobody knows the pages of experts.
#pragma once

#include "cuda/resident/phase_cta.cuh"

namespace ultraspeed::cuda {

class PhaseLoader {
 public:
  __device__ explicit PhaseLoader(const PhaseRole& role)
      : role_(role), policy_(ptx::l2_evict_first()) {}

  __device__ void run() {
    if (role_.stream.lane == 0) {
      for (uint32_t i = 0; i < kEntriesAhead; ++i) fetch_entry();
    }
    __syncwarp();
    role_.walk([this](const Phase& phase) {
      if (role_.stream.lane == 0) fetch_entry();
      if (phase.kind == PhaseKind::kGateUp) return load_gate_up(phase);
      if (role_.stream.lane == 0) load(phase);
    });
  }

 private:
  static constexpr uint32_t kEntriesAhead = 2;

  // The next phase that nobody has asked for.
  __device__ void fetch_entry() {
    const PhaseList& list = role_.program.streamed;
    if (num_fetched_ == list.count * role_.program.num_steps) return;
    const uint32_t number = num_fetched_++ % list.count;
    RingBarriers<kPhaseEntries>& ring = role_.shared.entries_ring;
    claim_stage(ring, entry_, sizeof(Phase));
    ptx::bulk_copy(&role_.shared.entries[entry_.stage], &list.phases[number], sizeof(Phase),
                   &ring.full[entry_.stage]);
    entry_.advance();
  }

  __device__ void load(const Phase& phase) {
    if (is_dense(phase.kind)) {
      with_dense_plan(phase, role_.stream.rank, [&](const auto& plan) { load_dense(plan); });
      return;
    }
    if (phase.kind == PhaseKind::kDown) return load_down(phase);
    if (phase.kind == PhaseKind::kF32Product) return load_f32(phase);
  }

  __device__ void claim(uint32_t bytes) { claim_stage(role_.shared.ring.pages, role_.at, bytes); }
  // A slot beside whose page the operand warp brings nothing.
  __device__ void claim_alone(uint32_t bytes) {
    claim(bytes);
    ptx::mbarrier_arrive(&role_.shared.ring.piece_full[role_.at.stage]);
  }
  // Part of what claim() announced, to `offset` of the slot.
  __device__ void copy(uint32_t offset, const void* from, uint32_t bytes) {
    ptx::bulk_copy(role_.slot() + offset, from, bytes,
                   &role_.shared.ring.pages.full[role_.at.stage], policy_);
  }

  template <class Plan>
  __device__ void load_dense(const Plan& plan) {
    for (PageWalk<Plan> walk(plan, role_.stream); !walk.is_done(); walk.advance()) {
      claim(Plan::Page::kBytes);
      copy(0, walk.page(), Plan::Page::kBytes);
      role_.at.advance();
    }
  }

  // For the whole warp: each lane asks for the expert of another unit, and all do at once, together
  // with the number of live ones.
  __device__ void load_gate_up(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertGateUpData>>();
    const StreamRole& stream = role_.stream;
    if (stream.lane == 0) {
      await_phase(role_.program.counters, phase.wait, role_.epoch);  // the route
    }
    __syncwarp();
    const program::RouteTable& route = launch.route;
    const auto max_slots = static_cast<uint32_t>(route.pair_begin - route.expert);
    const uint32_t tiles = launch.intermediate / kTileNeurons;
    const auto expert_of = [&](uint32_t unit) {
      return route.expert[min((unit + stream.lane * stream.num_clusters) / tiles, max_slots - 1)];
    };
    uint32_t experts = expert_of(stream.cluster);
    role_.live_slots = *route.num_slots;
    const GateUpShape shape(launch, kPhaseRanks, role_.live_slots);
    uint32_t of_lane = 0;
    for (uint32_t unit = stream.cluster; unit < shape.num_units; unit += stream.num_clusters) {
      if (of_lane == kWarpThreads) experts = expert_of(unit);
      of_lane %= kWarpThreads;
      const uint32_t expert = __shfl_sync(~0u, experts, static_cast<int>(of_lane++));
      if (stream.lane != 0) continue;
      const std::byte* page = gate_up_pages(launch, data, shape, stream, unit, expert, kPhaseRanks);
      for (uint32_t p = 0; p < shape.pages; ++p, role_.at.advance()) {
        claim_alone(GateUpPage::kBytes);
        copy(0, page + p * GateUpPage::kBytes, GateUpPage::kBytes);
      }
    }
  }

  __device__ void load_down(const Phase& phase) {
    const auto& [launch, data] = phase.as<ExpertPhase<ExpertDownData>>();
    const DownShape shape(launch, role_.live_slots);
    for (DownWalk walk(shape, role_.cta(), gridDim.x); !walk.is_done();) {
      const bool is_last_alone = walk.slot + 1 == shape.num_slots;
      claim((is_last_alone ? 1 : kDownTeams) * DownPage::kBytes);
      for (uint32_t team = 0; team < kDownTeams; ++team, walk.advance()) {
        if (walk.is_empty()) continue;
        copy(team * DownPage::kBytes, walk.pages(launch, data), DownPage::kBytes);
      }
      role_.at.advance();
    }
  }

  __device__ void load_f32(const Phase& phase) {
    using Tile = PhaseProductTile;
    constexpr uint32_t kRowBytes = Tile::kStageK * sizeof(float);
    const auto& data = phase.as<F32Product>();
    const F32Tiles tiles(data);
    for (uint32_t unit = role_.cta(); unit < tiles.count; unit += gridDim.x) {
      const uint32_t first = F32Tiles::x(unit) * Tile::kRows;
      for (uint32_t k = 0; k < data.k; k += Tile::kStageK) {
        claim(Tile::kRows * kRowBytes);
        for (uint32_t i = 0; i < Tile::kRows; ++i) {
          const uint64_t row = min(first + i, data.num_rows - 1);
          copy(i * Tile::kStride * sizeof(float), data.weights + row * data.k + k, kRowBytes);
        }
        role_.at.advance();
      }
    }
  }

  PhaseRole role_;
  RingPosition<kPhaseEntries> entry_;
  uint32_t num_fetched_ = 0;
  uint64_t policy_;
};

}  // namespace ultraspeed::cuda
