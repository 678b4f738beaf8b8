// Units of phases without pages, each by the consumer warps of a CTA.
#pragma once

#include "cuda/ops/accept.cuh"
#include "cuda/ops/dense_columns.cuh"
#include "cuda/ops/dense_prepare.cuh"
#include "cuda/ops/embed.cuh"
#include "cuda/ops/expert_quantize.cuh"
#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/query_rows.cuh"
#include "cuda/ops/reduce.cuh"
#include "cuda/ops/round_rows.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/window_attention.cuh"
#include "cuda/resident/phase_cta.cuh"

namespace ultraspeed::cuda {

static_assert(kPhaseUnitWarps == kTaskWarps && kPhaseWindowHeads == kWindowRows);

// Static shared memory that is small.
struct PhaseUnitShared {
  float factor;
  uint32_t num_loads;  // of units, so far: the parity of PhaseShared::unit_full
  WindowSoftmax softmax;
  uint32_t totals[kTaskWarps];
  alignas(16) ColumnShared of_warps[kTaskWarps];
};

template <KvFormat kFormat>
using PhaseTile = KvTile<kFormat, kFlashHeadDim, kFlashValueDim>;

// The norm's weight, which the loader has brought, and behind it the row.
__device__ __forceinline__ NormedRow normed_row(std::byte* scratch, const float* norm_weight,
                                                uint32_t size, PhaseUnitShared& shared) {
  auto* floats = reinterpret_cast<float*>(scratch);
  return {norm_weight == nullptr ? floats : floats + size, floats, &shared.factor};
}

// Brings a row that another phase wrote, for all threads.
__device__ __forceinline__ void load_row(const NormedRow& row, const float* from, uint32_t size,
                                         uint64_t& full, PhaseUnitShared& shared) {
  const uint32_t parity = shared.num_loads % 2;
  if (threadIdx.x == 0) {
    const auto bytes = static_cast<uint32_t>(size * sizeof(float));
    ptx::mbarrier_arrive_expect_tx(&full, bytes);
    ptx::bulk_copy(row.row, from, bytes, &full);
  }
  ptx::mbarrier_wait(&full, parity);
  task_barrier();  // all have read the parity
  if (threadIdx.x == 0) shared.num_loads = parity ^ 1;
}

// A function of its own: its registers would push out those that the consumers keep.
template <KvFormat kFormat>
__device__ __noinline__ void run_window_unit(PhaseAwait await, uint32_t unit, std::byte* scratch,
                                             uint64_t& full, PhaseUnitShared& shared) {
  const auto& launch = await.phase.as<FlashAttention>();
  using Tile = PhaseTile<kFormat>;
  const bool has_own_rows = launch.rows != nullptr;
  if (!has_own_rows) await();  // another phase writes the tiles
  const StepHead step(launch.step);
  const uint32_t column = unit % launch.max_columns, slab = unit / launch.max_columns;
  if (column >= step.num_columns) {
    await();
    return;
  }
  const WindowPlace at(launch, step, Tile::kPiece, column, slab);
  const uint32_t parity = shared.num_loads % 2;
  const auto behind_tiles = [&] {
    has_own_rows ? await() : task_barrier();  // all have read the parity
    if (threadIdx.x == 0) shared.num_loads = parity ^ 1;
  };
  run_window<Tile, FlashAttention::Work::kAttention>(launch, at, scratch, &full, parity,
                                                     shared.softmax, behind_tiles);
}

// For a warp.
__device__ __forceinline__ void store_kv_rows(const KvRows& rows, uint32_t index) {
  if (index >= min(rows.num_columns, rows.step->num_columns) * rows.cache.num_kv_heads) return;
  if (rows.format == KvFormat::kE4m3) {
    copy_to_cache<PhaseTile<KvFormat::kE4m3>>(rows.rows, *rows.step, rows.cache, 0, index);
  } else {
    copy_to_cache<PhaseTile<KvFormat::kBf16>>(rows.rows, *rows.step, rows.cache, 0, index);
  }
}
__device__ __forceinline__ void store_query_rows(const QueryRows& rows, uint32_t index) {
  if (index >= min(rows.num_columns, rows.step->num_columns) * rows.num_q_heads) return;
  if (rows.format == KvFormat::kE4m3) {
    store_query<PhaseTile<KvFormat::kE4m3>>(rows, index);
  } else {
    store_query<PhaseTile<KvFormat::kBf16>>(rows, index);
  }
}

template <uint32_t kOfLane>
__device__ __forceinline__ void route_unit(const OpContext& context,
                                           const program::RouteOperands& op,
                                           PhaseUnitShared& shared, const PhaseAwait& await) {
  RouteCta<kOfLane, kPhaseRouteCtas, kTaskWarps, true> cta(context, op, 1);
  cta.prepare();
  await();
  cta.run(context.num_columns(), shared.totals, shared.of_warps);
}

__device__ __forceinline__ void run_stage_unit(const PhaseAwait& await, uint32_t unit,
                                               std::byte* scratch, PhaseUnitShared& shared) {
  const auto& phase = await.phase.as<StagePhase>();
  const RankTask of_unit = phase.tasks[unit];
  const OpContext context(await.program.machine, phase.buffer_offsets, *await.program.step,
                          of_unit.task, of_unit.rank, scratch);
  if (phase.operands.opcode == program::Opcode::kRoute) {
    return route_unit<kPhaseExperts / kWarpThreads>(
        context, phase.operands.as<program::RouteOperands>(), shared, await);
  }
  await();
  switch (phase.operands.opcode) {
    case program::Opcode::kEmbed:
      return run_op(context, phase.operands.as<program::EmbedOperands>());
    case program::Opcode::kReduce:
      return run_op(context, phase.operands.as<program::ReduceOperands>());
    case program::Opcode::kAccept:
      return run_op(context, phase.operands.as<program::AcceptOperands>());
    default:
      return;  // the recorder refuses others
  }
}

// scratch: phase.scratch_slots neighbouring slots. full: PhaseShared::unit_full.
__device__ __forceinline__ void run_unit(const PhaseAwait& await, uint32_t unit, std::byte* scratch,
                                         uint64_t& full, PhaseUnitShared& shared) {
  const Phase& phase = await.phase;
  switch (phase.kind) {
    case PhaseKind::kDenseColumns:
      await();
      return make_dense_columns(phase.as<DenseColumnsLaunch>(), threadIdx.x / 32, unit);
    case PhaseKind::kDensePrepare: {
      const auto& data = phase.as<DensePrepare>();
      const NormedRow row = normed_row(scratch, data.norm_weight, data.k, shared);
      const auto load = [&](bool, bool takes_part) {
        await();
        const uint64_t column = data.first_column + unit;
        if (takes_part) load_row(row, data.rows + column * data.k, data.k, full, shared);
      };
      if (data.format == tensor::WeightFormat::kBf16) {
        return prepare_column<Bf16Page, kTaskThreads>(data, unit, row, load);
      }
      return prepare_column<Fp8Page, kTaskThreads>(data, unit, row, load);
    }
    case PhaseKind::kQuantize: {
      const auto& [launch, data] = phase.as<ExpertPhase<QuantizeData>>();
      const NormedRow row = normed_row(scratch, data.norm_weight, launch.hidden, shared);
      const uint32_t column = unit / kQuantizeParts;
      return quantize_column_in_shared<kPhaseColumns>(
          launch, data, column, unit % kQuantizeParts, row, [&](bool, bool is_present) {
            await();
            const float* from = data.rows + uint64_t{launch.first_column + column} * launch.hidden;
            if (is_present) load_row(row, from, launch.hidden, full, shared);
          });
    }
    case PhaseKind::kRoundRows: {
      const auto& data = phase.as<RoundRows>();
      const NormedRow row = normed_row(scratch, data.norm_weight, data.size, shared);
      return round_normed_row(data, unit, row, [&] {
        await();
        load_row(row, data.rows + uint64_t{unit} * data.size, data.size, full, shared);
      });
    }
    case PhaseKind::kStoreKv:
      await();
      return store_kv_rows(phase.as<KvRows>(), unit * kTaskWarps + threadIdx.x / kWarpThreads);
    case PhaseKind::kStoreQueries:
      await();
      return store_query_rows(phase.as<QueryRows>(),
                              unit * kTaskWarps + threadIdx.x / kWarpThreads);
    case PhaseKind::kWindow: {
      if (phase.as<FlashAttention>().format == KvFormat::kE4m3) {
        return run_window_unit<KvFormat::kE4m3>(await, unit, scratch, full, shared);
      }
      return run_window_unit<KvFormat::kBf16>(await, unit, scratch, full, shared);
    }
    case PhaseKind::kStage:
      return run_stage_unit(await, unit, scratch, shared);
    default:
      return;  // phases with pages
  }
}

}  // namespace ultraspeed::cuda
