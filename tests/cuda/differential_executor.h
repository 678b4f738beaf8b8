// Runs a program on the CPU and on the GPU at once, stage by stage: before each stage the GPU gets
// the CPU's activations and KV caches, after it both must hold the same. So an operation is
// compared on its own, whatever came before it. Caches of tiles are filled and read as rows; their
// attention is compared with binary64.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/opcode.h"

namespace ultraspeed::test {

// What the stages of one opcode came to, added up over steps.
struct Difference {
  uint64_t num_stages = 0;
  uint64_t num_paged = 0;       // stages whose weight has pages
  uint64_t num_words = 0;       // of outputs
  uint64_t num_equal = 0;       // bit by bit
  double largest_relative = 0;  // |difference| / the largest |value| of the buffer, or cache
};

// Of rounded caches, which may have another code where a value lies between two; and of tiles.
struct CacheDifference {
  uint64_t num_codes = 0, num_other_codes = 0;  // next to the processor's
  uint64_t num_tile_stages = 0;                 // that wrote tiles, or attended to them
  double worst_of_bound = 0;  // of attention to tiles, |error| as a share of section 9's bound
};

struct DifferenceReport {
  std::array<Difference, program::kNumOpcodes> by_opcode;
  CacheDifference caches;
  std::vector<std::string> failures;  // a NaN on one side, a word that no output owns, other ids

  std::string table() const;
};

// Both in one mode. `report` outlives the executor, whose outputs are the CPU's.
std::unique_ptr<program::Executor> make_differential_executor(
    DifferenceReport* report, program::Activations activations = program::Activations::kF32,
    program::KvCacheType kv_cache = program::KvCacheType::kF32);

}  // namespace ultraspeed::test
