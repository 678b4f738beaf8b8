// What CTAs of PhaseGroup::kUnits do.
#pragma once

#include "cuda/ops/dense_columns.cuh"
#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/query_rows.cuh"
#include "cuda/ops/round_cache.cuh"
#include "cuda/ops/round_rows.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/window_attention.cuh"
#include "cuda/resident/phase_rows.cuh"
#include "cuda/resident/unit_cta.cuh"

namespace ultraspeed::cuda {

static_assert(kPhaseUnitWarps == kTaskWarps && kPhaseWindowHeads == kWindowRows);

inline constexpr uint32_t kPhaseRouteCtas = 8;  // whose columns a CTA that routes has

// Static shared memory.
struct UnitShared {
  UnitCtaShared cta;
  RowBarriers rows;
  uint64_t tile_full;
  float factor;
  WindowSoftmax softmax;
  uint32_t totals[kTaskWarps];
  alignas(16) ColumnShared of_warps[kTaskWarps];

  // By one thread.
  __device__ void init() {
    cta.init();
    rows.init();
    ptx::mbarrier_init(&tile_full, 1);
  }
};

// Where a window's values go on their way to outputs and operands: all of a tile's dimensions.
struct WindowValues {
  __device__ float* operator()(uint32_t row) const { return values + row * kFlashValueDim; }
  __device__ static constexpr uint32_t size() { return kFlashValueDim; }

  float* values;
};

class PhaseUnits : public UnitCta<PhaseUnits> {
 public:
  __device__ __forceinline__ PhaseUnits(const ResidentPhases& resident, UnitShared& shared,
                                        std::byte* scratch, uint32_t cta)
      : UnitCta(resident, shared.cta, scratch, PhaseGroup::kUnits, cta), shared_(shared) {}

  __device__ __forceinline__ void run_unit(uint32_t unit) {
    const Phase& phase = this->phase();
    switch (phase.kind) {
      case PhaseKind::kRows:
        return rows_unit(unit);
      case PhaseKind::kWindow:
        return phase.as<WindowPhase>().attention.format == KvFormat::kE4m3
                   ? window_unit<KvFormat::kE4m3>(unit)
                   : window_unit<KvFormat::kBf16>(unit);
      case PhaseKind::kRoute:
        return route_unit(unit);
      default:
        await();
        return run_other(phase, unit);
    }
  }

 private:
  // What can do nothing before the phase that it waits for.
  __device__ __forceinline__ void run_other(const Phase& phase, uint32_t unit) {
    const uint32_t warp_unit = unit * kTaskWarps + threadIdx.x / kWarpThreads;
    switch (phase.kind) {
      case PhaseKind::kDenseColumns:
        return make_dense_columns(phase.as<DenseColumnsLaunch>(), threadIdx.x / kWarpThreads, unit);
      case PhaseKind::kStoreKv:
        return store_kv_rows(phase.as<KvRows>(), warp_unit);
      case PhaseKind::kStoreQueries:
        return store_query_rows(phase.as<QueryRows>(), warp_unit);
      case PhaseKind::kRoundRows:
        return round_row(unit);
      case PhaseKind::kRoundCache:
        return round_cache(phase.as<CacheRoundingPhase>(), warp_unit);
      default:
        return;  // other groups' phases
    }
  }

  // Of a phase a copy, here and below: what is stored might otherwise change it, for all that the
  // compiler knows, so that each use would read it anew.
  __device__ __forceinline__ void rows_unit(uint32_t column) {
    const RowsPhase data = this->phase().as<RowsPhase>();
    auto* floats = reinterpret_cast<float*>(scratch_);
    const NormedRow row = {floats, floats + data.size, &shared_.factor};
    const uint32_t parity = num_rows_++ % 2;
    if (threadIdx.x == 0) load_norm_weight(data, row, shared_.rows);
    await();
    run_rows(data, resident().machine, column, num_columns(), row, shared_.rows, parity);
  }

  // For a warp.
  __device__ __forceinline__ static void store_kv_rows(const KvRows& rows, uint32_t index) {
    if (index >= min(rows.num_columns, rows.step->num_columns) * rows.cache.num_kv_heads) return;
    if (rows.format == KvFormat::kE4m3) {
      copy_to_cache<PhaseTile<KvFormat::kE4m3>>(rows.rows, *rows.step, rows.cache, 0, index);
    } else {
      copy_to_cache<PhaseTile<KvFormat::kBf16>>(rows.rows, *rows.step, rows.cache, 0, index);
    }
  }
  __device__ __forceinline__ static void store_query_rows(const QueryRows& rows, uint32_t index) {
    if (index >= min(rows.num_columns, rows.step->num_columns) * rows.num_q_heads) return;
    if (rows.format == KvFormat::kE4m3) {
      store_query<PhaseTile<KvFormat::kE4m3>>(rows, index);
    } else {
      store_query<PhaseTile<KvFormat::kBf16>>(rows, index);
    }
  }

