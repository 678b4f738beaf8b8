// Attention of flash_attention.h but for short windows, and its kernel. Warps 0 .. 7 of a CTA are
// two consumer warpgroups of 64 rows each: while one takes exponentials the other's products run.
// Behind them warp 8 loads tiles, warp 9 queries.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_merge.cuh"
#include "cuda/ptx/warpgroup.cuh"
#include "cuda/tile/keep_bits.cuh"

namespace ultraspeed::cuda {

template <class Tile>
struct FlashShared {
  static constexpr uint32_t kQueries = kFlashTerms * Tile::kKeyBytes;  // of a warpgroup
  static constexpr uint32_t kRing = kFlashWarpgroups * kQueries;
  // Dynamic shared memory: 227 KiB a CTA (sm_90) less 4 KiB for the plan and barriers.
  static constexpr uint32_t kStages = (223 * 1024 - kRing) / FlashStep<Tile>::kBytes;
  static constexpr uint32_t kBytes = kRing + kStages * FlashStep<Tile>::kBytes;
};

// The queries of a block: units of the same block that follow each other share them.
struct FlashBlock {
  uint32_t column = program::kNoId, kv_head = 0;  // its first column in the step

  __device__ bool is_none() const { return column == program::kNoId; }
  __device__ bool is_left_for(const FlashUnit& unit) {
    const FlashBlock next = {unit.sequence->first_column + unit.first_column, unit.kv_head};
    const bool is_other = next.column != column || next.kv_head != kv_head;
    *this = next;
    return is_other;
  }
};

// Queries of a block, to [warpgroups][kFlashTerms][64 rows].
template <class Tile>
__device__ void load_queries(const FlashAttention& launch, const FlashShape& shape,
                             const FlashUnit& unit, std::byte* to, RingBarriers<1>& ring,
                             RingPosition<1>& at) {
  const uint32_t bytes = shape.group / 8 * Tile::kKeyStride;
  claim_stage(ring, at, unit.num_columns * kFlashTerms * bytes);
  at.advance();
  for (uint32_t i = 0; i < unit.num_columns; ++i) {
    const uint32_t t = unit.sequence->first_column + unit.first_column + i;
    const uint32_t row = i * shape.group;
    const std::byte* from = launch.query_operands +
                            uint64_t{t * shape.num_kv_heads + unit.kv_head} * kFlashTerms * bytes;
    std::byte* of_column = to + row / kWarpgroupRows * kFlashTerms * Tile::kKeyBytes +
                           row % kWarpgroupRows / 8 * Tile::kKeyStride;
    for (uint32_t term = 0; term < kFlashTerms; ++term) {
      ptx::bulk_copy(of_column + term * Tile::kKeyBytes, from + term * bytes, bytes, &ring.full[0]);
    }
  }
}

// Tile j of a step.
template <class Tile>
__device__ __forceinline__ void load_tile(const std::byte* from, std::byte* step, uint32_t j,
                                          uint64_t* barrier, bool is_read_once) {
  std::byte* keys = step + j * Tile::kKeyBytes;
  std::byte* values = step + FlashStep<Tile>::kValues + j * Tile::kValueBytes;
  if (is_read_once) {
    const uint64_t policy = ptx::l2_evict_first();
    ptx::bulk_copy(keys, from, Tile::kKeyBytes, barrier, policy);
    ptx::bulk_copy(values, from + Tile::kValues, Tile::kValueBytes, barrier, policy);
  } else {
    ptx::bulk_copy(keys, from, Tile::kKeyBytes, barrier);
    ptx::bulk_copy(values, from + Tile::kValues, Tile::kValueBytes, barrier);
  }
}

// For one thread: all queries that this CTA needs.
template <class Tile>
__device__ void load_all_queries(const FlashAttention& launch, const FlashPlan& plan,
                                 std::byte* queries, RingBarriers<1>& ring) {
  const FlashShape shape(launch);
  RingPosition<1> at;
  FlashBlock block;
  for (uint32_t index = blockIdx.x; index < plan.num_units; index += gridDim.x) {
    const FlashUnit unit = plan.unit<FlashStep<Tile>>(launch, index);
    if (unit.begin_step == unit.end_step) continue;
    if (block.is_left_for(unit)) load_queries<Tile>(launch, shape, unit, queries, ring, at);
  }
}

// For one thread: step i of a unit. A tile of it may be behind the sequence's last, or before the
// first of which anything is seen: then that one takes its place, masked.
template <class Tile, uint32_t kStages>
__device__ __forceinline__ void load_step(const FlashAttention& launch, const FlashUnit& unit,
                                          uint32_t i, bool is_read_once, std::byte* stages,
                                          RingBarriers<kStages>& ring,
                                          const RingPosition<kStages>& at) {
  using Step = FlashStep<Tile>;
  const FlashSequence& sequence = *unit.sequence;
  claim_stage(ring, at, Step::kBytes);
#pragma unroll
  for (uint32_t j = 0; j < Step::kTiles; ++j) {
    const uint32_t of_sequence =
        max(min(i * Step::kTiles + j, (sequence.end - 1) / kKvTilePositions), unit.begin_tile);
    const uint64_t tile =
        launch.cache.tile(sequence.sequence, sequence.pages, unit.kv_head, of_sequence);
    load_tile<Tile>(launch.cache.tiles + tile * Tile::kBytes, stages + at.stage * Step::kBytes, j,
                    &ring.full[at.stage], is_read_once);
  }
}

// For one thread: the steps of all units that this CTA has, one behind the other.
template <class Tile>
class StepLoads {
 public:
  __device__ void begin(const FlashAttention& launch, const FlashPlan& plan) {
    index_ = blockIdx.x - gridDim.x;
    next_unit(launch, plan);
  }

