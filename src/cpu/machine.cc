#include "cpu/machine.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>

#include "base/check.h"
#include "base/workers.h"
#include "cpu/int8_layout.h"
#include "cpu/topology.h"
#include "cpu/vector_layout.h"
#include "program/access.h"
#include "program/step_check.h"

namespace ultraspeed::cpu {

using program::Program;

namespace {

// The layout that the shape of a weight allows; FP8 scales may yet forbid kVectors.
WeightLayout planned_layout(const program::WeightDecl& decl, Activations activations) {
  const bool is_int8 =
      activations == Activations::kInt8 && fits_int8_layout(decl.format, decl.cols);
  return is_int8 ? WeightLayout::kInt8 : WeightLayout::kVectors;
}

// Every worker reads its part of the weights each step: with the bandwidth of all NUMA nodes. What
// caches hold needs none.
void spread_over_nodes(std::span<std::byte> weights) {
  constexpr size_t kCachedBytes = size_t{256} << 20;
  if (weights.size() < kCachedBytes) return;
  const auto topology = Topology::of_machine();
  if (topology && topology->num_numa_nodes() > 1) topology->interleave(weights);
}

// A matrix is on cache lines of its own and has room for its packed form, too.
WeightMemory planned_memory(const program::WeightDecl& decl, Activations activations) {
  WeightMemory weight{.bytes = {},
                      .matrix_bytes = decl.matrix_bytes(),
                      .layout = planned_layout(decl, activations),
                      .rounding = input_rounding(activations, decl.format)};
  if (weight.layout == WeightLayout::kInt8) {
    weight.matrix_bytes =
        std::max(weight.matrix_bytes, int8_layout_bytes(decl.format, decl.rows, decl.cols));
  }
  weight.matrix_bytes =
      (weight.matrix_bytes + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes;
  return weight;
}

// Whether stages of the target or of its drafter use a weight.
struct WeightUse {
  bool target = false, drafts = false;
};

std::vector<WeightUse> weight_uses(std::span<const Program> programs) {
  std::vector<WeightUse> uses(programs[0].weights.size());
  for (const Program& program : programs) {
    for (const program::Stage& stage : program.stages) {
      for (const program::WeightId id : program::stage_references(stage.operands).weights) {
        (stage.is_drafters ? uses[id].drafts : uses[id].target) = true;
      }
    }
  }
  return uses;
}

// How a rank's weights lie, without their memory. A drafter's own copy has bytes of its own.
struct PlannedWeights {
  std::vector<WeightMemory> weights, draft_weights;
  std::vector<bool> has_copy;
  uint64_t size_bytes = 0;
};

PlannedWeights plan_weights(std::span<const Program> programs, const StepActivations& activations,
                            uint32_t rank) {
  const std::vector<WeightUse> uses = weight_uses(programs);
  PlannedWeights plan;
  for (program::WeightId id = 0; id < uses.size(); ++id) {
    const program::WeightDecl& decl = programs[0].weights[id];
    if (!program::has_share(rank, decl.rank_stride)) {
      plan.weights.emplace_back();
      plan.draft_weights.emplace_back();
      plan.has_copy.push_back(false);
      continue;
    }
    const WeightMemory of_target = planned_memory(decl, activations.target);
    const WeightMemory of_drafts = planned_memory(decl, activations.drafts);
    const bool is_drafters = uses[id].drafts && !uses[id].target;
    const bool has_copy =
        uses[id].drafts && uses[id].target && of_drafts.layout != of_target.layout;
    plan.weights.push_back(is_drafters ? of_drafts : of_target);
    plan.draft_weights.push_back(has_copy ? of_drafts : plan.weights.back());
    plan.has_copy.push_back(has_copy);
    const uint64_t copy_bytes = has_copy ? of_drafts.matrix_bytes : 0;
    plan.size_bytes += decl.count * (plan.weights.back().matrix_bytes + copy_bytes);
  }
  return plan;
}

// Room for all weights.
Status allocate_weights(const Program& program, const PlannedWeights& plan, RankMemory* memory) {
  US_ASSIGN(memory->weight_memory, LargeMemory::allocate(plan.size_bytes));
  spread_over_nodes(memory->weight_memory.bytes());
  memory->weights = plan.weights;
  memory->draft_weights = plan.draft_weights;
  std::span<std::byte> left = memory->weight_memory.bytes();
  for (program::WeightId id = 0; id < program.weights.size(); ++id) {
    const auto take = [&](WeightMemory* weight) {
      weight->bytes = left.first(program.weights[id].count * weight->matrix_bytes);
      left = left.subspan(weight->bytes.size());
    };
    take(&memory->weights[id]);
    if (plan.has_copy[id]) take(&memory->draft_weights[id]);
  }
  return {};
}

// Brings all matrices of a weight into its layout, or leaves all packed.
void rearrange(const program::WeightDecl& decl, WeightMemory* weight) {
  const auto matrix = [&](uint32_t i) {
    return weight->bytes.subspan(i * weight->matrix_bytes, weight->matrix_bytes);
  };
  bool fits = true;
  for (uint32_t i = 0; i < decl.count && weight->layout == WeightLayout::kVectors; ++i) {
    fits = fits && fits_vector_layout(decl.format, decl.rows, decl.cols, matrix(i));
  }
  if (!fits) weight->layout = WeightLayout::kPacked;
  for (uint32_t i = 0; i < decl.count; ++i) {
    if (weight->layout == WeightLayout::kVectors) {
      to_vector_layout(decl.format, decl.rows, decl.cols, matrix(i));
    } else if (weight->layout == WeightLayout::kInt8) {
      to_int8_layout(decl.format, decl.rows, decl.cols, matrix(i));
    }
  }
}

// What loading needs of a rank besides its memory.
struct LoadingRank {
  PlannedWeights plan;
  std::optional<program::KvScaleBuilder> kv_scales;
  std::unique_ptr<std::mutex> kv_scales_mutex = std::make_unique<std::mutex>();
};

// Reads all matrices of a weight and brings them into their layout.
Status load_weight(const program::WeightDecl& decl, program::WeightId id, uint32_t rank,
                   const program::WeightReader& read_weight, LoadingRank* loading,
                   RankMemory* memory) {
  WeightMemory& weight = memory->weights[id];
  WeightMemory& of_drafts = memory->draft_weights[id];
  for (uint32_t index = 0; index < decl.count; ++index) {
    const auto matrix = weight.bytes.subspan(index * weight.matrix_bytes, decl.matrix_bytes());
    US_TRY(read_weight(rank, id, index, matrix));
    if (loading->kv_scales) {
      const std::lock_guard lock(*loading->kv_scales_mutex);
      loading->kv_scales->take(id, matrix);
    }
    if (loading->plan.has_copy[id]) {
      std::ranges::copy(
          matrix, of_drafts.bytes.begin() + static_cast<ptrdiff_t>(index * of_drafts.matrix_bytes));
    }
  }
  rearrange(decl, &weight);
  if (loading->plan.has_copy[id]) {
    rearrange(decl, &of_drafts);
  } else {
    of_drafts = weight;
  }
  return {};
}

// The weights of all ranks, each by one thread. What ranks have of one weight is read at about the
// same time, for their columns share pages of the files.
Status load_weights(const Program& program, const program::WeightReader& read_weight,
                    std::span<LoadingRank> loading, std::span<RankMemory> memory) {
  const size_t num_ranks = memory.size();
  return run_jobs(loading_threads(), program.weights.size() * num_ranks,
                  [&](uint32_t /*worker*/, size_t job) -> Status {
                    const auto id = static_cast<program::WeightId>(job / num_ranks);
                    const auto rank = static_cast<uint32_t>(job % num_ranks);
                    const program::WeightDecl& decl = program.weights[id];
                    if (!program::has_share(rank, decl.rank_stride)) return {};
                    return load_weight(decl, id, rank, read_weight, &loading[rank], &memory[rank]);
                  });
}

void make_caches(const Program& program, const program::CacheLimits& limits, uint32_t rank,
                 RankMemory* memory) {
  for (const program::CacheDecl& decl : program.caches) {
    const bool has_rows = program::has_share(rank, decl.rank_stride);
    const uint64_t positions = has_rows ? program::cache_positions(program, decl, limits) : 0;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    memory->caches.push_back(
        {AlignedVector<float>(positions * decl.num_kv_heads * decl.head_dim, nan),
         AlignedVector<float>(positions * decl.num_kv_heads * decl.v_head_dim, nan)});
  }
}

// Copies rows [from, from + count) of a cache over those that begin at `to`.
void copy_rows(const program::CacheDecl& decl, uint64_t from, uint64_t to, uint64_t count,
               Cache* cache) {
  const auto copy = [&](AlignedVector<float>& rows, uint64_t row_size) {
    std::copy_n(&rows[from * row_size], count * row_size, &rows[to * row_size]);
  };
  copy(cache->keys, uint64_t{decl.num_kv_heads} * decl.head_dim);
  copy(cache->values, uint64_t{decl.num_kv_heads} * decl.v_head_dim);
}

// What is wanted of a ring, in one piece or, around its end, in two.
void copy_ring(const program::CacheDecl& decl, const program::CacheCopy& copy, Cache* cache) {
  const uint64_t size = decl.ring_positions;
  const uint64_t from = copy.from_sequence * size, to = copy.to_sequence * size;
  if (copy.ring_skipped == 0 && copy.ring_end >= size) {
    return copy_rows(decl, from, to, size, cache);
  }
  const uint64_t end = copy.ring_end;
  const uint64_t wanted = std::min(end, size - std::min<uint64_t>(size, copy.ring_skipped));
  const uint64_t first = (end - wanted) % size;
  const uint64_t count = std::min(wanted, size - first);
  copy_rows(decl, from + first, to + first, count, cache);
  copy_rows(decl, from, to, wanted - count, cache);
}

}  // namespace

uint64_t weight_bytes(const Program& program, const StepActivations& activations) {
  return plan_weights({&program, 1}, activations, 0).size_bytes;
}

Status Machine::load(std::vector<Program> programs, const program::CacheLimits& limits,
                     const program::WeightReader& read_weight, const StepActivations& activations,
                     KvCacheType kv_cache) {
  US_CHECK(!programs.empty() && ranks_.empty());
  for (const Program& program : programs) {
    US_CHECK(program::share_memory(program, programs[0]), "program '{}' does not fit '{}'",
             program.name, programs[0].name);
  }
  uint64_t arena_bytes = 0;
  for (const Program& program : programs) arena_bytes = std::max(arena_bytes, program.arena_bytes);
  try {
    ranks_.resize(programs[0].num_ranks);
    std::vector<LoadingRank> loading(ranks_.size());
    for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
      RankMemory& memory = ranks_[rank];
      memory.arena.resize(arena_bytes / sizeof(float));
      loading[rank].plan = plan_weights(programs, activations, rank);
      US_TRY(allocate_weights(programs[0], loading[rank].plan, &memory));
      if (kv_cache == KvCacheType::kFp8) loading[rank].kv_scales.emplace(programs, rank);
      make_caches(programs[0], limits, rank, &memory);
    }
    US_TRY(load_weights(programs[0], read_weight, loading, ranks_));
    for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
      if (loading[rank].kv_scales) ranks_[rank].kv_scales = loading[rank].kv_scales->finish();
    }
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kOutOfMemory,
                      "not enough memory for the weights and KV caches of '{}'", programs[0].name);
  }
  programs_ = std::move(programs);
  limits_ = limits;
  kv_cache_ = kv_cache;
  return {};
}

Status Machine::check_step(uint32_t index, const program::StepInput& input) const {
  US_CHECK(index < programs_.size());
  return program::check_step(programs_[index], limits_, input);
}

void Machine::copy_cache(const program::CacheCopy& copy) {
  const Program& program = programs_[0];
  program::check_copy(limits_, copy);
  for (RankMemory& rank : ranks_) {
    for (program::CacheId id = 0; id < program.caches.size(); ++id) {
      const program::CacheDecl& decl = program.caches[id];
      if (rank.caches[id].keys.empty()) continue;
      if (decl.ring_positions != 0) {
        copy_ring(decl, copy, &rank.caches[id]);
        continue;
      }
      const uint64_t size = program.kv_page_positions;
      for (const auto& [from, to] : copy.pages) {
        copy_rows(decl, from * size, to * size, size, &rank.caches[id]);
      }
    }
  }
}

void Machine::poison_arenas() {
  for (RankMemory& rank : ranks_) {
    std::fill(rank.arena.begin(), rank.arena.end(), std::numeric_limits<float>::quiet_NaN());
  }
}

}  // namespace ultraspeed::cpu
