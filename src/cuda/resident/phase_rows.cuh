// Units of RowsPhase: rows in shared memory, then what is made of them.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/dense_prepare.cuh"
#include "cuda/ops/expert_quantize.cuh"
#include "cuda/resident/phase_cta.cuh"
#include "program/operands.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kFourFloats = 4;  // that a thread takes at a time

// A column's elements k .. k + 3 to the operand of a dense product; the warp has 128.
__device__ __forceinline__ void store_dense_operand(std::byte* operand, tensor::WeightFormat format,
                                                    uint32_t column, uint32_t k,
                                                    const float (&values)[4], bool is_present) {
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

// For all threads: the elements of a row that this rank adds up, to `row`, and a part of them to
// the rows of all ranks.
__device__ __forceinline__ void add_partials(const RowsPhase& data, const MachineView& machine,
                                             uint32_t column, uint32_t part, float* row) {
  constexpr uint32_t kChunks = program::kReductionChunks, kSectorFours = 8;
  const uint32_t fours = data.size / kFourFloats;
  const uint64_t begin = uint64_t{column} * fours;
  const auto* residual = reinterpret_cast<const float4*>(data.residual) + begin;
  const auto* partials = reinterpret_cast<const float4*>(data.partials) + begin * kChunks;
#pragma unroll 1
  for (uint32_t i = data.first_sum / kFourFloats + threadIdx.x; i < data.end_sum / kFourFloats;
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
    const float4 value = {before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w};
    reinterpret_cast<float4*>(row)[i] = value;
    if (i / kSectorFours % kRowParts != part) continue;
    for (uint32_t rank = 0; rank < machine.num_ranks; ++rank) {
      float* to = machine.ranks[rank].arena + data.rows_offset;
      reinterpret_cast<float4*>(to)[begin + i] = value;
    }
  }
}

// For all threads: brings a row to shared memory. is_present: the step has the column; of others
// there is what was left in memory. full: counts bytes, in phases of `parity`.
__device__ __forceinline__ void make_row(const RowsPhase& data, const MachineView& machine,
                                         uint32_t column, uint32_t part, bool is_present,
                                         float* row, uint64_t& full, uint32_t parity) {
  const uint32_t begin = is_present ? data.first_sum : 0, end = is_present ? data.end_sum : 0;
  if (threadIdx.x == 0) {
    const float* from = data.rows + uint64_t{column} * data.size;
    const auto bytes = [](uint32_t floats) -> uint32_t { return floats * sizeof(float); };
    ptx::mbarrier_arrive_expect_tx(&full, bytes(data.size - (end - begin)));
    if (begin > 0) ptx::bulk_copy(row, from, bytes(begin), &full);
    if (end < data.size) ptx::bulk_copy(row + end, from + end, bytes(data.size - end), &full);
  }
  if (begin < end) add_partials(data, machine, column, part, row);
  ptx::mbarrier_wait(&full, parity);
  task_barrier();
}

// For all threads: of a column's blocks of 128 elements, those of a part.
__device__ __forceinline__ void store_rows(const RowsPhase& data, uint32_t column, uint32_t part,
                                           bool exists, bool is_present, const NormedRow& shared) {
  const bool is_normed = exists && data.norm_weight != nullptr;
  const float factor = is_normed ? *shared.factor : 0;
  const uint32_t first = (part * kTaskWarps + threadIdx.x / kWarpThreads) * kWarpElements;
#pragma unroll 1
  for (uint32_t begin = first; begin < data.size; begin += kRowParts * kTaskWarps * kWarpElements) {
    const uint32_t k = begin + threadIdx.x % kWarpThreads * kFourFloats;
    float v[kFourFloats];
#pragma unroll
    for (uint32_t i = 0; i < kFourFloats; ++i) {
      v[i] = exists ? shared.row[k + i] : 0;
      if (is_normed) v[i] = shared.weight[k + i] * (v[i] * factor);
    }
    if (data.copy != nullptr && exists) {
      *reinterpret_cast<float4*>(data.copy + uint64_t{column} * data.size + k) = {v[0], v[1], v[2],
                                                                                  v[3]};
    }
    if (!is_present) v[0] = v[1] = v[2] = v[3] = 0;
    if (data.dense_operand != nullptr) {
      store_dense_operand(data.dense_operand, data.dense_format, column, k, v, is_present);
    }
    if (data.expert_operand != nullptr) {
      store_four<kPhaseColumns>(data.expert_operand, data.size / kBlockColumns, column, k, v,
                                is_present);
    }
  }
}

// shared: the norm's weight is there. full, parity: of make_row().
__device__ __forceinline__ void run_rows_unit(const PhaseAwait& await, uint32_t unit,
                                              const NormedRow& shared, uint64_t& full,
                                              uint32_t parity) {
  const auto& data = await.phase.as<RowsPhase>();
  const uint32_t column = unit / kRowParts, part = unit % kRowParts;
  const bool exists = column < data.num_rows;
  await();
  const bool is_present = exists && column < await.program.step->num_columns;
  if (exists) {
    make_row(data, await.program.machine, column, part, is_present, shared.row, full, parity);
    if (data.norm_weight != nullptr) {
      if (threadIdx.x < kWarpThreads) make_factor(shared, data.size, data.norm_epsilon);
      task_barrier();
    }
  }
  store_rows(data, column, part, exists, is_present, shared);
}

}  // namespace ultraspeed::cuda