  __device__ bool is_done(const FlashPlan& plan) const { return index_ >= plan.num_units; }
  // Whether steps before this one have written all of the next step to load. REQUIRES: there is
  // one.
  __device__ bool is_old() const {
    return (step_ + 1) * FlashStep<Tile>::kPositions <= unit_.sequence->position;
  }

  template <uint32_t kStages>
  __device__ void load(const FlashAttention& launch, const FlashPlan& plan, std::byte* stages,
                       RingBarriers<kStages>& ring, RingPosition<kStages>& at) {
    const bool is_read_once = FlashShape(launch).blocks(unit_.sequence->num_columns) == 1;
    load_step<Tile>(launch, unit_, step_, is_read_once, stages, ring, at);
    at.advance();
    if (++step_ == unit_.end_step) next_unit(launch, plan);
  }

 private:
  // The next one that has steps.
  __device__ void next_unit(const FlashAttention& launch, const FlashPlan& plan) {
    for (;;) {
      index_ += gridDim.x;
      if (is_done(plan)) return;
      unit_ = plan.unit<FlashStep<Tile>>(launch, index_);
      step_ = unit_.begin_step;
      if (step_ < unit_.end_step) return;
    }
  }

  uint32_t index_;
  FlashUnit unit_;
  uint32_t step_;
};

// What a thread's rows see of a unit, and where they begin.
template <class Tile>
__device__ void start_rows(const FlashAttention& launch, const FlashRows& rows,
                           FlashResult<Tile>& result) {
  const uint32_t first = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
  const uint32_t warpgroup = threadIdx.x / 128;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = warpgroup * kWarpgroupRows + first + 8 * i;
    FlashRow& of = result.rows[i];
    of = {minus_infinity(), 0, 1, 0, 0};
    if (!rows.has(row)) continue;
    of.scale = launch.query_scales[rows.head(row)] * launch.cache.scale(rows.unit.kv_head).key;
    const FlashRange range = rows.unit.sequence->visible(launch, rows.column(row));
    of.begin = range.begin;
    of.end = range.end;
  }
#pragma unroll
  for (float& sum : result.sums) sum = 0;
}

