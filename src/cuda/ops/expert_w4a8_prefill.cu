// Launches of expert_w4a8_prefill.h.
#include "cuda/ops/columns.cuh"
#include "cuda/ops/expert_w4a8_prefill_down.cuh"
#include "cuda/ops/expert_w4a8_prefill_gate_up.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

using Work = ExpertPrefill::Work;

constexpr uint32_t kTileThreads = kMaxPrefillSlots;

struct TileCount {
  uint32_t tiles, columns;
};

// Sums of the counts of the threads before this one, and of all.
__device__ TileCount sum_before(TileCount mine, TileCount* total) {
  __shared__ TileCount of_warp[kTileThreads / 32];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  TileCount sum = mine;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t tiles = __shfl_up_sync(~0u, sum.tiles, step);
    const uint32_t columns = __shfl_up_sync(~0u, sum.columns, step);
    if (lane >= step) {
      sum.tiles += tiles;
      sum.columns += columns;
    }
  }
  if (lane == 31) of_warp[warp] = sum;
  __syncthreads();
  TileCount before = {sum.tiles - mine.tiles, sum.columns - mine.columns};
  *total = {0, 0};
  for (uint32_t i = 0; i < kTileThreads / 32; ++i) {
    if (i < warp) {
      before.tiles += of_warp[i].tiles;
      before.columns += of_warp[i].columns;
    }
    total->tiles += of_warp[i].tiles;
    total->columns += of_warp[i].columns;
  }
  return before;
}

// Four codes of a block of 32, which 8 lanes have, and its scale (PrefillInput).
struct QuantizedWord {
  uint32_t codes;
  std::byte scale;
};
__device__ QuantizedWord quantize_word(const float4& value) {
  const float values[4] = {value.x, value.y, value.z, value.w};
  uint32_t largest = 0;
  for (const float v : values) largest = max(largest, __float_as_uint(v) & 0x7fffffffu);
  for (uint32_t mask = 1; mask < 8; mask *= 2) {
    largest = max(largest, __shfl_xor_sync(~0u, largest, mask));
  }
  const E4m3Scale scale = e4m3_scale(largest);
  uint32_t codes = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t code = scale.is_nan
                              ? kE4m3Nan
                              : tensor::e4m3_from_float(values[i] * power_of_two(-scale.exponent));
    codes |= code << 8 * i;
  }
  const float column_scale = power_of_two(scale.exponent) * kDecodedUnit;
  return {codes, static_cast<std::byte>(__float_as_uint(column_scale) >> 23)};
}

// A CTA; a thread makes the tiles of a slot.
__device__ void make_tiles(const ExpertPrefill& launch) {
  const uint32_t slot = threadIdx.x;
  uint32_t begin = 0, pairs = 0;
  if (slot < *launch.route.num_slots) {
    begin = launch.route.pair_begin[slot];
    pairs = launch.route.pair_begin[slot + 1] - begin;
  }
  const uint32_t tiles = slot_tiles(pairs);
  const uint32_t columns = pairs == 0 ? 0 : tile_columns(pairs);
  const uint32_t of_last = pairs == 0 ? 0 : pairs - (tiles - 1) * columns;
  const uint32_t all_columns = pairs == 0 ? 0 : (tiles - 1) * columns + (of_last + 7) / 8 * 8;
  TileCount total{};
  TileCount at = sum_before({tiles, all_columns}, &total);
  for (uint32_t i = 0; i < tiles; ++i) {
    const uint32_t num_pairs = i + 1 < tiles ? columns : of_last;
    launch.tiles.tile[at.tiles + i] = {launch.route.expert[slot], begin + i * columns, num_pairs,
                                       (num_pairs + 7) / 8 * 8, at.columns + i * columns};
  }
  if (threadIdx.x == 0) *launch.tiles.num_tiles = total.tiles;
}

