// What a machine is loaded for.
#pragma once

#include <cstdint>
#include <optional>

#include "program/arithmetic.h"
#include "program/program.h"

namespace ultraspeed::cuda {

struct MachineOptions {
  program::Activations activations = program::Activations::kF32;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
  // The memory and tasks of this rank alone, to measure what it would do: what it pushes to others
  // lands in its own memory. Unset: all ranks.
  std::optional<uint32_t> only_rank = {};
  // With only_rank: how long after this rank's share of a sum those of the others arrive.
  uint32_t peer_delay_ns = 0;

  // It holds one rank's memory, so that nothing has to be pushed.
  bool is_single(const program::Program& program) const {
    return program.num_ranks == 1 || only_rank.has_value();
  }
};

}  // namespace ultraspeed::cuda
