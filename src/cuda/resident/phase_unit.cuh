// A CTA that runs units of phases without pages, and nothing else: what it has to fetch of
// instructions stays in its cache, as it does not where pages are streamed.
#pragma once

#include "cuda/ops/accept.cuh"
#include "cuda/ops/dense_columns.cuh"
#include "cuda/ops/embed.cuh"
#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/query_rows.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/window_attention.cuh"
#include "cuda/resident/phase_rows.cuh"
#include "cuda/sync/phase_counter.cuh"

namespace ultraspeed::cuda {

static_assert(kPhaseUnitWarps == kTaskWarps && kPhaseWindowHeads == kWindowRows);

inline constexpr uint32_t kPhaseRouteCtas = 8;  // whose columns a CTA that routes has

template <KvFormat kFormat>
using PhaseTile = KvTile<kFormat, kFlashHeadDim, kFlashValueDim>;

// Static shared memory.
struct UnitShared {
  uint64_t entry_full[2];
  RowBarriers rows;
  uint64_t tile_full;
  float factor;
  WindowSoftmax softmax;
  uint32_t totals[kTaskWarps];
  alignas(16) ColumnShared of_warps[kTaskWarps];
  alignas(16) Phase entries[2];

  // By one thread.
  __device__ void init() {
    ptx::mbarrier_init(&entry_full[0], 1);
    ptx::mbarrier_init(&entry_full[1], 1);
    rows.init();
    ptx::mbarrier_init(&tile_full, 1);
  }
};

// What every thread of the CTA keeps.
class PhaseUnits {
 public:
  // scratch: what a unit works in.
  __device__ PhaseUnits(const PhaseProgram& program, UnitShared& shared, std::byte* scratch)
      : program_(program), shared_(shared), scratch_(scratch) {}

  __device__ void run() {
    const uint32_t count = program_.of_units.count;
    fetch_entry(0);
    for (uint32_t i = 0; i < count * program_.num_steps; ++i) {
      fetch_entry(i + 1);
      ptx::mbarrier_wait(&shared_.entry_full[i % 2], i / 2 % 2);
      epoch_ = program_.first_epoch + i / count;
      run_phase(shared_.entries[i % 2]);
    }
  }

 private:
  // The entry before the last one is not read any more.
  __device__ __forceinline__ void fetch_entry(uint32_t i) {
    const PhaseList& list = program_.of_units;
    if (threadIdx.x != 0 || i == list.count * program_.num_steps) return;
    uint64_t& full = shared_.entry_full[i % 2];
    ptx::mbarrier_arrive_expect_tx(&full, sizeof(Phase));
    ptx::bulk_copy(&shared_.entries[i % 2], &list.phases[i % list.count], sizeof(Phase), &full);
  }

  __device__ __forceinline__ void run_phase(const Phase& phase) {
    phase_ = &phase;
    is_awaited_ = false;
    if (blockIdx.x < phase.arrivals) {
      for (uint32_t unit = blockIdx.x; unit < phase.num_units; unit += phase.arrivals) {
        run_unit(unit);
        ptx::fence_proxy_async();  // what it wrote to its scratch; next copies may write there
        task_barrier();
      }
      if (threadIdx.x == 0) end_phase(program_, phase, blockIdx.x, time_index());
    }
    task_barrier();  // nobody reads the entry any more
  }

  __device__ uint32_t time_index() const { return program_.num_times - gridDim.x + blockIdx.x; }

  // For all threads: waits for what the phase needs. Nothing of a step is known before the first
  // time in it, but what is in phases.
  __device__ __forceinline__ void await() {
    if (is_awaited_) return;
    is_awaited_ = true;
    if (threadIdx.x == 0) begin_phase(program_, *phase_, epoch_, time_index());
    task_barrier();
    if (known_epoch_ == epoch_) return;
    known_epoch_ = epoch_;
    num_columns_ = program_.step->num_columns;
  }

