// Units of phases without pages, each by the consumer warps of a CTA.
#pragma once

#include "cuda/ops/accept.cuh"
#include "cuda/ops/dense_columns.cuh"
#include "cuda/ops/embed.cuh"
#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/query_rows.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/window_attention.cuh"
#include "cuda/resident/phase_cta.cuh"
#include "cuda/resident/phase_rows.cuh"

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

// For all threads: the parity of a unit's load, which each unit that loads takes once.
__device__ __forceinline__ uint32_t take_parity(PhaseUnitShared& shared) {
  const uint32_t parity = shared.num_loads % 2;
  task_barrier();  // all have read it
  if (threadIdx.x == 0) shared.num_loads = parity ^ 1;
  return parity;
}

// A unit's row, and its norm's weight, which the loader has brought, if there is one.
__device__ __forceinline__ NormedRow normed_row(std::byte* scratch, const RowsPhase& data,
                                                PhaseUnitShared& shared) {
  auto* floats = reinterpret_cast<float*>(scratch);
  return {data.norm_weight == nullptr ? floats : floats + data.size, floats, &shared.factor};
}

// The outputs of a window's heads, [kWindowRows, value dim] from `first_head` of the column's on,
// and their part of the operand behind. values: shared; nullptr: the step has not the column.
__device__ __forceinline__ void store_window(const WindowPhase& phase, uint32_t column,
                                             uint32_t first_head, uint32_t num_heads,
                                             const float* values) {
  static_assert(kFlashValueDim == kWarpElements);
  const uint32_t num_q_heads = phase.attention.num_q_heads;
#pragma unroll 1
  for (uint32_t i = threadIdx.x / kWarpThreads; i < num_heads; i += kTaskWarps) {
    const uint32_t k = threadIdx.x % kWarpThreads * kFourFloats;
    float4 v = {};
    if (values != nullptr) {
      v = *reinterpret_cast<const float4*>(values + i * kFlashValueDim + k);
      const uint64_t head = uint64_t{column} * num_q_heads + first_head + i;
      *reinterpret_cast<float4*>(phase.attention.output + head * kFlashValueDim + k) = v;
    }
    if (phase.dense_operand == nullptr) continue;
    const float elements[4] = {v.x, v.y, v.z, v.w};
    store_dense_operand(phase.dense_operand, phase.dense_format, column,
                        (first_head + i) * kFlashValueDim + k, elements, values != nullptr);
  }
}

// A function of its own: its registers would push out those that the consumers keep.
template <KvFormat kFormat>
__device__ __noinline__ void run_window_unit(PhaseAwait await, uint32_t unit, std::byte* scratch,
                                             uint64_t& full, PhaseUnitShared& shared) {
  const auto& phase = await.phase.as<WindowPhase>();
  const FlashAttention& launch = phase.attention;
  using Tile = PhaseTile<kFormat>;
  if (launch.rows == nullptr) await();  // another phase writes the tiles
  const StepHead step(launch.step);
  const uint32_t group = launch.num_q_heads / launch.cache.num_kv_heads;
  const uint32_t slabs = (group + kWindowRows - 1) / kWindowRows;
  const uint32_t column = unit % kPhaseColumns, slab = unit / kPhaseColumns;
  const uint32_t in_group = slab % slabs * kWindowRows;
  const uint32_t first_head = slab / slabs * group + in_group;
  const uint32_t num_heads = min(kWindowRows, group - in_group);
  if (column >= step.num_columns) {
    await();
    store_window(phase, column, first_head, num_heads, nullptr);
    return;
  }
  const WindowPlace at(launch, step, Tile::kPiece, column, slab);
  const uint32_t parity = take_parity(shared);
  auto* values = reinterpret_cast<float*>(scratch + WindowShared<Tile>::kScores);
  const auto await_rows = [&] {
    if (launch.rows != nullptr) await();
  };
  run_window<Tile, FlashAttention::Work::kAttention>(
      launch, at, scratch, &full, parity, shared.softmax, await_rows,
      [&](uint32_t row) { return values + row * kFlashValueDim; });
  task_barrier();  // all values are there
  store_window(phase, column, first_head, num_heads, values);
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
    case PhaseKind::kRows: {
      const NormedRow row = normed_row(scratch, phase.as<RowsPhase>(), shared);
      return run_rows_unit(await, unit, row, full, take_parity(shared));
    }
    case PhaseKind::kStoreKv:
      await();
      return store_kv_rows(phase.as<KvRows>(), unit * kTaskWarps + threadIdx.x / kWarpThreads);
    case PhaseKind::kStoreQueries:
      await();
      return store_query_rows(phase.as<QueryRows>(),
                              unit * kTaskWarps + threadIdx.x / kWarpThreads);
    case PhaseKind::kWindow: {
      if (phase.as<WindowPhase>().attention.format == KvFormat::kE4m3) {
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
