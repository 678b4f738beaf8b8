// Down of expert_w4a8_prefill.h, in one launch of CTAs that run at the same time. An item is a tile
// of columns, a chunk and 128 rows, 64 a warpgroup. Items of some rows, a *section*, come before
// those of the next rows; CTA c has items c, c + CTAs, ... A stage of the ring is an item: both
// pages of the rows, and the tile's columns.
//
// Products go through memory: while the consumers make those of a section, other warps add, token
// by token, those of an earlier one. Three sections have room at a time, so few that they stay in
// L2. A section is [chunks][max_pairs][its rows]; of 128 rows, [2 tiles][4 warps][8 g][2]: rows
// 16 w + g and 16 w + g + 8 of a tile are neighbours, as a thread has them.
#pragma once

#include "cuda/ops/expert_w4a8_prefill.cuh"
#include "cuda/ptx/copy_async.cuh"
#include "cuda/ptx/counter.cuh"
#include "cuda/tile/keep_bits.cuh"
#include "program/operand_ids.h"
#include "program/task.h"

namespace ultraspeed::cuda {

// Warp 8 loads, warp 9 reports, warps 10 and 11 add.
// Registers: 256 * 216 + 128 * 72 are a multiprocessor's.
inline constexpr uint32_t kDownThreads = 384;
inline constexpr uint32_t kDownRegisters = 216;
inline constexpr uint32_t kAddWarps = 2;
// Products that are added at a time: 8 pairs of a token in 128 rows.
inline constexpr uint32_t kAddPairs = 8;
inline constexpr uint32_t kAddBytes = kAddPairs * kDownGroupRows * 4;

struct PrefillDownShared {
  static constexpr uint32_t kStages = 4;
  static constexpr uint32_t kAddDepth = 8;  // of kAddBytes in flight for each warp
  static constexpr uint32_t kAdd = kStages * kPrefillStageBytes;
  static constexpr uint32_t kBytes = kAdd + kAddWarps * kAddDepth * kAddBytes;
  static_assert(kBytes <= kMaxPrefillShared);
};
using DownRing = RingBarriers<PrefillDownShared::kStages>;
using DownPosition = RingPosition<PrefillDownShared::kStages>;

struct PrefillDownShape {
  __device__ PrefillDownShape(const ExpertPrefill& launch, const PrefillDownData& data)
      : section_groups(data.section_groups),
        sections(launch.hidden / kDownGroupRows / section_groups),
        chunks(launch.intermediate / kDownChunkColumns),
        parts(section_groups * chunks),
        num_tiles(*launch.tiles.num_tiles),
        num_tokens(present_tokens(launch)),
        step_tiles(gridDim.x / parts),
        step_parts(gridDim.x % parts) {}

  uint32_t section_groups;  // of 128 rows
  uint32_t sections;
  uint32_t chunks;
  uint32_t parts;  // of a tile in a section: groups of each chunk
  uint32_t num_tiles;
  uint32_t num_tokens;              // of the step
  uint32_t step_tiles, step_parts;  // from an item of a CTA to its next
};

// Walks a CTA's items.
struct DownCursor {
  __device__ DownCursor(const ExpertPrefill& launch, const PrefillDownShape& shape)
      : place(blockIdx.x / shape.parts), part(blockIdx.x % shape.parts) {
    settle(launch, shape);
  }
  __device__ void advance(const ExpertPrefill& launch, const PrefillDownShape& shape) {
    place += shape.step_tiles;
    part += shape.step_parts;
    if (part >= shape.parts) {
      part -= shape.parts;
      ++place;
    }
    settle(launch, shape);
  }

  __device__ bool is_end(const PrefillDownShape& shape) const { return section >= shape.sections; }
  __device__ uint32_t chunk(const PrefillDownShape& shape) const {
    return shape.chunks == 1 ? 0 : part / shape.section_groups;
  }
  __device__ uint32_t group(const PrefillDownShape& shape) const {
    return part - chunk(shape) * shape.section_groups;
  }

  uint32_t section = 0;
  uint32_t place;  // of the tile
  uint32_t part;
  ExpertTile tile;

