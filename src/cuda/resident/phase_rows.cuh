// Units of RowsPhase: rows in shared memory, then what is made of them.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/dense_prepare.cuh"
#include "cuda/ops/expert_quantize.cuh"
#include "cuda/ops/peer_delay.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/resident/phase.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

static_assert(kWarpElements == kWarpThreads * kThreadFloats);

// A column's elements k .. k + 3 to the operand of a dense product; the warp has 128.
__device__ __forceinline__ void store_dense_operand(std::byte* operand, tensor::WeightFormat format,
                                                    uint32_t column, uint32_t k,
                                                    const float (&values)[kThreadFloats],
                                                    bool is_present) {
  const auto store = [&]<class Page>() {
    const uint64_t piece = DenseOperand<Page>::piece_bytes(kPhaseColumns);
    write_operand<Page>(operand + k / Page::kColumns * piece, kPhaseColumns, column,
                        k % Page::kColumns, values, is_present);
  };
  if (format == tensor::WeightFormat::kBf16) {
    store.template operator()<Bf16Page>();
  } else {
    store.template operator()<Fp8Page>();
  }
}

// Each is used once a unit.
struct RowBarriers {
  uint64_t weight_full, row_full;

  __device__ void init() {
    ptx::mbarrier_init(&weight_full, 1);
    ptx::mbarrier_init(&row_full, 1);
  }
};

__device__ __forceinline__ uint32_t float_bytes(uint32_t floats) {
  return floats * static_cast<uint32_t>(sizeof(float));
}

// For one thread, before the rows are there.
__device__ __forceinline__ void load_norm_weight(const RowsPhase& data, const NormedRow& shared,
                                                 RowBarriers& barriers) {
  const uint32_t bytes = data.norm_weight == nullptr ? 0 : float_bytes(data.size);
  ptx::mbarrier_arrive_expect_tx(&barriers.weight_full, bytes);
  if (bytes > 0) ptx::bulk_copy(shared.weight, data.norm_weight, bytes, &barriers.weight_full);
}

// For all threads: the elements of a row that this rank adds up, to `row` and to the rows of all
// ranks.
__device__ __forceinline__ void add_partials(const RowsPhase& data, const MachineView& machine,
                                             uint32_t column, float* row) {
  constexpr uint32_t kChunks = program::kReductionChunks;
  const uint32_t fours = data.size / kThreadFloats;
  const uint64_t begin = uint64_t{column} * fours;
  const auto* residual = reinterpret_cast<const float4*>(data.residual) + begin;
  const auto* partials = reinterpret_cast<const float4*>(data.partials) + begin * kChunks;
#pragma unroll 1
  for (uint32_t i = data.first_sum / kThreadFloats + threadIdx.x; i < data.end_sum / kThreadFloats;
       i += kTaskThreads) {
    float4 of_chunks[kChunks];
#pragma unroll
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      of_chunks[chunk] = partials[uint64_t{chunk} * fours + i];
    }
    const float4 before = residual[i];
    float4 sum = of_chunks[0];
#pragma unroll
    for (uint32_t chunk = 1; chunk < kChunks; ++chunk) {
      sum.x += of_chunks[chunk].x;
      sum.y += of_chunks[chunk].y;
      sum.z += of_chunks[chunk].z;
      sum.w += of_chunks[chunk].w;
    }
    if (data.bias != nullptr) {
      const float4 bias = reinterpret_cast<const float4*>(data.bias)[i];
      sum = {sum.x + bias.x, sum.y + bias.y, sum.z + bias.z, sum.w + bias.w};
    }
    const float4 value = {before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w};
    reinterpret_cast<float4*>(row)[i] = value;
    for (uint32_t rank = 0; rank < machine.num_ranks; ++rank) {
      float* to = machine.ranks[rank].arena + data.rows_offset;
      reinterpret_cast<float4*>(to)[begin + i] = value;
    }
  }
}

// For all threads: brings a row to shared memory. is_present: the step has the column; of others
// there is what was left in memory.
__device__ __forceinline__ void load_row(const RowsPhase& data, const MachineView& machine,
                                         uint32_t column, bool is_present, float* row,
                                         uint64_t& full, uint32_t parity) {
  const uint32_t begin = is_present ? data.first_sum : 0, end = is_present ? data.end_sum : 0;
  if (threadIdx.x == 0) {
    const float* from = data.rows + uint64_t{column} * data.size;
    ptx::mbarrier_arrive_expect_tx(&full, float_bytes(data.size - (end - begin)));
    if (begin > 0) ptx::bulk_copy(row, from, float_bytes(begin), &full);
    if (end < data.size) ptx::bulk_copy(row + end, from + end, float_bytes(data.size - end), &full);
  }
  if (begin < end) {
    add_partials(data, machine, column, row);
    if (threadIdx.x == 0) await_emulated_peers(machine);
  }
  ptx::mbarrier_wait(&full, parity);
  task_barrier();
}

// Of a row: elements k .. k + 3, normalised. Of one that memory has no room for, and behind its
// end, zeros.
struct NormedElements {
  __device__ NormedElements(const RowsPhase& data, bool row_exists, const NormedRow& of_shared)
      : shared(of_shared),
        size(row_exists ? data.size : 0),
        is_normed(row_exists && data.norm_weight != nullptr),
        factor(is_normed ? *of_shared.factor : 0) {}

