// The loader's warp (phase_cta.cuh): phases and pages of weights, ahead of all waits. It waits for
// free slots, and for routes, without which nobody knows the pages of experts.
#pragma once

#include "cuda/resident/phase_cta.cuh"
#include "cuda/resident/step_exchange.cuh"

namespace ultraspeed::cuda {

class PhaseLoader {
 public:
  __device__ explicit PhaseLoader(const PhaseRole& role)
      : role_(role), number_(role.resident.first_number), policy_(ptx::l2_evict_first()) {}

  __device__ void run() {
    while (begin_command()) {
      for (uint32_t i = 0; i < count_; ++i) {
        if (role_.stream.lane == 0) fetch_entries(i + kEntriesAhead);
        __syncwarp();
        role_.visit_next([this](const Phase& phase) {
          if (phase.kind == PhaseKind::kGateUp) return load_gate_up(phase);
          if (role_.stream.lane == 0) load(phase);
        });
      }
      // Nobody needs the command any more. Partner: StepExchange::end_step().
      if (role_.stream.lane == 0) ptx::add_release(&role_.resident.board->done, 1);
    }
    if (role_.stream.lane == 0) add_entry(nullptr, {});
  }

 private:
  static constexpr uint32_t kEntriesAhead = 2;

  // Waits for the next command. For the whole warp. False: the kernel returns.
  __device__ bool begin_command() {
    const ResidentPhases& resident = role_.resident;
    bool goes_on = true;
    if (role_.stream.lane == 0) goes_on = await_board(*resident.board, number_++);
    if (!__all_sync(~0u, goes_on)) return false;
    const ResidentCommand& command = resident.board->command;
    const uint32_t index = load_anew(&command.program);
    if (index == kStopProgram) return false;
    const PhaseProgram& program = resident.programs[index];
    list_ = program.lists[static_cast<uint32_t>(PhaseGroup::kStreamed)];
    count_ = list_.count * load_anew(&command.num_steps);
    fetched_ = 0;
    PhaseTime* times = program.times == nullptr ? nullptr : program.times + role_.cta();
    step_ = {program.counters, times, load_anew(&command.epoch)};
    return true;
  }

  // Phases up to `end` of the command, which nobody has asked for.
  __device__ void fetch_entries(uint32_t end) {
    for (; fetched_ < min(end + 1, count_); ++fetched_) {
      PhaseStep step = step_;
      step.epoch += fetched_ / list_.count;
      add_entry(&list_.phases[fetched_ % list_.count], step);
    }
  }
  __device__ void add_entry(const Phase* phase, const PhaseStep& step) {
    RingBarriers<kPhaseEntries>& ring = role_.shared.entries_ring;
    PhaseEntry& entry = role_.shared.entries[entry_.stage];
    ptx::mbarrier_wait(&ring.empty[entry_.stage], entry_.parity ^ 1);
    entry.step = step;
    const uint32_t bytes = phase == nullptr ? 0 : sizeof(Phase);
    ptx::mbarrier_arrive_expect_tx(&ring.full[entry_.stage], bytes);
    if (phase != nullptr) ptx::bulk_copy(&entry.phase, phase, bytes, &ring.full[entry_.stage]);
    entry_.advance();
  }

  __device__ void load(const Phase& phase) {
    if (is_dense(phase.kind)) {
      with_dense_plan(phase, role_.stream.rank, [&](const auto& plan) { load_dense(plan); });
      return;
    }
    if (phase.kind == PhaseKind::kDown) return load_down(phase);
    if (phase.kind == PhaseKind::kF32Product) {
      const auto& data = phase.as<F32Product>();
      with_f32_tile(data, [&]<class Tile>(Tile) { load_f32<Tile>(data); });
    }
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
    if (role_.stream.lane == 0) {
      await_phase(role_.resident, role_.step, phase.wait, role_.cta());  // the route
    }
    __syncwarp();
    const StreamRole stream = gate_up_role(launch, role_.stream);
    const uint32_t ranks = gate_up_ranks(launch.hidden);
    const program::RouteTable& route = launch.route;
    const uint32_t max_slots = max_slots_of(route);
    const uint32_t tiles = launch.intermediate / kTileNeurons;
    const auto expert_of = [&](uint32_t unit) {
      return route.expert[min((unit + stream.lane * stream.num_clusters) / tiles, max_slots - 1)];
    };
    uint32_t experts = expert_of(stream.cluster);
    role_.live_slots = live_slots_of(route);
    const GateUpShape shape(launch, ranks, role_.live_slots);
    uint32_t of_lane = 0;
    for (uint32_t unit = stream.cluster; unit < shape.num_units; unit += stream.num_clusters) {
      if (of_lane == kWarpThreads) experts = expert_of(unit);
      of_lane %= kWarpThreads;
      const uint32_t expert = __shfl_sync(~0u, experts, static_cast<int>(of_lane++));
      if (stream.lane != 0) continue;
      const std::byte* page = gate_up_pages(launch, data, shape, stream, unit, expert, ranks);
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
      const bool is_last_alone = walk.is_last();
      claim((is_last_alone ? 1 : kDownTeams) * DownPage::kBytes);
      for (uint32_t team = 0; team < kDownTeams; ++team, walk.advance()) {
        if (walk.is_empty()) continue;
        copy(team * DownPage::kBytes, walk.pages(launch, data), DownPage::kBytes);
      }
      role_.at.advance();
    }
  }

  template <class Tile>
  __device__ void load_f32(const F32Product& data) {
    constexpr uint32_t kRowBytes = Tile::kStageK * sizeof(float);
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
  uint32_t number_;                   // of the next command
  PhaseList list_ = {};               // of the command's program
  PhaseStep step_ = {};               // its first one
  uint32_t count_ = 0, fetched_ = 0;  // of the command's phases: all, and those asked for
  uint64_t policy_;
};

}  // namespace ultraspeed::cuda