 private:
  __device__ void settle(const ExpertPrefill& launch, const PrefillDownShape& shape) {
    for (; section < shape.sections && place >= shape.num_tiles; ++section) {
      place -= shape.num_tiles;
    }
    if (section < shape.sections) tile = launch.tiles.tile[place];
  }
};

// Where the products of a pair and a section are.
__device__ __forceinline__ float* pair_products(const ExpertPrefill& launch,
                                                const PrefillDownData& data,
                                                const PrefillDownShape& shape, uint32_t section,
                                                uint32_t chunk, uint32_t pair) {
  const uint64_t row =
      (uint64_t{section % kProductSections} * shape.chunks + chunk) * launch.max_pairs + pair;
  return data.products + row * shape.section_groups * kDownGroupRows;
}

// For one thread.
__device__ inline void load_prefill_down(const ExpertPrefill& launch, const PrefillDownData& data,
                                         const PrefillDownShape& shape, DownRing& ring,
                                         std::byte* shared) {
  const uint64_t policy = ptx::l2_evict_first();
  const uint32_t groups = shape.sections * shape.section_groups;
  DownPosition at;
  DownCursor item(launch, shape);
  for (; !item.is_end(shape); at.advance()) {
    const uint32_t operand_bytes = stage_operand_bytes(item.tile.columns);
    const uint32_t chunk = item.chunk(shape);
    const uint64_t pages = (uint64_t{item.tile.expert} * groups +
                            item.section * shape.section_groups + item.group(shape)) *
                               shape.chunks +
                           chunk;
    const std::byte* operand = data.input +
                               uint64_t{item.tile.first_column} * launch.intermediate / 32 * 36 +
                               uint64_t{chunk} * operand_bytes;
    item.advance(launch, shape);
    std::byte* stage = shared + at.stage * kPrefillStageBytes;
    claim_stage(ring, at, kStageWeightBytes + operand_bytes);
    ptx::bulk_copy(stage, data.weights + pages * kStageWeightBytes, kStageWeightBytes,
                   &ring.full[at.stage], policy);
    ptx::bulk_copy(stage + kStageWeightBytes, operand, operand_bytes, &ring.full[at.stage]);
  }
}

// The warpgroup's tile in a stage.
__device__ __forceinline__ Mxfp4Slab read_down_slab(const std::byte* stage) {
  const std::byte* page = stage + threadIdx.x / 128 * DownPage::kBytes;
  return {page, page + DownPage::kCodeBytes};
}

// products: of the tile's first pair and the item's first row.
template <uint32_t kColumns>
__device__ __forceinline__ void multiply_down_item(uint32_t num_pairs, float* products,
                                                   uint32_t stride, DownRing& ring,
                                                   const DownPosition& at,
                                                   const std::byte* shared) {
  const std::byte* stage = shared + at.stage * kPrefillStageBytes;
  float sums[kColumns / 2] = {};
  ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
  const Mxfp4Slab slab = read_down_slab(stage);
  add_slab<kColumns>(slab, stage + kStageWeightBytes, sums);
  leave_stage(ring, at.stage);

  const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  products += 2 * t * stride + warp * 16 + g * 2;
#pragma unroll
  for (uint32_t i = 0; i < kColumns / 4; ++i) {
    const uint32_t j = i / 2 * 4 + i % 2, column = i / 2 * 8 + i % 2;
    if (column + 2 * t < num_pairs) {
      *reinterpret_cast<float2*>(products + column * stride) = float2{sums[j], sums[j + 2]};
    }
  }
}

// Completes when the consumer warps of this CTA have written their products of a section, one for
// each section that has room: nobody comes to the next use before the last was reported.
struct SectionBarriers {
  uint64_t written[kProductSections];