template <class Tile>
__device__ void write_rows(const FlashAttention& launch, const FlashRows& rows, uint32_t index,
                           FlashResult<Tile>& result) {
  const float value_scale = launch.cache.scale(rows.unit.kv_head).value;
  const uint32_t t = threadIdx.x % 4;
  const uint32_t warpgroup = threadIdx.x / 128;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row =
        warpgroup * kWarpgroupRows + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4 + 8 * i;
    float l = quad_sum(result.rows[i].l);
    if (!rows.has(row)) continue;
    const bool is_whole = launch.window != 0;
    if (is_whole && launch.sinks != nullptr) {
      l = with_sink<Tile>(l, result.rows[i].m, launch.sinks[rows.head(row) % launch.num_q_heads]);
    }
    const uint64_t of = is_whole ? rows.head(row) : uint64_t{index} * kFlashRows + row;
    const uint32_t size = is_whole ? launch.cache.v_head_dim : Tile::kValueDim;
    float* to = (is_whole ? launch.output : launch.partials.sums) + of * size;
    const float factor = !is_whole ? value_scale : l == 0 ? 0.0F : value_scale / l;
#pragma unroll
    for (uint32_t j = 0; j < Tile::kValueDim / 8; ++j) {
      if (8 * j >= size) continue;
      *reinterpret_cast<float2*>(to + 8 * j + 2 * t) = {result.sums[4 * j + 2 * i] * factor,
                                                        result.sums[4 * j + 2 * i + 1] * factor};
    }
    if (!is_whole && t == 0) launch.partials.states[of] = {result.rows[i].m, l};
  }
}

// Reads a unit's steps as products would and drops them.
template <class Tile, uint32_t kStages>
__device__ uint32_t drain_unit(const FlashUnit& unit, const std::byte* stages,
                               RingBarriers<kStages>& ring, RingPosition<kStages>& at) {
  uint32_t bits = 0;
  constexpr uint32_t kBytes = FlashStep<Tile>::kBytes;
  for (uint32_t i = unit.begin_step; i < unit.end_step; ++i, at.advance()) {
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const auto* words = reinterpret_cast<const uint4*>(stages + at.stage * kBytes);
    for (uint32_t j = threadIdx.x; j < kBytes / 16; j += kFlashConsumers) bits ^= words[j].x;
    leave_stage(ring, at.stage);
  }
  return bits;
}

// For all consumers: waits until those of all CTAs are here, and makes their writes visible.
// aborted: a word that ends the wait; nullptr: none does.
__device__ __forceinline__ void meet_all_ctas(uint32_t* arrivals, const uint32_t* aborted) {
  ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
  if (threadIdx.x == 0) {
    ptx::fetch_add(&arrivals[0], 1);
    constexpr uint32_t kPolls = 64;
    for (uint32_t i = 1; ptx::load_acquire(&arrivals[0]) < gridDim.x; ++i) {
      if (aborted != nullptr && i % kPolls == 0 && ptx::load_acquire(aborted) != 0) break;
    }
    if (ptx::fetch_add(&arrivals[1], 1) == gridDim.x - 1) {  // nobody looks any more
      arrivals[0] = 0;
      arrivals[1] = 0;
    }
  }
  ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
}

// Where consumers are in both rings: at the next block's queries, and the next step.
template <class Tile>
struct FlashPlaces {
  RingPosition<1> query_at;
  RingPosition<FlashShared<Tile>::kStages> at;
};

// Other warps than consumers load.
struct OthersLoad {
  __device__ void begin_block(const FlashUnit&) const {}
  __device__ void end_step() const {}
  __device__ const uint32_t* aborted() const { return nullptr; }
};

