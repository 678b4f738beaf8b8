// The memory that CPU executors share: activation arenas, packed weights and KV caches of every
// rank, and the view that an operation gets of them. Ranks are plain memory here: pushing to a peer
// is a store.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/large_memory.h"
#include "base/result.h"
#include "cpu/aligned.h"
#include "cpu/int8_block.h"
#include "cpu/rounding.h"
#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/kv_scales.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {

// How a matrix lies in memory.
enum class WeightLayout : uint8_t {
  kPacked,   // docs/weights_format.md
  kVectors,  // vector_layout.h
  kInt8,     // int8_layout.h
};

// A matrix [rows, cols].
struct Matrix {
  tensor::WeightFormat format = tensor::WeightFormat::kF32;
  uint32_t rows = 0, cols = 0;
  const std::byte* data = nullptr;
  WeightLayout layout = WeightLayout::kPacked;
  Rounding rounding = Rounding::kNone;  // of its inputs
};

struct Cache {
  AlignedVector<float> keys;    // [positions, num_kv_heads, head_dim]
  AlignedVector<float> values;  // [positions, num_kv_heads, v_head_dim]
};

// The matrices of a weight, alike.
struct WeightMemory {
  std::span<std::byte> bytes;  // [count][matrix_bytes]
  uint64_t matrix_bytes = 0;
  WeightLayout layout = WeightLayout::kPacked;
  Rounding rounding = Rounding::kNone;
};

// The activations of a program's products, and of those of its drafter alone.
struct StepActivations {
  StepActivations(Activations all) : target(all), drafts(all) {}
  StepActivations(Activations of_target, Activations of_drafts)
      : target(of_target), drafts(of_drafts) {}

  Activations target, drafts;
};

struct RankMemory {
  AlignedVector<float> arena;  // activations; the widest program's arena
  LargeMemory weight_memory;
  std::vector<WeightMemory> weights;  // [WeightId]
  // As a drafter's stages take them: mostly the same memory, a copy where both use a weight and
  // their layouts differ.
  std::vector<WeightMemory> draft_weights;
  std::vector<Cache> caches;        // [CacheId]
  program::KvScaleTable kv_scales;  // of an fp8 cache
};

// Bytes of a program's weights on rank 0, which has the most, in the layouts that Machine::load()
// gives them.
uint64_t weight_bytes(const program::Program& program, const StepActivations& activations);

class Machine {
 public:
  // REQUIRES: `programs` verified and alike in weights, caches and ranks.
  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight,
              const StepActivations& activations = Activations::kF32,
              KvCacheType kv_cache = KvCacheType::kF32);

  const std::vector<program::Program>& programs() const { return programs_; }
  const program::CacheLimits& limits() const { return limits_; }
  KvCacheType kv_cache() const { return kv_cache_; }
  RankMemory& rank(uint32_t index) { return ranks_[index]; }
  uint32_t num_ranks() const { return static_cast<uint32_t>(ranks_.size()); }

  // Errors: kInvalidArgument for a step that the program or the caches cannot hold.
  Status check_step(uint32_t index, const program::StepInput& input) const;

  // Executor::copy_cache().
  void copy_cache(const program::CacheCopy& copy);

  // Fills every arena with NaN, so that a read of what was not written shows in the results.
  void poison_arenas();

 private:
  std::vector<program::Program> programs_;
  program::CacheLimits limits_;
  KvCacheType kv_cache_ = KvCacheType::kF32;
  std::vector<RankMemory> ranks_;
};

// cos and sin of a column's rotation angles.
struct Rotation {
  tensor::Rope rope;
  uint32_t rotary_dim = 0;
  std::vector<float> cosines, sines;  // [num_columns, rotary_dim / 2]
};

// A thread's temporary arrays, kept from task to task so that a running step allocates nothing, and
// what several of its tasks in one step would compute again.
class Scratch {
 public:
  // A buffer's columns, normalised with a weight or (kNoId) as they are, and rounded.
  struct ColumnsKey {
    uint32_t rank = program::kNoId;
    program::BufferId buffer = program::kNoId;
    program::WeightId norm_weight = program::kNoId;
    Rounding rounding = Rounding::kNone;
    bool operator==(const ColumnsKey&) const = default;
  };

  // What was kept is of another step.
  void begin_step() {
    normed_ = {};
    rounded_ = {};
    num_rotations_ = 0;
  }

  // Whether the array of normed, or of rounded, columns has to be filled for this value;
  // afterwards it counts as filled.
  bool replace_normed(const ColumnsKey& key) { return std::exchange(normed_, key) != key; }
  bool replace_rounded(const ColumnsKey& key) { return std::exchange(rounded_, key) != key; }

  // The rotation of this step's columns; *is_new when it has to be filled.
  Rotation& rotation(const tensor::Rope& rope, uint32_t rotary_dim, bool* is_new) {
    const auto end = rotations_.begin() + num_rotations_;
    const auto found = std::find_if(rotations_.begin(), end, [&](const Rotation& r) {
      return r.rope == rope && r.rotary_dim == rotary_dim;
    });
    *is_new = found == end;
    if (found != end) return *found;
    if (std::ssize(rotations_) == num_rotations_) rotations_.emplace_back();
    Rotation& rotation = rotations_[static_cast<size_t>(num_rotations_++)];
    rotation.rope = rope;
    rotation.rotary_dim = rotary_dim;
    return rotation;
  }