  // Called by one thread; a CTA barrier and fence_mbarrier_init() follow.
  __device__ void init() {
    for (uint64_t& barrier : written) ptx::mbarrier_init(&barrier, kPrefillConsumerWarps);
  }
};

// What a consumer warp does. The wait for `freed` is the partner of ProductAdder::leave().
__device__ __forceinline__ void multiply_sections(const ExpertPrefill& launch,
                                                  const PrefillDownData& data,
                                                  const PrefillDownShape& shape, DownRing& ring,
                                                  SectionBarriers& barriers,
                                                  const std::byte* shared) {
  const uint32_t stride = shape.section_groups * kDownGroupRows;
  DownPosition at;
  DownCursor item(launch, shape);
  for (uint32_t section = 0; section < shape.sections; ++section) {
    if (section >= kProductSections) {
      ptx::wait_counter(&data.counters[section - kProductSections].freed, kAddWarps * gridDim.x);
    }
    for (; item.section == section; at.advance()) {
      const uint32_t columns = item.tile.columns, num_pairs = item.tile.num_pairs;
      float* products =
          pair_products(launch, data, shape, section, item.chunk(shape), item.tile.first_pair) +
          item.group(shape) * kDownGroupRows;
      item.advance(launch, shape);
      for_columns(columns, [&](auto width) {
        multiply_down_item<width>(num_pairs, products, stride, ring, at, shared);
      });
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&barriers.written[section % kProductSections]);
  }
}

// For one thread: tells the adding warps of all CTAs, which saves the consumers from waiting until
// their writes have arrived. Partner: ProductAdder::is_open().
__device__ inline void report_sections(const PrefillDownData& data, const PrefillDownShape& shape,
                                       SectionBarriers& barriers) {
  for (uint32_t section = 0; section < shape.sections; ++section) {
    ptx::mbarrier_wait(&barriers.written[section % kProductSections],
                       section / kProductSections & 1);
    ptx::add_release(&data.counters[section].written, 1);
  }
}

// Walks what an adding warp does: sections, its tokens, their parts, their pairs by eights.
struct AddCursor {
  __device__ void advance(const ExpertPrefill& launch, const PrefillDownShape& shape,
                          uint32_t first_token, uint32_t step) {
    first_pair += kAddPairs;
    if (first_pair < launch.experts_per_token) return;
    first_pair = 0;
    if (++part < shape.parts) return;
    part = 0;
    token += step;
    if (token < shape.num_tokens) return;
    token = first_token;
    ++section;
  }

  uint32_t token;
  uint32_t section = 0;
  uint32_t part = 0;
  uint32_t first_pair = 0;  // of the token's
};

// Adds the products of a warp's tokens. Lane l has rows g, g + 8, g + 1 and g + 9 of 128; it copies
// and reads its own 16 bytes of each pair.
struct ProductAdder {
  static constexpr uint32_t kDepth = PrefillDownShared::kAddDepth;

  const ExpertPrefill& launch;
  const PrefillDownData& data;
  const PrefillDownShape& shape;
  std::byte* buffer;  // kDepth entries of kAddBytes
  uint32_t first_token, step;
  uint32_t lane = threadIdx.x % 32;
  uint32_t num_open = 0;  // sections whose products may be read

  __device__ float4* entry(uint32_t index) const {
    return reinterpret_cast<float4*>(buffer + index * kAddBytes) + lane;
  }

  // Whether the section's products are all written; waits for them if it must.
  __device__ bool is_open(uint32_t section, bool must_wait) {
    if (section < num_open) return true;
    const uint32_t* written = &data.counters[section].written;
    if (must_wait) {
      ptx::wait_counter(written, gridDim.x);
    } else if (!ptx::has_reached(written, gridDim.x)) {
      return false;
    }
    num_open = section + 1;
    return true;
  }

  // Copies past the L1: other sections lay there before.
  __device__ void start(const AddCursor& at, uint32_t index) const {
    const uint32_t place = at.first_pair + lane % kAddPairs;
    const uint32_t mine =
        place < launch.experts_per_token
            ? launch.tiles.token_pairs[at.token * launch.experts_per_token + place]
            : program::kNoId;
    const uint32_t chunk = shape.chunks == 1 ? 0 : at.part / shape.section_groups;
    const float* products = pair_products(launch, data, shape, at.section, chunk, 0) +
                            (at.part - chunk * shape.section_groups) * kDownGroupRows + lane * 4;
    const uint32_t stride = shape.section_groups * kDownGroupRows;
    const uint32_t to = ptx::smem_address(entry(index));
#pragma unroll
    for (uint32_t i = 0; i < kAddPairs; ++i) {
      const uint32_t pair = __shfl_sync(~0u, mine, i);
      const bool is_pair = pair != program::kNoId;
      ptx::copy_async_16(to + i * (kDownGroupRows * 4),
                         products + uint64_t{is_pair ? pair : 0} * stride, is_pair ? 16 : 0);
    }
    ptx::copy_async_commit();
  }

  __device__ void add(uint32_t index, float4& sum) const {
    const float4* products = entry(index);
#pragma unroll
    for (uint32_t i = 0; i < kAddPairs; ++i) {
      const float4 y = products[i * (kDownGroupRows / 4)];
      sum.x += y.x;
      sum.y += y.y;
      sum.z += y.z;
      sum.w += y.w;
    }
  }

