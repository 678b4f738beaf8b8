// A task: the unit a worker executes. 64 bytes of plain data, ids and offsets instead of pointers,
// shared by every executor. What an opcode does with its tile stands in operands.h.
#pragma once

#include <cstdint>

#include "program/opcode.h"

namespace ultraspeed::program {

inline constexpr uint32_t kNoId = 0xffffffffu;
inline constexpr uint16_t kNoLayer = 0xffffu;

// Granularity of the packed weight arena; a tile's rows, codes and scales together, fill whole
// blocks, which are contiguous, so that any piece of a tile is one bulk copy.
inline constexpr uint32_t kWeightBlockBytes = 512;

enum class WaitKind : uint8_t {
  kNone,
  kCounter,  // until counter[id] has received `need` increments in this epoch
  kSlot,     // before unit `slot` of the task: until the `need` flags from id + slot * need on
             // hold this epoch, so that a loop over live experts needs no fixed count
};

struct Wait {
  uint32_t id = kNoId;
  uint16_t need = 0;
  WaitKind kind = WaitKind::kNone;
  uint8_t reserved = 0;
};

enum class SignalKind : uint8_t {
  kNone,
  kCounter,  // adds 1 to counter[id] of the scope's ranks when the task is done
  kSlot,     // after unit u: flag[id + u] of this rank takes the epoch
};

enum class SignalScope : uint8_t {
  kLocal,     // this rank
  kOneRank,   // `rank`
  kAllRanks,  // every rank, this one included
};

struct Signal {
  uint32_t id = kNoId;
  SignalKind kind = SignalKind::kNone;
  SignalScope scope = SignalScope::kLocal;
  uint16_t rank = 0;
};

struct alignas(64) Task {
  Opcode opcode = Opcode::kEmbed;
  uint8_t reserved = 0;
  uint16_t layer = kNoLayer;  // for reports; the operands say everything that matters
  uint32_t stage = 0;         // index into Program::stages, which holds the operands

  Wait waits[2];
  Signal signal;

  // Tile: rows [row_begin, row_begin + row_count) of the stage's output axis (operands.h says
  // which axis); part distinguishes tiles that share rows (a head's part, an attention split) and
  // is the stride of a loop over units.
  uint32_t row_begin = 0;
  uint32_t row_count = 0;
  uint32_t part = 0;

  // Blocks (kWeightBlockBytes) of the packed weight arena that the tile streams; {kNoId, 0} without
  // weights. For a loop over experts: of one unit, in the layer's first expert.
  uint32_t first_block = kNoId;
  uint32_t block_count = 0;

  uint32_t padding = 0;

  bool operator==(const Task& other) const;
};

static_assert(sizeof(Task) == 64);

inline bool operator==(const Wait& a, const Wait& b) {
  return a.id == b.id && a.need == b.need && a.kind == b.kind;
}
inline bool operator==(const Signal& a, const Signal& b) {
  return a.id == b.id && a.kind == b.kind && a.scope == b.scope && a.rank == b.rank;
}
inline bool Task::operator==(const Task& other) const {
  return opcode == other.opcode && layer == other.layer && stage == other.stage &&
         waits[0] == other.waits[0] && waits[1] == other.waits[1] && signal == other.signal &&
         row_begin == other.row_begin && row_count == other.row_count && part == other.part &&
         first_block == other.first_block && block_count == other.block_count;
}

}  // namespace ultraspeed::program