// A warp finds the pairs of a token; a lane looks into one slot at a time.
__device__ void find_token_pairs(const ExpertPrefill& launch, uint32_t token) {
  const uint32_t lane = threadIdx.x % 32, num_slots = *launch.route.num_slots;
  const uint32_t* columns = launch.route.pair_column;
  uint32_t* list = launch.tiles.token_pairs + token * launch.experts_per_token;
  uint32_t found = 0;
  for (uint32_t first = 0; first < num_slots; first += 32) {
    const uint32_t slot = first + lane;
    uint32_t begin = 0, end = 0;
    if (slot < num_slots) {
      begin = launch.route.pair_begin[slot];
      end = launch.route.pair_begin[slot + 1];
    }
    const uint32_t last = end;
    while (begin < end) {
      const uint32_t middle = (begin + end) / 2;
      if (columns[middle] < token) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    const bool is_routed = begin < last && columns[begin] == token;
    const uint32_t routed = __ballot_sync(~0u, is_routed);
    const uint32_t place = found + __popc(routed & ((1u << lane) - 1));
    if (is_routed && place < launch.experts_per_token) list[place] = begin;
    found += __popc(routed);
  }
  for (uint32_t i = found + lane; i < launch.experts_per_token; i += 32) list[i] = program::kNoId;
}

__global__ void __launch_bounds__(kTileThreads)
    expert_tiles_kernel(const __grid_constant__ ExpertPrefill launch) {
  if (blockIdx.x == 0) {
    make_tiles(launch);
  } else {
    const uint32_t token = (blockIdx.x - 1) * (kTileThreads / 32) + threadIdx.x / 32;
    if (token < present_tokens(launch)) find_token_pairs(launch, token);
  }
  ptx::wait_for_grids();  // so that what follows has the quantised rows
}

constexpr uint32_t kQuantizeThreads = 256;

// CTA: a token. A thread has 4 elements at a time, 8 lanes a block. Shared: its row, of which one
// warp takes the sum of squares.
__global__ void __launch_bounds__(kQuantizeThreads)
    prefill_quantize_kernel(const __grid_constant__ ExpertPrefill launch,
                            const __grid_constant__ PrefillRows rows, PrefillInput output) {
  extern __shared__ float4 row[];
  __shared__ float shared_factor;
  ptx::wait_for_grids();
  ptx::launch_dependents();  // no earlier: launch_expert_tiles() reads the route table
  const uint32_t token = blockIdx.x, hidden = launch.hidden;
  if (token >= present_tokens(launch)) return;
  const auto* x = reinterpret_cast<const float4*>(rows.rows + uint64_t{token} * hidden);
  for (uint32_t i = threadIdx.x; i < hidden / 4; i += kQuantizeThreads) row[i] = x[i];
  __syncthreads();
  const auto* weight = reinterpret_cast<const float4*>(rows.norm_weight);
  if (weight != nullptr && threadIdx.x < kWarpThreads) {
    const float squares = sum_of_squares(reinterpret_cast<const float*>(row), hidden);
    if (threadIdx.x == 0) shared_factor = rms_factor(squares, hidden, rows.norm_epsilon);
  }
  __syncthreads();
  auto* codes = reinterpret_cast<uint32_t*>(output.codes + uint64_t{token} * hidden);
  std::byte* scales = output.scales + uint64_t{token} * (hidden / kBlockColumns);
  for (uint32_t i = threadIdx.x; i < hidden / 4; i += kQuantizeThreads) {  // whole warps
    float4 value = row[i];
    if (weight != nullptr) {
      const float factor = shared_factor;
      const float4 w = weight[i];
      value = {w.x * (value.x * factor), w.y * (value.y * factor), w.z * (value.z * factor),
               w.w * (value.w * factor)};
    }
    const QuantizedWord quantized = quantize_word(value);
    codes[i] = quantized.codes;
    if (i % 8 == 0) scales[i / 8] = quantized.scale;
  }
}

}  // namespace

cudaError_t launch_prefill_quantize(const ExpertPrefill& launch, const PrefillRows& rows,
                                    const PrefillInput& output, cudaStream_t stream) {
  if (launch.hidden % kSquareBatch != 0 || launch.hidden > kMaxPrefillHidden) {
    return cudaErrorInvalidValue;
  }
  const LaunchSize size = {dim3(launch.num_tokens), kQuantizeThreads,
                           launch.hidden * static_cast<uint32_t>(sizeof(float))};
  return launch_with(prefill_quantize_kernel, size, {starts_early()}, stream, launch, rows, output);
}

cudaError_t launch_expert_tiles(const ExpertPrefill& launch, cudaStream_t stream) {
  constexpr uint32_t kTokens = kTileThreads / 32;
  const LaunchSize size = {dim3(1 + (launch.num_tokens + kTokens - 1) / kTokens), kTileThreads};
  return launch_with(expert_tiles_kernel, size, {starts_early()}, stream, launch);
}

cudaError_t launch_prefill_gate_up(const ExpertPrefill& launch, const PrefillGateUpData& data,
                                   cudaStream_t stream) {
  if (launch.hidden % (kGateUpMaxRanks * kGateUpPageColumns) != 0 ||
      launch.intermediate % kDownChunkColumns != 0) {
    return cudaErrorInvalidValue;
  }
  auto* kernel = launch.work == Work::kDrain ? prefill_gate_up_kernel<Work::kDrain>
                                             : prefill_gate_up_kernel<Work::kProducts>;
  const LaunchSize size = {dim3(launch.num_ctas), kGateUpThreads, PrefillGateUpShared::kBytes};
  return launch_with(kernel, size, {is_cooperative()}, stream, launch, data);
}

cudaError_t launch_prefill_down(const ExpertPrefill& launch, const PrefillDownData& data,
                                cudaStream_t stream) {
  const uint32_t groups = launch.hidden / kDownGroupRows;
  if (launch.hidden % kDownGroupRows != 0 || launch.intermediate % kDownChunkColumns != 0 ||
      data.section_groups == 0 || groups % data.section_groups != 0) {
    return cudaErrorInvalidValue;
  }
  const cudaError_t error = cudaMemsetAsync(
      data.counters, 0, groups / data.section_groups * sizeof(SectionCounters), stream);
  if (error != cudaSuccess) return error;
  auto* kernel = launch.work == Work::kDrain ? prefill_down_kernel<Work::kDrain>
                                             : prefill_down_kernel<Work::kProducts>;
  const LaunchSize size = {dim3(launch.num_ctas), kDownThreads, PrefillDownShared::kBytes};
  return launch_with(kernel, size, {is_cooperative()}, stream, launch, data);
}

}  // namespace ultraspeed::cuda