  __device__ void write(const AddCursor& at, const float4& sum) const {
    const uint32_t chunk = shape.chunks == 1 ? 0 : at.part / shape.section_groups;
    const uint32_t group =
        at.section * shape.section_groups + at.part - chunk * shape.section_groups;
    float* out = data.partials +
                 (uint64_t{at.token} * program::kReductionChunks + data.first_chunk + chunk) *
                     launch.hidden +
                 group * kDownGroupRows + lane / 4 * 16 + lane % 4 * 2;
    *reinterpret_cast<float2*>(out) = float2{sum.x, sum.z};
    *reinterpret_cast<float2*>(out + 8) = float2{sum.y, sum.w};
  }

  // The section's products are in registers. Partner: the wait in multiply_sections().
  __device__ void leave(uint32_t section) const {
    __syncwarp();
    if (lane == 0) ptx::add_relaxed(&data.counters[section].freed, 1);
  }

  __device__ void run() {
    AddCursor ahead{first_token}, at{first_token};
    uint32_t started = 0, added = 0;  // entries
    float4 sum = {};
    while (at.section < shape.sections) {
      // At most one section ahead: the products of the next but one may wait for at.section.
      while (started - added < kDepth && ahead.section < shape.sections &&
             ahead.section <= at.section + 1 && is_open(ahead.section, started == added)) {
        start(ahead, started++ % kDepth);
        ahead.advance(launch, shape, first_token, step);
      }
      if (started - added == kDepth) {
        ptx::copy_async_wait<kDepth - 1>();
      } else {
        ptx::copy_async_wait<0>();
      }
      add(added++ % kDepth, sum);
      const AddCursor done = at;
      at.advance(launch, shape, first_token, step);
      if (at.first_pair == 0) {
        write(done, sum);
        sum = {};
      }
      if (at.section != done.section) leave(done.section);
    }
  }
};

// What adding warp `warp` of kAddWarps does.
__device__ __forceinline__ void add_products(const ExpertPrefill& launch,
                                             const PrefillDownData& data,
                                             const PrefillDownShape& shape, uint32_t warp,
                                             std::byte* shared) {
  ProductAdder adder{
      launch,
      data,
      shape,
      shared + PrefillDownShared::kAdd + warp * PrefillDownShared::kAddDepth * kAddBytes,
      blockIdx.x * kAddWarps + warp,
      kAddWarps * gridDim.x};
  if (adder.first_token < shape.num_tokens) return adder.run();
  for (uint32_t section = 0; section < shape.sections; ++section) adder.leave(section);
}

template <ExpertPrefill::Work kWork>
__global__ void __launch_bounds__(kDownThreads, 1)
    prefill_down_kernel(const __grid_constant__ ExpertPrefill launch,
                        const __grid_constant__ PrefillDownData data) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ DownRing ring;
  __shared__ SectionBarriers barriers;
  if (threadIdx.x == 0) {
    ring.init(kPrefillConsumerWarps);
    barriers.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const PrefillDownShape shape(launch, data);
  const uint32_t warp = threadIdx.x / 32;
  if (warp >= kPrefillConsumerWarps) {
    ptx::release_registers<kOtherRegisters>();
    const uint32_t role = warp - kPrefillConsumerWarps, lane = threadIdx.x % 32;
    if (role == 0) {
      if (lane == 0) load_prefill_down(launch, data, shape, ring, shared);
    } else if (kWork == ExpertPrefill::Work::kProducts) {
      if (role > 1) {
        add_products(launch, data, shape, role - 2, shared);
      } else if (lane == 0) {
        report_sections(data, shape, barriers);
      }
    }
  } else {
    ptx::claim_registers<kDownRegisters>();
    if constexpr (kWork == ExpertPrefill::Work::kProducts) {
      multiply_sections(launch, data, shape, ring, barriers, shared);
    } else {
      DownPosition at;
      uint32_t bits = 0;
      const uint32_t num_items = shape.sections * shape.num_tiles * shape.parts;
      for (uint32_t i = blockIdx.x; i < num_items; i += gridDim.x) {
        ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
        bits ^= read_down_slab(shared + at.stage * kPrefillStageBytes).bits();
        leave_stage(ring, at.stage);
        at.advance();
      }
      keep_bits(bits, data.partials);
    }
  }
}

}  // namespace ultraspeed::cuda
