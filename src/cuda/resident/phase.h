// What the resident kernels of tiles (phase_kernel.h) run: phases, one after the other, each what a
// launch of the graph executor does, with the same data. Clusters of CTAs stream the pages of
// weights. What has no pages are units of single CTAs, which stand on the multiprocessors that
// clusters leave over: some for what stands between products in every layer, whose instructions
// stay in their caches, others for all that takes more registers or code. All CTAs of a group walk
// all phases of their group; of most, only some take part.
//
// A CTA that has done its part of a phase counts itself at the phase's counter; who needs what the
// phase wrote waits for as many. Counters only grow: step n of a program waits for n times as many.
// Steps come and go through the mailbox of resident.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/ops/dense.h"
#include "cuda/ops/dense_columns.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/ops/joined_rows.h"
#include "cuda/ops/round_cache.h"
#include "cuda/ops/round_rows.h"
#include "cuda/ops/stage.h"
#include "cuda/resident/resident.h"

namespace ultraspeed::cuda {

// What the kernels take.
inline constexpr uint32_t kPhaseColumns = 8;       // of a step, at most
inline constexpr uint32_t kPhaseExperts = 384;     // of a router, at most
inline constexpr uint32_t kPhaseUnitWarps = 8;     // of a unit: kTaskWarps
inline constexpr uint32_t kPhaseWindowHeads = 16;  // of a window's unit: kWindowRows
inline constexpr uint32_t kThreadFloats = 4;       // divides a row of RowsPhase: a thread's

enum class PhaseKind : uint32_t {
  // Units.
  kDenseColumns,
  kRows,
  kStoreKv,
  kStoreQueries,
  kRoundRows,
  kRoundCache,
  kWindow,
  kRoute,
  // Units that take all registers, or much code.
  kAttention,
  kStage,
  kLongRow,  // an operand of rows that units have no room for
  kJoinedRows,
  kHeadRows,
  // From pages.
  kDenseStore,
  kDensePartials,
  kDenseSwiglu,
  kDenseQkv,
  kGateUp,
  kDown,
  kF32Product,
};

// Which kernel runs a phase. Their CTAs are numbered in this order.
enum class PhaseGroup : uint32_t { kStreamed, kUnits, kStages };
inline constexpr uint32_t kPhaseGroups = 3;

constexpr PhaseGroup group_of(PhaseKind kind) {
  if (kind >= PhaseKind::kDenseStore) return PhaseGroup::kStreamed;
  return kind >= PhaseKind::kAttention ? PhaseGroup::kStages : PhaseGroup::kUnits;
}

// Payloads of more than one part.
template <class Epilogue>
struct DensePhase {
  DenseLaunch launch;
  Epilogue epilogue;
};
template <class Data>
struct ExpertPhase {
  ExpertLaunch launch;
  Data data;
};
// Rows on their way to operands of products: what of them this rank adds up, their norm, and what
// is made of them. A unit is a column of kPhaseColumns.
struct RowsPhase {
  const float* rows = nullptr;  // [num_rows, size]
  uint32_t num_rows = 0, size = 0;
  // Elements [first_sum, end_sum) of a row are not there yet, but residual + (partials in order +
  // bias): they go to the rows of all ranks, rows_offset floats into their arenas.
  uint32_t first_sum = 0, end_sum = 0;
  const float* residual = nullptr;  // [num_rows, size]
  const float* partials = nullptr;  // [num_rows, kReductionChunks, size]
  const float* bias = nullptr;      // [size]; nullptr: none
  uint64_t rows_offset = 0;
  const float* norm_weight = nullptr;  // [size]; nullptr: no RMSNorm
  float norm_epsilon = 0;
  // What is wanted; nullptr: not that.
  std::byte* dense_operand = nullptr;  // DensePrepare::operand, for weights of dense_format
  tensor::WeightFormat dense_format = tensor::WeightFormat::kFp8Block128;
  uint32_t dense_chunks = 1;            // DensePrepare::num_chunks
  bool fills_up = false;                // pages of the dense operand (PagedRow)
  uint32_t expert_columns = 0;          // of the experts' operand, filled up: gate_up_columns()
  std::byte* expert_operand = nullptr;  // QuantizeData::output
  float* copy = nullptr;                // [num_rows, size]