  __device__ __forceinline__ float4 operator()(uint32_t k) const {
    float4 x = {};
    if (k >= size) return x;
    x = *reinterpret_cast<const float4*>(shared.row + k);
    if (!is_normed) return x;
    const float4 w = *reinterpret_cast<const float4*>(shared.weight + k);
    return {w.x * (x.x * factor), w.y * (x.y * factor), w.z * (x.z * factor), w.w * (x.w * factor)};
  }

  const NormedRow& shared;
  const uint32_t size;
  const bool is_normed;
  const float factor;
};

// For all threads: a dense operand with what fills up its pages. Warps are whole in it, as they
// have to be in store_dense_operand().
__device__ __forceinline__ void store_filled_up(const RowsPhase& data, uint32_t column,
                                                const NormedElements& elements, bool is_present) {
  const PagedRow paged = paged_row(data.dense_format, data.size, data.dense_chunks);
#pragma unroll 1
  for (uint32_t at = threadIdx.x * kThreadFloats; at < paged.size();
       at += kTaskThreads * kThreadFloats) {
    const uint32_t k = paged.column(at);
    const float4 x = is_present && k != PagedRow::kFilling ? elements(k) : float4{};
    const float v[kThreadFloats] = {x.x, x.y, x.z, x.w};
    store_dense_operand(data.dense_operand, data.dense_format, column, at, v, is_present);
  }
}

// For all threads: what is made of a row.
__device__ __forceinline__ void store_operands(const RowsPhase& data, uint32_t column, bool exists,
                                               bool is_present, const NormedRow& shared) {
  const NormedElements elements(data, exists, shared);
  // Warps are whole in what they make operands of.
  const uint32_t end = max(data.size, data.expert_columns);
#pragma unroll 2
  for (uint32_t k = threadIdx.x * kThreadFloats; k < end; k += kTaskThreads * kThreadFloats) {
    float4 x = elements(k);
    if (data.copy != nullptr && exists && k < data.size) {
      *reinterpret_cast<float4*>(data.copy + uint64_t{column} * data.size + k) = x;
    }
    if (!is_present) x = {};
    const float v[kThreadFloats] = {x.x, x.y, x.z, x.w};
    if (data.dense_operand != nullptr && !data.fills_up && k < data.size) {
      store_dense_operand(data.dense_operand, data.dense_format, column, k, v, is_present);
    }
    if (data.expert_operand != nullptr) {
      store_four<kPhaseColumns>(data.expert_operand, data.expert_columns / kBlockColumns, column, k,
                                v, is_present);
    }
  }
  if (data.fills_up) store_filled_up(data, column, elements, is_present);
}

// For all threads: column `column` of a step with so many. parity: of both barriers.
__device__ __forceinline__ void run_rows(const RowsPhase& data, const MachineView& machine,
                                         uint32_t column, uint32_t num_columns,
                                         const NormedRow& shared, RowBarriers& barriers,
                                         uint32_t parity) {
  const bool exists = column < data.num_rows;
  const bool is_present = exists && column < num_columns;
  if (exists) {
    load_row(data, machine, column, is_present, shared.row, barriers.row_full, parity);
    if (data.norm_weight != nullptr && threadIdx.x < kWarpThreads) {
      make_factor(shared, data.size, data.norm_epsilon);
    }
  } else if (threadIdx.x == 0) {
    ptx::mbarrier_arrive(&barriers.row_full);
  }
  ptx::mbarrier_wait(&barriers.weight_full, parity);
  task_barrier();  // the factor is known
  store_operands(data, column, exists, is_present, shared);
}

// The outputs of a window's heads, [kWindowRows, kFlashValueDim] from `first_head` of the column's
// on, and their part of the operand behind, which heads of kFlashValueDim dimensions have. values:
// shared; nullptr: the step has not the column.
__device__ __forceinline__ void store_window(const WindowPhase& phase, uint32_t column,
                                             uint32_t first_head, uint32_t num_heads,
                                             const float* values) {
  static_assert(kFlashValueDim == kWarpElements);
  const uint32_t num_q_heads = phase.attention.num_q_heads;
  const uint32_t v_head_dim = phase.attention.cache.v_head_dim;
#pragma unroll 2
  for (uint32_t i = threadIdx.x / kWarpThreads; i < num_heads; i += kTaskWarps) {
    const uint32_t k = threadIdx.x % kWarpThreads * kThreadFloats;
    float4 v = {};
    if (values != nullptr && k < v_head_dim) {
      v = *reinterpret_cast<const float4*>(values + i * kFlashValueDim + k);
      const uint64_t head = uint64_t{column} * num_q_heads + first_head + i;
      *reinterpret_cast<float4*>(phase.attention.output + head * v_head_dim + k) = v;
    }
    if (phase.dense_operand == nullptr) continue;
    const float elements[kThreadFloats] = {v.x, v.y, v.z, v.w};
    store_dense_operand(phase.dense_operand, phase.dense_format, column,
                        (first_head + i) * kFlashValueDim + k, elements, values != nullptr);
  }
}

}  // namespace ultraspeed::cuda