  __device__ __forceinline__ void run_unit(uint32_t unit) {
    const Phase& phase = *phase_;
    const uint32_t warp_unit = unit * kTaskWarps + threadIdx.x / kWarpThreads;
    switch (phase.kind) {
      case PhaseKind::kDenseColumns:
        await();
        return make_dense_columns(phase.as<DenseColumnsLaunch>(), threadIdx.x / kWarpThreads, unit);
      case PhaseKind::kRows:
        return rows_unit(unit);
      case PhaseKind::kStoreKv:
        await();
        return store_kv_rows(phase.as<KvRows>(), warp_unit);
      case PhaseKind::kStoreQueries:
        await();
        return store_query_rows(phase.as<QueryRows>(), warp_unit);
      case PhaseKind::kWindow:
        return phase.as<WindowPhase>().attention.format == KvFormat::kE4m3
                   ? window_unit<KvFormat::kE4m3>(unit)
                   : window_unit<KvFormat::kBf16>(unit);
      case PhaseKind::kStage:
        return stage_unit(unit);
      default:
        return;  // phases with pages
    }
  }

  // Of a phase a copy, here and below: what is stored might otherwise change it, for all that the
  // compiler knows, so that each use would read it anew.
  __device__ __forceinline__ void rows_unit(uint32_t column) {
    const RowsPhase data = phase_->as<RowsPhase>();
    auto* floats = reinterpret_cast<float*>(scratch_);
    const NormedRow row = {floats, floats + data.size, &shared_.factor};
    const uint32_t parity = num_rows_++ % 2;
    if (threadIdx.x == 0) load_norm_weight(data, row, shared_.rows);
    await();
    run_rows(data, program_.machine, column, num_columns_, row, shared_.rows, parity);
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
    const WindowPhase phase = phase_->as<WindowPhase>();
    const FlashAttention& launch = phase.attention;
    if (launch.rows == nullptr || known_epoch_ != epoch_) await();
    const uint32_t group = launch.num_q_heads / launch.cache.num_kv_heads;
    const uint32_t slabs = (group + kWindowRows - 1) / kWindowRows;
    const uint32_t column = unit % kPhaseColumns, slab = unit / kPhaseColumns;
    const uint32_t in_group = slab % slabs * kWindowRows;
    const uint32_t first_head = slab / slabs * group + in_group;
    const uint32_t num_heads = min(kWindowRows, group - in_group);
    if (column >= num_columns_) {
      await();
      store_window(phase, column, first_head, num_heads, nullptr);
      return;
    }
    const WindowPlace at(launch, StepHead(launch.step), Tile::kPiece, column, slab);
    auto* values = reinterpret_cast<float*>(scratch_ + WindowShared<Tile>::kScores);
    run_window<Tile, FlashAttention::Work::kAttention>(
        launch, at, scratch_, &shared_.tile_full, num_tiles_++ % 2, shared_.softmax,
        [this] { await(); }, [&](uint32_t row) { return values + row * kFlashValueDim; });
    task_barrier();  // all values are there
    store_window(phase, column, first_head, num_heads, values);
  }

  __device__ __forceinline__ void stage_unit(uint32_t unit) {
    const auto& phase = phase_->as<StagePhase>();
    const RankTask of_unit = phase.tasks[unit];
    const OpContext context(program_.machine, phase.buffer_offsets, *program_.step, of_unit.task,
                            of_unit.rank, scratch_);
    if (phase.operands.opcode == program::Opcode::kRoute) {
      return route(context, phase.operands.as<program::RouteOperands>());
    }
    await();
    switch (phase.operands.opcode) {
      case program::Opcode::kEmbed:
        return run_op(context, phase.operands.as<program::EmbedOperands>());
      case program::Opcode::kAccept:
        return run_op(context, phase.operands.as<program::AcceptOperands>());
      default:
        return;  // the recorder refuses others
    }
  }

  __device__ __forceinline__ void route(const OpContext& context, const program::RouteOperands op) {
    RouteCta<kPhaseExperts / kWarpThreads, kPhaseRouteCtas, kTaskWarps, true> cta(context, op, 1);
    cta.prepare();
    await();
    cta.run(num_columns_, shared_.totals, shared_.of_warps);
  }

  const PhaseProgram& program_;
  UnitShared& shared_;
  std::byte* const scratch_;
  const Phase* phase_ = nullptr;
  uint32_t epoch_ = 0;
  bool is_awaited_ = false;
  uint32_t known_epoch_ = 0, num_columns_ = 0;  // of the last step that it has waited in
  uint32_t num_rows_ = 0, num_tiles_ = 0;       // that it has loaded: parities of their barriers
};

}  // namespace ultraspeed::cuda
