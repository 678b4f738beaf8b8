// QkvProj: one part of one head of q, k or v: norm, product, rotation or scaling, and the write to
// the query buffer or the KV cache.
#include <cmath>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::QkvProjOperands;

// Where dimension `dim` of the head goes for column t.
class HeadOutput {
 public:
  HeadOutput(const OpContext& context, const QkvProjOperands& op, uint32_t head)
      : context_(context), op_(op), head_(head) {}

  bool is_query() const { return head_ < op_.num_q_heads; }
  bool is_value() const { return head_ >= op_.num_q_heads + op_.num_kv_heads; }

  // The head's first row in [q; k; v].
  uint32_t first_row() const {
    if (!is_value()) return head_ * op_.head_dim;
    return (op_.num_q_heads + op_.num_kv_heads) * op_.head_dim +
           (head_ - op_.num_q_heads - op_.num_kv_heads) * op_.v_head_dim;
  }

  float* column(uint32_t t) const {
    if (is_query()) {
      return context_.buffer(op_.query) + (uint64_t{t} * op_.num_q_heads + head_) * op_.head_dim;
    }
    const program::Column& column = context_.input.columns[t];
    const uint64_t index = context_.cache_index(op_.cache, column.sequence, column.position);
    Cache& cache = context_.cache(op_.cache);
    const uint64_t k_head = head_ - op_.num_q_heads;
    if (!is_value()) return &cache.keys[(index * op_.num_kv_heads + k_head) * op_.head_dim];
    const uint64_t v_head = k_head - op_.num_kv_heads;
    return &cache.values[(index * op_.num_kv_heads + v_head) * op_.v_head_dim];
  }

 private:
  const OpContext& context_;
  const QkvProjOperands& op_;
  uint32_t head_;
};

// The products of `count` rows of the head from `begin` on with all columns: [num_columns, count].
const float* project(const OpContext& context, const Matrix& weight, uint32_t row, uint32_t count,
                     const float* const* x, ScratchSlot slot) {
  float* results = context.scratch->floats(slot, uint64_t{context.num_columns()} * count);
  multiply(whole_rows(weight, row, count), x, context.num_columns(), results, count);
  return results;
}

// Rows that are written as they are, times `factor`.
void plain_rows(const OpContext& context, const Matrix& weight, const HeadOutput& head,
                uint32_t begin, uint32_t count, float factor, const float* const* x) {
  if (count == 0) return;
  const float* results = project(context, weight, head.first_row() + begin, count, x, kResults);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    float* out = head.column(t) + begin;
    for (uint32_t i = 0; i < count; ++i) out[i] = results[uint64_t{t} * count + i] * factor;
  }
}

// The angles position * theta^(-2i / rotary_dim), in binary32.
const Rotation& column_rotation(const OpContext& context, const QkvProjOperands& op) {
  bool is_new = false;
  Rotation& rotation = context.scratch->rotation(op.rope_theta, op.rotary_dim, &is_new);
  if (!is_new) return rotation;
  const uint32_t half = op.rotary_dim / 2;
  const uint32_t columns = context.num_columns();
  rotation.cosines.resize(size_t{columns} * half);
  rotation.sines.resize(size_t{columns} * half);
  for (uint32_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(op.rotary_dim);
    const float frequency = 1.0F / std::pow(op.rope_theta, exponent);
    for (uint32_t t = 0; t < columns; ++t) {
      const float angle = static_cast<float>(context.input.columns[t].position) * frequency;
      rotation.cosines[size_t{t} * half + i] = std::cos(angle);
      rotation.sines[size_t{t} * half + i] = std::sin(angle);
    }
  }
  return rotation;
}

// Pairs (i, i + half) are rotated.
void rotated_rows(const OpContext& context, const Matrix& weight, const QkvProjOperands& op,
                  const HeadOutput& head, uint32_t begin, uint32_t count, const float* const* x) {
  if (count == 0) return;
  const uint32_t half = op.rotary_dim / 2;
  const uint32_t row = head.first_row() + begin;
  const float* low = project(context, weight, row, count, x, kResults);
  const float* high = project(context, weight, row + half, count, x, kMoreResults);
  const Rotation& rotation = column_rotation(context, op);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const float* cosines = &rotation.cosines[size_t{t} * half + begin];
    const float* sines = &rotation.sines[size_t{t} * half + begin];
    float* out = head.column(t) + begin;
    for (uint32_t i = 0; i < count; ++i) {
      const float a = low[uint64_t{t} * count + i];
      const float b = high[uint64_t{t} * count + i];
      out[i] = a * cosines[i] - b * sines[i];
      out[half + i] = b * cosines[i] + a * sines[i];
    }
  }
}

}  // namespace

Status run_op(const OpContext& context, const QkvProjOperands& op, uint32_t) {
  const Matrix weight = context.matrix(op.weight);
  const float* const* x = normed_columns(context, op.norm, op.hidden);
  const uint32_t part = context.task.part;
  for (uint32_t index = context.task.row_begin; index < context.row_end(); ++index) {
    const HeadOutput head(context, op, index);
    if (head.is_value()) {
      const uint32_t rows = op.v_head_dim / op.head_parts;
      plain_rows(context, weight, head, part * rows, rows, op.value_scale, x);
      continue;
    }
    const uint32_t pairs = op.rotary_dim / 2 / op.head_parts;
    rotated_rows(context, weight, op, head, part * pairs, pairs, x);
    const uint32_t rest = (op.head_dim - op.rotary_dim) / op.head_parts;
    plain_rows(context, weight, head, op.rotary_dim + part * rest, rest, 1.0F, x);
  }
  return {};
}

}  // namespace ultraspeed::cpu
