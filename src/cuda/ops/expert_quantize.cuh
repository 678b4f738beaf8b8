// The operand of the experts' gate/up from a column in f32 (expert_w4a8.h).
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/expert_w4a8_gate_up.cuh"
#include "cuda/ptx/convert.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kQuantizeWarps = kQuantizeParts * kTaskWarps;
inline constexpr uint32_t kQuantizeTurns =
    kGateUpMaxRanks * kMaxPart / kBlockColumns / kQuantizeWarps;  // of a warp, at most

// For a warp, a value a lane: a block of a column, rounded to codes.
template <uint32_t kColumns>
__device__ __forceinline__ void store_block(std::byte* output, uint32_t blocks, uint32_t block,
                                            uint32_t column, float value, bool is_present) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t lane = threadIdx.x % kWarpThreads;
  const E4m3Scale scale = e4m3_scale(__reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu));
  const uint32_t code =
      scale.is_nan ? kE4m3Nan : ptx::e4m3x2(value * power_of_two(-scale.exponent), 0);
  output[Operand::code(block, column, lane)] = static_cast<std::byte>(is_present ? code : 0);
  if (lane != 0) return;
  reinterpret_cast<float*>(output + Operand::code_bytes(blocks))[block * kColumns + column] =
      is_present ? power_of_two(scale.exponent) * kDecodedUnit : 0.0F;
}

// For the first kTaskThreads threads of a CTA: part `part` of column `column`; each warp 32
// elements at a time, all of which it asks for at once: the norm's weights before the row is there,
// that is behind await_grid_before(). row: shared, [hidden].
template <uint32_t kColumns>
__device__ __forceinline__ void quantize_column(const ExpertLaunch& launch,
                                                const QuantizeData& data, uint32_t column,
                                                uint32_t part, float* row) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  const uint32_t hidden = launch.hidden, blocks = gate_up_columns(hidden) / kBlockColumns;
  const uint32_t first = part * kTaskWarps + threadIdx.x / kWarpThreads;
  const bool is_normed = data.norm_weight != nullptr;
  // The lane's element of each of the warp's blocks; 0 where columns are filled up.
  const auto load = [&](const float* from, float(&values)[kQuantizeTurns]) {
#pragma unroll
    for (uint32_t i = 0; i < kQuantizeTurns; ++i) {
      const uint32_t block = first + i * kQuantizeWarps;
      values[i] = block < hidden / kBlockColumns ? from[block * kBlockColumns + lane] : 0.0F;
    }
  };
  float weights[kQuantizeTurns], values[kQuantizeTurns] = {};
  if (is_normed) load(data.norm_weight, weights);
  await_grid_before();
  const bool is_present = column < present_columns(launch);
  const float* x = data.rows + uint64_t{launch.first_column + column} * hidden;
  if (is_present) load(x, values);
  if (is_present && is_normed) {
#pragma unroll 8
    for (uint32_t k = threadIdx.x; k < hidden; k += kTaskThreads) row[k] = x[k];
    task_barrier();
    const float factor = rms_factor(sum_of_squares(row, hidden), hidden, data.norm_epsilon);
#pragma unroll
    for (uint32_t i = 0; i < kQuantizeTurns; ++i) values[i] = weights[i] * (values[i] * factor);
  }
#pragma unroll
  for (uint32_t i = 0; i < kQuantizeTurns; ++i) {
    const uint32_t block = first + i * kQuantizeWarps;
    if (block >= blocks) break;
    store_block<kColumns>(data.output, blocks, block, column, values[i], is_present);
  }
}

// The same of four neighbouring elements, k and behind it, of a column of which the warp has 128.
template <uint32_t kColumns>
__device__ __forceinline__ void store_four(std::byte* output, uint32_t blocks, uint32_t column,
                                           uint32_t k, const float (&values)[4], bool is_present) {
  using Operand = E4m3Operand<kColumns>;
  uint32_t largest = 0;
#pragma unroll
  for (const float value : values) largest = max(largest, __float_as_uint(value) & 0x7fffffffu);
#pragma unroll
  for (uint32_t lanes = 1; lanes < kBlockColumns / 4; lanes *= 2) {
    largest = max(largest, __shfl_xor_sync(kWholeWarp, largest, lanes));
  }
  const E4m3Scale scale = e4m3_scale(largest);
  const float factor = power_of_two(-scale.exponent);
  const uint32_t low = ptx::e4m3x2(values[0] * factor, values[1] * factor);
  const uint32_t high = ptx::e4m3x2(values[2] * factor, values[3] * factor);
  const uint32_t codes = scale.is_nan ? kE4m3Nan * 0x1010101u : low | high << 16;
  const uint32_t block = k / kBlockColumns;
  *reinterpret_cast<uint32_t*>(output + Operand::code(block, column, k % kBlockColumns)) =
      is_present ? codes : 0;
  if (k % kBlockColumns != 0) return;
  reinterpret_cast<float*>(output + Operand::code_bytes(blocks))[block * kColumns + column] =
      is_present ? power_of_two(scale.exponent) * kDecodedUnit : 0.0F;
}

}  // namespace ultraspeed::cuda