// For all consumers. loads: is told of a unit whose block has other queries, and behind each step;
// knows what ends waits.
template <class Tile, FlashAttention::Work kWork, class Loads>
__device__ __forceinline__ void consume(const FlashAttention& launch, const FlashPlan& plan,
                                        std::byte* shared, RingBarriers<1>& query_ring,
                                        RingBarriers<FlashShared<Tile>::kStages>& ring,
                                        FlashPlaces<Tile>& places, const Loads& loads) {
  using Shared = FlashShared<Tile>;
  const FlashShape shape(launch);
  const uint32_t warpgroup = threadIdx.x / 128;
  std::byte* queries = shared + warpgroup * Shared::kQueries;
  std::byte* stages = shared + Shared::kRing;
  auto& [query_at, at] = places;
  FlashBlock block;
  const FlashTurns turns{warpgroup};
  turns.begin();
  uint32_t bits = 0;
  const uint32_t num_units = uniform(plan.num_units);
  for (uint32_t index = blockIdx.x; index < num_units; index += gridDim.x) {
    const FlashUnit unit = plan.unit<FlashStep<Tile>>(launch, index);
    if constexpr (kWork == FlashAttention::Work::kDrain) {
      bits ^= drain_unit<Tile, Shared::kStages>(unit, stages, ring, at);
      continue;
    }
    if (unit.begin_step == unit.end_step) continue;
    const FlashRows rows(shape, unit);
    FlashResult<Tile> result;
    start_rows<Tile>(launch, rows, result);
    const bool has_queries = !block.is_none();
    if (block.is_left_for(unit)) {
      if (has_queries) leave_stage(query_ring, 0);
      loads.begin_block(unit);
      ptx::mbarrier_wait(&query_ring.full[0], query_at.parity);
      query_at.advance();
    }
    const FlashRange seen_by_all = {
        unit.sequence->visible(launch, unit.first_column + unit.num_columns - 1).begin,
        unit.sequence->visible(launch, unit.first_column).end};
    attend<Tile, Shared::kStages>(unit, queries, stages, ring, at, turns, result, seen_by_all,
                                  [&] { loads.end_step(); });
    write_rows<Tile>(launch, rows, index, result);
  }
  if (!block.is_none()) leave_stage(query_ring, 0);
  turns.end();
  if constexpr (kWork == FlashAttention::Work::kDrain) {
    keep_bits(bits, launch.output);
  } else if (kWork == FlashAttention::Work::kAttention && launch.window == 0) {
    meet_all_ctas(launch.partials.arrivals, loads.aborted());
    FlashMerge<Tile>(launch, plan, stages).run();
  }
}

template <class Tile, FlashAttention::Work kWork>
__global__ void __launch_bounds__(kFlashThreads, 1)
    flash_attention_kernel(const __grid_constant__ FlashAttention launch) {
  using Shared = FlashShared<Tile>;
  constexpr bool kIsDrain = kWork == FlashAttention::Work::kDrain;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ FlashPlan plan;
  __shared__ RingBarriers<Shared::kStages> ring;
  __shared__ RingBarriers<1> query_ring;
  if (threadIdx.x == 0) {
    ring.init(kFlashConsumers / 32);
    query_ring.init(kFlashConsumers / 32);
    ptx::fence_mbarrier_init();
  }
  __syncwarp();
  ptx::launch_dependents();
  ptx::wait_for_grids();
  if (threadIdx.x >= kFlashConsumers && threadIdx.x < kFlashConsumers + 32) plan.make(launch);
  __syncthreads();
  if (threadIdx.x < kFlashConsumers) {
    ptx::claim_registers<232>();
    FlashPlaces<Tile> places;
    consume<Tile, kWork>(launch, plan, shared, query_ring, ring, places, OthersLoad());
  } else {
    ptx::release_registers<40>();
    if (threadIdx.x == kFlashConsumers) {
      RingPosition<Shared::kStages> at;
      StepLoads<Tile> steps;
      for (steps.begin(launch, plan); !steps.is_done(plan);) {
        steps.load(launch, plan, shared + Shared::kRing, ring, at);
      }
    } else if (threadIdx.x == kFlashConsumers + 32 && !kIsDrain) {
      load_all_queries<Tile>(launch, plan, shared, query_ring);
    }
  }
}

}  // namespace ultraspeed::cuda