  // [count], contents undefined.
  const float** pointers(size_t count) { return resized(count, &pointers_); }
  const Int8Block** block_pointers(size_t count) { return resized(count, &block_pointers_); }

  // A different array for each `slot`, [count], contents undefined.
  float* floats(size_t slot, size_t count) {
    if (arrays_.size() <= slot) arrays_.resize(slot + 1);
    return resized(count, &arrays_[slot]);
  }
  Int8Block* blocks(size_t slot, size_t count) {
    if (block_arrays_.size() <= slot) block_arrays_.resize(slot + 1);
    return resized(count, &block_arrays_[slot]);
  }

 private:
  template <class Element>
  static Element* resized(size_t count, AlignedVector<Element>* array) {
    if (array->size() < count) array->resize(count);
    return array->data();
  }

  std::vector<AlignedVector<float>> arrays_;
  std::vector<AlignedVector<Int8Block>> block_arrays_;
  AlignedVector<const float*> pointers_;
  AlignedVector<const Int8Block*> block_pointers_;
  std::vector<Rotation> rotations_;
  ptrdiff_t num_rotations_ = 0;  // those of this step
  ColumnsKey normed_, rounded_;
};

// Everything one operation sees. Cheap to make; one a task.
class OpContext {
 public:
  OpContext(Machine* machine, const program::Program& program_in, uint32_t rank,
            const program::Task& task_in, const program::StepInput& input_in,
            program::StepOutput* output_in, Scratch* scratch_in)
      : program(program_in),
        task(task_in),
        input(input_in),
        output(output_in),
        scratch(scratch_in),
        machine_(machine),
        rank_(rank) {}

  const program::Program& program;
  const program::Task& task;
  const program::StepInput& input;
  program::StepOutput* output;
  Scratch* scratch;

  uint32_t row_end() const { return task.row_begin + task.row_count; }
  uint32_t hidden_size() const { return program.hidden_size; }
  uint32_t num_columns() const { return static_cast<uint32_t>(input.columns.size()); }
  uint32_t rank() const { return rank_; }
  uint32_t num_ranks() const { return program.num_ranks; }

  float* buffer(program::BufferId id) const { return buffer_of(rank_, id); }
  float* buffer_of(uint32_t rank, program::BufferId id) const {
    return machine_->rank(rank).arena.data() + program.buffers[id].offset_bytes / sizeof(float);
  }
  uint32_t* words(program::BufferId id) const { return words_of(rank_, id); }
  uint32_t* words_of(uint32_t rank, program::BufferId id) const {
    return reinterpret_cast<uint32_t*>(buffer_of(rank, id));
  }
  Matrix matrix(program::WeightId id, uint32_t index = 0) const {
    const program::WeightDecl& decl = program.weights[id];
    const RankMemory& rank = machine_->rank(rank_);
    const bool is_drafters = program.stages[task.stage].is_drafters;
    const WeightMemory& memory = (is_drafters ? rank.draft_weights : rank.weights)[id];
    return {decl.format,   decl.rows,
            decl.cols,     memory.bytes.data() + index * memory.matrix_bytes,
            memory.layout, memory.rounding};
  }
  // An f32 vector, or one of several of a kind; nullptr for kNoId.
  const float* vector(program::WeightId id, uint32_t index = 0) const {
    return id == program::kNoId ? nullptr : reinterpret_cast<const float*>(matrix(id, index).data);
  }
  Cache& cache(program::CacheId id) const { return machine_->rank(rank_).caches[id]; }
  KvCacheType kv_cache() const { return machine_->kv_cache(); }
  // Of a stage's kv head.
  tensor::KvScales kv_scales(const program::QkvProjOperands& op, uint32_t kv_head) const {
    if (kv_cache() != KvCacheType::kFp8) return {};
    return machine_->rank(rank_).kv_scales.of(op)[kv_head];
  }

  // The columns [first, end) of column t's sequence.
  struct SequenceColumns {
    uint32_t first = 0, end = 0;
  };
  SequenceColumns sequence_columns(uint32_t t) const {
    const auto& columns = input.columns;
    SequenceColumns range{t, t + 1};
    while (range.first > 0 && columns[range.first - 1].sequence == columns[t].sequence) {
      --range.first;
    }
    while (range.end < columns.size() && columns[range.end].sequence == columns[t].sequence) {
      ++range.end;
    }
    return range;
  }

  // Where position `position` of a sequence lies in a cache.
  uint64_t cache_index(program::CacheId id, uint32_t sequence, uint32_t position) const {
    const uint64_t ring = program.caches[id].ring_positions;
    if (ring != 0) return sequence * ring + position % ring;
    const uint64_t page_positions = program.kv_page_positions;
    const uint64_t page = input.page_tables[sequence][position / page_positions];
    return page * page_positions + position % page_positions;
  }

  // How many positions from `position` on lie one after the other in a cache.
  uint32_t contiguous_positions(program::CacheId id, uint32_t position) const {
    const uint32_t ring = program.caches[id].ring_positions;
    const uint32_t piece = ring != 0 ? ring : program.kv_page_positions;
    return piece - position % piece;
  }

 private:
  Machine* machine_;
  uint32_t rank_;
};

}  // namespace ultraspeed::cpu