  bool is_made() const {
    return dense_operand != nullptr || expert_operand != nullptr || copy != nullptr;
  }
};
// The rounding of what a stage appended to a cache; a unit is kTaskWarps heads, a warp each.
struct CacheRoundingPhase {
  program::QkvProjOperands operands;
  CacheRounding rounding;
  const RankTask* tasks = nullptr;  // device
  const uint64_t* buffer_offsets = nullptr;
};
// Short windows, and the operand that the product behind them takes; nullptr: none.
struct WindowPhase {
  FlashAttention attention;
  std::byte* dense_operand = nullptr;
  tensor::WeightFormat dense_format = tensor::WeightFormat::kFp8Block128;
};
// A general operation, or Route: unit i is task i.
struct StagePhase {
  StageOperands operands;
  const RankTask* tasks = nullptr;  // device
  const uint64_t* buffer_offsets = nullptr;
};

inline constexpr uint32_t kNoPhase = ~0u;

// A phase that others wait for, and how many CTAs count themselves there in a step.
struct PhaseWait {
  uint32_t phase = kNoPhase;
  uint32_t arrivals = 0;
  uint32_t steps_back = 0;  // 1: of the step before
};

struct alignas(16) Phase {
  static constexpr size_t kPayloadBytes = 448;

  template <class T>
  __host__ __device__ const T& as() const {
    static_assert(sizeof(T) <= kPayloadBytes && alignof(T) <= 16);
    return *reinterpret_cast<const T*>(payload);
  }

  PhaseKind kind = PhaseKind::kStage;
  uint32_t index = 0;      // of its counter
  uint32_t num_units = 0;  // of phases of units: unit i is CTA i's, modulo arrivals
  uint32_t arrivals = 0;   // CTAs of its group that take part, the first ones
  PhaseWait wait;
  alignas(16) std::byte payload[kPayloadBytes] = {};
};
static_assert(sizeof(Phase) % 16 == 0);

// Lines of memory among which a phase's counter is divided: CTAs that arrive at the same time
// would wait for each other at one.
inline constexpr uint32_t kPhaseWays = 4;
inline constexpr uint32_t kPhaseWayWords = 32;
inline constexpr uint32_t kPhaseCounterWords = kPhaseWays * kPhaseWayWords;

// When a CTA that takes part in a phase had what the phase needs, and counted itself: nanoseconds
// of the device's clock.
struct PhaseTime {
  uint64_t begin = 0, end = 0;
};

// Phases of a group, ascending.
struct PhaseList {
  const Phase* phases = nullptr;  // device
  uint32_t count = 0;
};

// A program's phases, on the device.
struct PhaseProgram {
  PhaseList lists[kPhaseGroups];
  uint32_t* counters = nullptr;  // [phases of all groups, kPhaseWays, kPhaseWayWords]
  PhaseWait last;                // what ends a step
  // [phases of all groups, CTAs], of the last step; nullptr: nobody asks.
  PhaseTime* times = nullptr;
};

// What a CTA waited for when a step was aborted.
struct PhaseFault {
  uint32_t is_set = 0;
  uint32_t phase = 0;           // that it waited for, of the program
  uint32_t need = 0, have = 0;  // arrivals of this step
};

// A kernel parameter, of all three.
struct ResidentPhases {
  MachineView machine;
  const PhaseProgram* programs = nullptr;  // device
  const StepView* step = nullptr;          // device
  Mailbox* mailbox = nullptr;              // pinned
  Board* board = nullptr;                  // device, zero at the launch
  PhaseFault* faults = nullptr;            // device, [CTAs], zero at the launch
  uint32_t first_number = 0;               // of the first command after the launch
  uint32_t num_ctas = 0;                   // of all kernels
  uint32_t num_stage_ctas = 0;             // of PhaseGroup::kStages
  uint64_t deadline_ns = 0;                // of every wait for a phase
  // In pinned memory of the host: 1 as soon as all CTAs that stream have their multiprocessors.
  uint32_t* has_started = nullptr;
  uint32_t* num_started = nullptr;  // device, 0 before a launch
};

}  // namespace ultraspeed::cuda
