// What a resident kernel of tiles (phase_kernel.h) runs: phases, one after the other, each what a
// launch of the graph executor does, with the same data. All CTAs walk all phases; of most, only
// some take part.
//
// A CTA that has done its part of a phase counts itself at the phase's counter; who needs what the
// phase wrote waits for as many. Counters only grow: step n of a program waits for n times as many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/ops/dense.h"
#include "cuda/ops/dense_columns.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/ops/stage.h"
#include "cuda/resident/resident.h"

namespace ultraspeed::cuda {

// What the kernel takes.
inline constexpr uint32_t kPhaseColumns = 8;       // of a step, at most
inline constexpr uint32_t kPhaseExperts = 384;     // of a router, at most
inline constexpr uint32_t kPhaseUnitWarps = 8;     // of a unit: kTaskWarps
inline constexpr uint32_t kPhaseWindowHeads = 16;  // of a window's unit: kWindowRows
inline constexpr uint32_t kRowParts = 4;           // of a column: the units of RowsPhase
inline constexpr uint32_t kRowMultiple = 512;      // divides a row of RowsPhase

enum class PhaseKind : uint32_t {
  // By consumer warps, unit by unit.
  kDenseColumns,
  kRows,
  kStoreKv,
  kStoreQueries,
  kWindow,
  kStage,
  // From pages that the loader streams.
  kDenseStore,
  kDensePartials,
  kDenseSwiglu,
  kDenseQkv,
  kGateUp,
  kDown,
  kF32Product,
};

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
// is made of them. A unit is a part of a column, [kPhaseColumns, kRowParts]; each has the whole row
// in shared memory.
struct RowsPhase {
  const float* rows = nullptr;  // [num_rows, size]
  uint32_t num_rows = 0, size = 0;
  // Elements [first_sum, end_sum) of a row are not there yet, but residual + partials in order:
  // they go to the rows of all ranks, rows_offset floats into their arenas.
  uint32_t first_sum = 0, end_sum = 0;
  const float* residual = nullptr;  // [num_rows, size]
  const float* partials = nullptr;  // [num_rows, kReductionChunks, size]
  uint64_t rows_offset = 0;
  const float* norm_weight = nullptr;  // [size]; nullptr: no RMSNorm
  float norm_epsilon = 0;
  // What is wanted; nullptr: not that.
  std::byte* dense_operand = nullptr;  // DensePrepare::operand, for weights of dense_format
  tensor::WeightFormat dense_format = tensor::WeightFormat::kFp8Block128;
  std::byte* expert_operand = nullptr;  // QuantizeData::output
  float* copy = nullptr;                // [num_rows, size]

  bool is_made() const {
    return dense_operand != nullptr || expert_operand != nullptr || copy != nullptr;
  }
};
// Short windows, and the operand that the product behind them takes; nullptr: none.
struct WindowPhase {
  FlashAttention attention;
  std::byte* dense_operand = nullptr;
  tensor::WeightFormat dense_format = tensor::WeightFormat::kFp8Block128;
};
// A general operation: unit i is task i.
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
  uint32_t num_units = 0;      // of consumer warps' phases: unit i is CTA i's, modulo arrivals
  uint32_t arrivals = 0;       // CTAs that take part, the first ones
  uint32_t scratch_slots = 0;  // of the page ring, neighbouring, that a unit works in
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

// A kernel parameter.
struct PhaseProgram {
  MachineView machine;
  const StepView* step = nullptr;  // device
  const Phase* phases = nullptr;   // device
  uint32_t num_phases = 0;
  uint32_t* counters = nullptr;  // device, [num_phases, kPhaseWays, kPhaseWayWords], zeros at first
  uint32_t first_epoch = 1;      // of this launch's first step; steps before it have counted
  uint32_t num_steps = 1;
  PhaseTime* times = nullptr;  // device, [num_phases, CTAs], of the last step; nullptr: nobody asks
};

}  // namespace ultraspeed::cuda
