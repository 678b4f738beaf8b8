// The one list of operations a task can name. Operand structs (operands.h), the executors'
// dispatch, the printer and the twin check expand it; docs/program.md describes each.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ultraspeed::program {

// In execution order of a decode step; a draft part before it ends in Propose, with a selector
// behind Nominate, and so does each MTP head after it, which begins with Follow. Operations that
// write to other ranks (tensor parallel): Embed, Reduce, Propose and Follow broadcast, OutProj and
// ExpertDown push partial sums to the owner of the output rows, Linear sends logits to rank 0 and
// what a drafter goes on with to all.
#define US_OPCODES(X) \
  X(Embed)            \
  X(QkvProj)          \
  X(Attention)        \
  X(AttentionMerge)   \
  X(OutProj)          \
  X(Reduce)           \
  X(GateUp)           \
  X(Linear)           \
  X(Route)            \
  X(ExpertGateUp)     \
  X(ExpertDown)       \
  X(Sample)           \
  X(Nominate)         \
  X(Propose)          \
  X(Accept)           \
  X(Follow)

enum class Opcode : uint8_t {
#define US_ENUMERATOR(name) k##name,
  US_OPCODES(US_ENUMERATOR)
#undef US_ENUMERATOR
};

inline constexpr std::array kOpcodeNames = {
#define US_NAME(name) std::string_view(#name),
    US_OPCODES(US_NAME)
#undef US_NAME
};

inline constexpr uint32_t kNumOpcodes = static_cast<uint32_t>(kOpcodeNames.size());

constexpr std::string_view opcode_name(Opcode opcode) {
  return kOpcodeNames[static_cast<uint32_t>(opcode)];
}

}  // namespace ultraspeed::program
