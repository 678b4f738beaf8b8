// QkvProj: one part of one head of q, k or v: norm, product, rotation or scaling, and the write to
// the query buffer or the KV cache.
#include <algorithm>
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
    if (op_.cache == program::kNoId) return row_in_buffer(t);
    const program::Column& column = context_.input.columns[t];
    const uint64_t index = context_.cache_index(op_.cache, column.sequence, column.position);
    Cache& cache = context_.cache(op_.cache);
    const uint64_t k_head = head_ - op_.num_q_heads;
    if (!is_value()) return &cache.keys[(index * op_.num_kv_heads + k_head) * op_.head_dim];
    const uint64_t v_head = k_head - op_.num_kv_heads;
    return &cache.values[(index * op_.num_kv_heads + v_head) * op_.v_head_dim];
  }

 private:
  float* row_in_buffer(uint32_t t) const {
    const uint64_t row = uint64_t{op_.num_kv_heads} * (op_.head_dim + op_.v_head_dim);
    return context_.buffer(op_.cache_rows) + t * row + first_row() -
           uint64_t{op_.num_q_heads} * op_.head_dim;
  }

  const OpContext& context_;
  const QkvProjOperands& op_;
  uint32_t head_;
};

// results[t] = weight row * x[t]
void project_row(const OpContext& context, const Matrix& weight, uint32_t row, const float* x,
                 float* results) {
  const float* w = weight_row(context, weight, row);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    results[t] = dot(w, x + uint64_t{t} * weight.cols, weight.cols);
  }
}

// Rows that are written as they are, times `factor`.
void plain_rows(const OpContext& context, const Matrix& weight, const HeadOutput& head,
                uint32_t begin, uint32_t count, float factor, const float* x) {
  float* results = context.scratch->floats(kResults, context.num_columns());
  for (uint32_t dim = begin; dim < begin + count; ++dim) {
    project_row(context, weight, head.first_row() + dim, x, results);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      head.column(t)[dim] = results[t] * factor;
    }
  }
}

// Pairs (i, i + half) are rotated by position * theta^(-2i / rotary_dim).
float rotation_frequency(const QkvProjOperands& op, uint32_t i) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(op.rotary_dim);
  return 1.0F / std::pow(op.rope_theta, exponent);
}

void write_rotated(const OpContext& context, uint32_t t, float frequency, float low, float high,
                   float* out_low, float* out_high) {
  const float angle = static_cast<float>(context.input.columns[t].position) * frequency;
  const float cosine = std::cos(angle);
  const float sine = std::sin(angle);
  *out_low = low * cosine - high * sine;
  *out_high = high * cosine + low * sine;
}

void rotated_rows(const OpContext& context, const Matrix& weight, const QkvProjOperands& op,
                  const HeadOutput& head, uint32_t begin, uint32_t count, const float* x) {
  const uint32_t columns = context.num_columns();
  const uint32_t half = op.rotary_dim / 2;
  float* low = context.scratch->floats(kResults, size_t{2} * columns);
  float* high = low + columns;
  for (uint32_t i = begin; i < begin + count; ++i) {
    project_row(context, weight, head.first_row() + i, x, low);
    project_row(context, weight, head.first_row() + half + i, x, high);
    const float frequency = rotation_frequency(op, i);
    for (uint32_t t = 0; t < columns; ++t) {
      float* out = head.column(t);
      write_rotated(context, t, frequency, low[t], high[t], &out[i], &out[half + i]);
    }
  }
}

// A whole head of q or k, normalised before the rotation.
void normed_head(const OpContext& context, const Matrix& weight, const QkvProjOperands& op,
                 const HeadOutput& head, const float* x) {
  const uint32_t columns = context.num_columns();
  const uint32_t half = op.rotary_dim / 2;
  const program::NormRef& norm = head.is_query() ? op.q_norm : op.k_norm;
  float* results = context.scratch->floats(kResults, columns);
  float* raw = context.scratch->floats(kScores, uint64_t{columns} * op.head_dim);
  for (uint32_t dim = 0; dim < op.head_dim; ++dim) {
    project_row(context, weight, head.first_row() + dim, x, results);
    for (uint32_t t = 0; t < columns; ++t) raw[uint64_t{t} * op.head_dim + dim] = results[t];
  }
  for (uint32_t t = 0; t < columns; ++t) {
    float* row = raw + uint64_t{t} * op.head_dim;
    rms_norm(row, context.vector(norm.weight), norm.epsilon, op.head_dim, row);
    std::copy(row + op.rotary_dim, row + op.head_dim, head.column(t) + op.rotary_dim);
  }
  for (uint32_t i = 0; i < half; ++i) {
    const float frequency = rotation_frequency(op, i);
    for (uint32_t t = 0; t < columns; ++t) {
      const float* row = raw + uint64_t{t} * op.head_dim;
      float* out = head.column(t);
      write_rotated(context, t, frequency, row[i], row[half + i], &out[i], &out[half + i]);
    }
  }
}

}  // namespace

Status run_op(const OpContext& context, const QkvProjOperands& op, uint32_t) {
  const Matrix weight = context.matrix(op.weight);
  const float* x = normed_columns(context, op.norm, op.hidden);
  const uint32_t part = context.task.part;
  for (uint32_t index = context.task.row_begin; index < context.row_end(); ++index) {
    const HeadOutput head(context, op, index);
    if (head.is_value()) {
      const uint32_t rows = op.v_head_dim / op.head_parts;
      plain_rows(context, weight, head, part * rows, rows, op.value_scale, x);
      continue;
    }
    if ((head.is_query() ? op.q_norm : op.k_norm).weight != program::kNoId) {
      normed_head(context, weight, op, head, x);
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
