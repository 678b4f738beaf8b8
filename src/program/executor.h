// The interface between the engine and whatever runs programs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "program/program.h"
#include "program/step.h"

namespace ultraspeed::program {

// What the planner must know of the machine that will run the program.
struct DeviceLimits {
  std::string name;
  uint32_t num_workers = 1;        // CPU threads, or CTAs
  uint32_t weight_page_bytes = 0;  // a worker streams weights through a ring of such pages
  uint32_t ring_pages = 0;
  uint64_t memory_bytes = 0;    // of one rank; 0: unknown
  double memory_bandwidth = 0;  // bytes per second of one rank; 0: unknown
};

// Room for keys and values, fixed when an executor loads its programs.
struct CacheLimits {
  uint32_t num_sequences = 1;  // rings
  uint32_t num_kv_pages = 0;   // pages shared by all sequences, per full-attention layer
};

// Positions that a cache has room for: rings of all sequences, or all pages.
inline uint64_t cache_positions(const Program& program, const CacheDecl& cache,
                                const CacheLimits& limits) {
  return cache.ring_positions != 0 ? uint64_t{limits.num_sequences} * cache.ring_positions
                                   : uint64_t{limits.num_kv_pages} * program.kv_page_positions;
}

// Rows of the caches to copy, on every rank and in every layer that has them.
struct CacheCopy {
  uint32_t from_sequence = 0, to_sequence = 0;           // the rings
  std::span<const std::pair<uint32_t, uint32_t>> pages;  // from, to
  // Of each ring what is wanted: the positions that it holds before `ring_end`, but for the
  // `ring_skipped` oldest. An executor may copy all of it.
  uint32_t ring_end = std::numeric_limits<uint32_t>::max();
  uint32_t ring_skipped = 0;
};

// Fills `out` with matrix `index` of a weight of a rank, in its packed form
// (docs/weights_format.md).
using WeightReader =
    std::function<Status(uint32_t rank, WeightId weight, uint32_t index, std::span<std::byte> out)>;

class Executor {
 public:
  virtual ~Executor() = default;

  // Bytes that load() will take for a program's weights on a rank: those of the packed forms,
  // unless an executor lays them out anew.
  virtual uint64_t weight_bytes(const Program& program) const {
    uint64_t bytes = 0;
    for (const WeightDecl& weight : program.weights) bytes += weight.size_bytes();
    return bytes;
  }

  // The same for the KV caches of all programs, which they share, and their activations.
  virtual uint64_t cache_bytes(std::span<const Program> programs, const CacheLimits& limits) const {
    uint64_t bytes = 0;
    for (const CacheDecl& cache : programs[0].caches) {
      bytes += cache_positions(programs[0], cache, limits) * cache.position_bytes();
    }
    return bytes;
  }
  virtual uint64_t activation_bytes(std::span<const Program> programs,
                                    const CacheLimits& /*limits*/) const {
    uint64_t bytes = 0;
    for (const Program& program : programs) bytes = std::max(bytes, program.arena_bytes);
    return bytes;
  }

  // Columns of the program that suits it best for prompts of this one's model.
  virtual uint32_t prefill_width(const Program& /*program*/) const { return 64; }

  // Whether it runs programs in which every rank keeps its share of the logits (logit_shards.h).
  virtual bool keeps_logit_shares() const { return false; }

  // Takes verified programs that share weights, caches and ranks (the same declarations), allocates
  // everything and reads the weights. Called once, before run().
  virtual Status load(std::vector<Program> programs, const CacheLimits& limits,
                      const WeightReader& read_weight) = 0;

  // Runs one step of programs[index]; returns when all of it is done. Not thread-safe.
  // Errors: kInternal with a decoded fault record when a wait passes its deadline.
  virtual Status run(uint32_t index, const StepInput& input, StepOutput* output) = 0;

  // After a step of programs[index]: a buffer that it left for the host
  // (BufferDecl::Output::kHost). Errors: kUnsupported by executors that only give what StepOutput
  // has. REQUIRES: out has its size.
  virtual Status read_buffer(uint32_t /*index*/, BufferId /*id*/, std::span<float> /*out*/) {
    return make_error(ErrorCode::kUnsupported, "this executor gives no residuals");
  }

  // Between steps: gives a sequence the keys and values of another. REQUIRES: ids within
  // CacheLimits.
  virtual Status copy_cache(const CacheCopy& copy) = 0;
};

}  // namespace ultraspeed::program
