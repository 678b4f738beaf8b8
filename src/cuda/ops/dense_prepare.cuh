// The operand of a dense product from a column in f32 (dense.h).
#pragma once

#include <cuda_fp16.h>

#include "cuda/ops/columns.cuh"
#include "cuda/ops/dense.h"
#include "cuda/tile/dense_operand.h"
#include "tensor/bf16.h"
#include "tensor/block_scale.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kWarpElements = 128;  // a block of FP8's operand: four elements a lane

// Four neighbouring elements, or zeros, of a column, of which the warp has 128.
template <class Page>
__device__ void write_operand(std::byte* piece, uint32_t columns, uint32_t column, uint32_t k,
                              const float (&v)[4], bool takes_part) {
  using Operand = DenseOperand<Page>;
  if constexpr (Operand::kIsFp8) {
    uint32_t largest = 0;
    for (const float value : v) largest = max(largest, __float_as_uint(value) & 0x7fffffffu);
    const tensor::BlockScale scale = tensor::f16_scale(__reduce_max_sync(kWholeWarp, largest));
    const float factor = scale.is_nan ? 0.0F : tensor::power_of_two(-scale.exponent);
    __half2 codes[2] = {__floats2half2_rn(v[0] * factor, v[1] * factor),
                        __floats2half2_rn(v[2] * factor, v[3] * factor)};
    if (scale.is_nan) codes[0] = codes[1] = __half2(0, 0);  // not NaN times 0
    *reinterpret_cast<uint2*>(piece + Operand::code(columns, 0, column, k)) =
        *reinterpret_cast<const uint2*>(codes);
    if (threadIdx.x % kWarpThreads != 0) return;
    const float unit =
        scale.is_nan ? __int_as_float(0x7fffffff) : tensor::power_of_two(scale.exponent);
    reinterpret_cast<float*>(piece +
                             Operand::scales(columns))[k / Page::kBlockColumns * columns + column] =
        takes_part ? unit : 0.0F;
  } else {
    ushort4 terms[2];
    uint16_t* codes = &terms[0].x;
    for (uint32_t i = 0; i < 4; ++i) {
      codes[i] = tensor::bf16_from_float(v[i]);
      codes[4 + i] = tensor::bf16_from_float(v[i] - tensor::bf16_to_float(codes[i]));
    }
    for (uint32_t term = 0; term < 2; ++term) {
      *reinterpret_cast<ushort4*>(piece + Operand::code(columns, term, column, k)) = terms[term];
    }
  }
}

// Shared memory of a column: the row, and the norm's weight.
constexpr uint64_t dense_prepare_bytes(const DensePrepare& data) {
  return uint64_t{data.k} * sizeof(float) * (data.norm_weight == nullptr ? 1 : 2);
}

// What a thread makes of 4 neighbouring elements at a time, and the warp of 128. column_at(place):
// which column of the row lies there.
template <class Page, uint32_t kThreads, class ColumnAt>
__device__ __forceinline__ void write_row(const DensePrepare& data, uint32_t size, uint32_t column,
                                          const NormedRow& shared, bool takes_part, bool is_normed,
                                          const ColumnAt& column_at) {
  const float* row = shared.row;
  const float* weight = shared.weight;
#pragma unroll 1
  for (uint32_t begin = threadIdx.x / kWarpThreads * kWarpElements; begin < size;
       begin += kThreads / kWarpThreads * kWarpElements) {
    const uint32_t at = begin + threadIdx.x % kWarpThreads * 4;
    const uint32_t k = column_at(at);
    float v[4] = {};
    for (uint32_t i = 0; i < 4 && takes_part && k != PagedRow::kFilling; ++i) {
      v[i] = is_normed ? weight[k + i] * (row[k + i] * *shared.factor) : row[k + i];
    }
    std::byte* piece = data.operand + uint64_t{at / Page::kColumns} *
                                          DenseOperand<Page>::piece_bytes(data.columns);
    write_operand<Page>(piece, data.columns, column, at % Page::kColumns, v, takes_part);
  }
}

// For the first kThreads threads of a CTA: column `column` of the operand, from its row and the
// norm's weight in shared memory. takes_part: the step has the column, else there is neither.
template <class Page, uint32_t kThreads>
__device__ __forceinline__ void prepare_column(const DensePrepare& data, const PagedRow& paged,
                                               uint32_t column, const NormedRow& shared,
                                               bool takes_part) {
  const bool is_normed = takes_part && data.norm_weight != nullptr;
  if (is_normed && threadIdx.x / kWarpThreads == 0) make_factor(shared, data.k, data.epsilon);
  task_barrier<kThreads>();
  if (paged.size() == data.k) {
    write_row<Page, kThreads>(data, data.k, column, shared, takes_part, is_normed,
                              [](uint32_t at) { return at; });
  } else {
    write_row<Page, kThreads>(data, paged.size(), column, shared, takes_part, is_normed,
                              [&](uint32_t at) { return paged.column(at); });
  }
}

}  // namespace ultraspeed::cuda
