// Caches of tiles of a machine for tests: filled and read as rows, and attention to them compared
// with binary64.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/machine.h"
#include "cuda/ops/flash_attention.h"
#include "program/arithmetic.h"
#include "program/operands.h"
#include "program/program.h"
#include "program/step.h"
#include "tensor/kv_rounding.h"

namespace ultraspeed::test {

// All rows of a cache on a rank: keys [positions, num_kv_heads, head_dim], values likewise, as the
// codes stand for them.
void fill_tiles(const cuda::Machine& machine, uint32_t rank, program::CacheId id,
                std::span<const float> keys, std::span<const float> values);
void read_tiles(const cuda::Machine& machine, uint32_t rank, program::CacheId id,
                std::span<float> keys, std::span<float> values);

// Floats of a column in rows [T, num_kv_heads * (head_dim + v_head_dim)].
inline uint32_t row_size(const program::QkvProjOperands& op) {
  return op.num_kv_heads * (op.head_dim + op.v_head_dim);
}

// A step's own rows of a cache, as attention to tiles is given them; in keys and values (of all
// positions) NaN takes their place.
std::vector<float> take_rows(const program::Program& program, const program::AttentionOperands& op,
                             const program::StepInput& input, std::span<float> keys,
                             std::span<float> values);

// Such rows rounded as the cache keeps them: with the scales of its kv heads, to bf16 if there are
// none.
void round_rows(const program::QkvProjOperands& op, std::span<const tensor::KvScales> scales,
                std::span<float> rows);

// Such rows to their places in the keys and values of a cache.
void put_rows(const program::Program& program, const program::QkvProjOperands& op,
              program::CacheId cache, const program::StepInput& input, std::span<const float> rows,
              std::span<float> keys, std::span<float> values);

// Whether two rounded values have codes that follow each other, or are of values as close as
// row_error.
bool are_neighbours(program::KvCacheType type, float scale, float row_error, float a, float b);

// How far a buffer of attention to tiles may be from the processor's on the same cache and queries,
// of its largest value: about three times what was seen. Rows have a derived bound besides.
double tile_attention_bound(program::KvCacheType type);

// Attention of a step on a rank.
struct AttentionRows {
  const program::AttentionOperands* op = nullptr;
  const program::Program* program = nullptr;
  const program::StepInput* input = nullptr;
  std::span<const float> query, keys, values;  // of all positions
  const float* sinks = nullptr;
  cuda::KvFormat format = cuda::KvFormat::kE4m3;
};

// The largest |error| of an output [columns, num_q_heads * v_head_dim] as a share of its bound
// (flash_bound.h); of steps with many products, of some rows.
double worst_of_bound(const AttentionRows& rows, std::span<const float> output);

}  // namespace ultraspeed::test
