// Full attention by CTAs that stay: their threads are the consumers of ops/flash_attention.cuh, the
// first of them loads, too. All CTAs of PhaseGroup::kStages take part.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/flash_attention.cuh"
#include "cuda/resident/phase.h"
#include "cuda/resident/unit_cta.cuh"

namespace ultraspeed::cuda {

static_assert(kFlashConsumers == kTaskThreads && kConsumerBarrier == kTaskBarrier);

// Both rings for tiles of a form, and how far those that load and those that consume are in them
// between two phases: in static shared memory, as registers are short.
template <KvFormat kFormat>
struct AttentionRings {
  using Tile = PhaseTile<kFormat>;
  RingBarriers<FlashShared<Tile>::kStages> steps;
  RingBarriers<1> queries;
  FlashPlaces<Tile> consumed, loaded;
  StepLoads<Tile> loads;
  uint32_t num_ahead;  // steps that have been asked for before the first is consumed

  // By one thread.
  __device__ void init() {
    steps.init(kFlashConsumers / kWarpThreads);
    queries.init(kFlashConsumers / kWarpThreads);
    consumed = loaded = {};
  }
};

// What units depend on, beside the step.
struct AttentionShape {
  uint32_t num_q_heads = 0, num_kv_heads = 0, window = 0, chunk_positions = 0;

  __device__ explicit AttentionShape(const FlashAttention& launch)
      : num_q_heads(launch.num_q_heads),
        num_kv_heads(launch.cache.num_kv_heads),
        window(launch.window),
        chunk_positions(launch.chunk_positions) {}
  __device__ bool operator==(const AttentionShape& other) const {
    return num_q_heads == other.num_q_heads && num_kv_heads == other.num_kv_heads &&
           window == other.window && chunk_positions == other.chunk_positions;
  }
};

struct AttentionShared {
  FlashPlan plan;
  AttentionRings<KvFormat::kE4m3> e4m3;
  AttentionRings<KvFormat::kBf16> bf16;

  template <KvFormat kFormat>
  __device__ AttentionRings<kFormat>& rings() {
    if constexpr (kFormat == KvFormat::kE4m3) {
      return e4m3;
    } else {
      return bf16;
    }
  }

  // By one thread.
  __device__ void init() {
    e4m3.init();
    bf16.init();
  }
};

// The loads of a CTA, by its first thread: steps as far ahead as the ring has room for, but for
// one, which the other warpgroup may still read.
template <KvFormat kFormat>
struct OwnLoads {
  using Tile = PhaseTile<kFormat>;

  __device__ void begin() const {
    if (threadIdx.x != 0) return;
    rings.loads.begin(launch, plan);
    rings.num_ahead = 0;
  }
  // The first steps. has_waited: for the phases that write what is new in them.
  __device__ void load_ahead(bool has_waited) const {
    if (threadIdx.x != 0) return;
    while (rings.num_ahead + 1 < FlashShared<Tile>::kStages && !rings.loads.is_done(plan) &&
           (has_waited || rings.loads.is_old())) {
      ++rings.num_ahead;
      end_step();
    }
  }
  __device__ void begin_block(const FlashUnit& unit) const {
    if (threadIdx.x != 0) return;
    load_queries<Tile>(launch, FlashShape(launch), unit, scratch, rings.queries,
                       rings.loaded.query_at);
  }
  __device__ void end_step() const {
    if (threadIdx.x != 0 || rings.loads.is_done(plan)) return;
    rings.loads.load(launch, plan, scratch + FlashShared<Tile>::kRing, rings.steps,
                     rings.loaded.at);
  }

  __device__ const uint32_t* aborted() const { return aborted_word; }

  const FlashAttention& launch;
  const FlashPlan& plan;
  AttentionRings<kFormat>& rings;
  std::byte* scratch;
  const uint32_t* aborted_word;
};

// For all threads of a task, when shared.plan is made. await(): for the phases in front, of which
// tiles that earlier steps have filled need nothing. aborted: a word that ends waits. scratch:
// FlashShared::kBytes.
template <KvFormat kFormat, class Await>
__device__ __forceinline__ void attend_to_all(const FlashAttention& launch, AttentionShared& shared,
                                              std::byte* scratch, const uint32_t* aborted,
                                              const Await& await) {
  auto& rings = shared.rings<kFormat>();
  FlashPlaces<PhaseTile<kFormat>> places = rings.consumed;
  const OwnLoads<kFormat> loads = {launch, shared.plan, rings, scratch, aborted};
  loads.begin();
  loads.load_ahead(false);
  await();
  loads.load_ahead(true);
  consume<PhaseTile<kFormat>, FlashAttention::Work::kAttention>(
      launch, shared.plan, scratch, rings.queries, rings.steps, places, loads);
  task_barrier();
  if (threadIdx.x == 0) rings.consumed = places;
}

}  // namespace ultraspeed::cuda