  // Tiles come before what the phase waits for is there, unless that writes them: they were written
  // a step ago, and the fence between that and these copies is the one of the CTA's first await()
  // in this step.
  template <KvFormat kFormat>
  __device__ __forceinline__ void window_unit(uint32_t unit) {
    using Tile = PhaseTile<kFormat>;
    static_assert(kScorePitch<Tile> >= kFlashValueDim);  // outputs lie where scores were
    const WindowPhase phase = this->phase().as<WindowPhase>();
    const FlashAttention& launch = phase.attention;
    if (launch.rows == nullptr || !is_step_known()) await();
    const uint32_t group = launch.num_q_heads / launch.cache.num_kv_heads;
    const uint32_t slabs = (group + kWindowRows - 1) / kWindowRows;
    const uint32_t column = unit % kPhaseColumns, slab = unit / kPhaseColumns;
    const uint32_t in_group = slab % slabs * kWindowRows;
    const uint32_t first_head = slab / slabs * group + in_group;
    const uint32_t num_heads = min(kWindowRows, group - in_group);
    if (column >= num_columns()) {
      await();
      store_window(phase, column, first_head, num_heads, nullptr);
      return;
    }
    const WindowPlace at(launch, StepHead(launch.step), Tile::kPiece, column, slab);
    auto* values = reinterpret_cast<float*>(scratch_ + WindowShared<Tile>::kScores);
    run_window<Tile, FlashAttention::Work::kAttention>(
        launch, at, scratch_, &shared_.tile_full, num_tiles_++ % 2, shared_.softmax,
        [this] { await(); }, WindowValues{values});
    task_barrier();  // all values are there
    store_window(phase, column, first_head, num_heads, values);
  }

  // A row, normalised and rounded.
  __device__ __forceinline__ void round_row(uint32_t index) {
    const RoundRows data = this->phase().as<RoundRows>();
    const float* from = data.rows + uint64_t{index} * data.size;
    if (data.norm_weight == nullptr) {
      return store_row(data, index, [&](uint32_t k) { return from[k]; });
    }
    auto* floats = reinterpret_cast<float*>(scratch_);
    const NormedRow row = {floats, floats + data.size, &shared_.factor};
    for (uint32_t k = threadIdx.x; k < data.size; k += kTaskThreads) {
      row.row[k] = from[k];
      row.weight[k] = data.norm_weight[k];
    }
    task_barrier();
    round_normed_row(data, index, row);
  }

  // For a warp: a head of a column.
  __device__ __forceinline__ void round_cache(const CacheRoundingPhase& phase, uint32_t index) {
    const uint32_t heads = 2 * phase.operands.num_kv_heads;
    const uint32_t column = index / heads % phase.rounding.width;
    const uint32_t of_rank = index / heads / phase.rounding.width;
    if (of_rank >= phase.rounding.num_ranks || column >= num_columns()) return;
    const OpContext context(resident().machine, phase.buffer_offsets, *resident().step,
                            phase.tasks[0].task, phase.rounding.first_rank + of_rank, nullptr);
    round_appended(context, phase.operands, phase.rounding, column, index % heads);
  }

  // With what does not need logits before they are there.
  __device__ __forceinline__ void route_unit(uint32_t unit) {
    const auto& phase = this->phase().as<StagePhase>();
    const RankTask& of_unit = phase.tasks[unit];
    const OpContext context(resident().machine, phase.buffer_offsets, *resident().step,
                            of_unit.task, of_unit.rank, scratch_);
    const auto op = phase.operands.as<program::RouteOperands>();
    RouteCta<kPhaseExperts / kWarpThreads, kPhaseRouteCtas, kTaskWarps, true> cta(context, op, 1);
    cta.prepare();
    await();
    cta.run(num_columns(), shared_.totals, shared_.of_warps);
  }

  UnitShared& shared_;
  uint32_t num_rows_ = 0, num_tiles_ = 0;  // that it has loaded: parities of their barriers
};

}  // namespace ultraspeed::cuda
