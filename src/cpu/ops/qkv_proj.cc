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
  // REQUIRES: it is a k or v head.
  uint32_t kv_head() const { return (head_ - op_.num_q_heads) % op_.num_kv_heads; }

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

// The angles position * frequency, in binary32.
const Rotation& column_rotation(const OpContext& context, const QkvProjOperands& op) {
  bool is_new = false;
  Rotation& rotation = context.scratch->rotation(op.rope, op.rotary_dim, &is_new);
  if (!is_new) return rotation;
  const uint32_t half = op.rotary_dim / 2;
  const uint32_t columns = context.num_columns();
  rotation.cosines.resize(size_t{columns} * half);
  rotation.sines.resize(size_t{columns} * half);
  for (uint32_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(op.rotary_dim);
    const float frequency = tensor::stretched(op.rope, i, 1.0F / std::pow(op.rope.theta, exponent));
    for (uint32_t t = 0; t < columns; ++t) {
      const float angle = static_cast<float>(context.input.columns[t].position) * frequency;
      rotation.cosines[size_t{t} * half + i] = std::cos(angle) * op.rope.attention_factor;
      rotation.sines[size_t{t} * half + i] = std::sin(angle) * op.rope.attention_factor;
    }
  }
  return rotation;
}

// heads: a whole head of every column, [num_columns, head_dim].
void normalise_head(const OpContext& context, const program::NormRef& norm, uint32_t head_dim,
                    float* heads) {
  if (norm.weight == program::kNoId) return;
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    float* head = heads + uint64_t{t} * head_dim;
    rms_norm(head, context.vector(norm.weight), norm.epsilon, head_dim, head);
  }
}

// The products of `count` rows from row `first` of the weight on, and their bias if there is one.
void project_rows(const OpContext& context, const QkvProjOperands& op, const Inputs& x,
                  uint32_t first, uint32_t count, float* results, uint32_t stride) {
  multiply({context.matrix(op.weight), first, count}, x, context.num_columns(), {results, stride});
  if (op.bias == program::kNoId) return;
  add_bias(context.vector(op.bias) + first, count, context.num_columns(), stride, results);
}

// A share of a head's dimensions: of the rotation pairs (i, i + half) and of the dimensions after
// them, or of all that are not rotated.
struct HeadPart {
  uint32_t index = 0, count = 1;
};

// A part of a q or k head to to(t), where dimension 0 of column t goes. Its products lie low sides
// first, then high sides, then the rest.
template <class To>
void rotated_head(const OpContext& context, const QkvProjOperands& op, const HeadOutput& head,
                  const HeadPart& part, const Inputs& x, To to) {
  const uint32_t columns = context.num_columns();
  const uint32_t half = op.rotary_dim / 2;
  const uint32_t pairs = half / part.count;
  const uint32_t rest = (op.head_dim - op.rotary_dim) / part.count;
  const uint32_t first_pair = part.index * pairs;
  const uint32_t first_rest = op.rotary_dim + part.index * rest;
  const uint32_t stride = 2 * pairs + rest;
  float* results = context.scratch->floats(kResults, uint64_t{columns} * stride);
  const uint32_t row = head.first_row();
  const auto product = [&](uint32_t first, uint32_t count, uint32_t place) {
    project_rows(context, op, x, row + first, count, results + place, stride);
  };
  if (part.count == 1) {
    product(0, op.head_dim, 0);
  } else {
    product(first_pair, pairs, 0);
    product(half + first_pair, pairs, pairs);
    product(first_rest, rest, 2 * pairs);
  }
  normalise_head(context, head.is_query() ? op.q_norm : op.k_norm, op.head_dim, results);
  const Rotation& rotation = column_rotation(context, op);
  for (uint32_t t = 0; t < columns; ++t) {
    const float* low = results + uint64_t{t} * stride;
    const float* high = low + pairs;
    const float* cosines = &rotation.cosines[size_t{t} * half + first_pair];
    const float* sines = &rotation.sines[size_t{t} * half + first_pair];
    float* out = to(t);
    for (uint32_t i = 0; i < pairs; ++i) {
      out[first_pair + i] = low[i] * cosines[i] - high[i] * sines[i];
      out[first_pair + half + i] = high[i] * cosines[i] + low[i] * sines[i];
    }
    std::copy_n(high + pairs, rest, out + first_rest);
  }
}

// A part of a v head, likewise.
template <class To>
void value_head(const OpContext& context, const QkvProjOperands& op, const HeadOutput& head,
                const HeadPart& part, const Inputs& x, To to) {
  const uint32_t columns = context.num_columns();
  const uint32_t rows = op.v_head_dim / part.count;
  const uint32_t first = part.index * rows;
  float* results = context.scratch->floats(kResults, uint64_t{columns} * rows);
  project_rows(context, op, x, head.first_row() + first, rows, results, rows);
  for (uint32_t t = 0; t < columns; ++t) {
    float* out = to(t) + first;
    for (uint32_t i = 0; i < rows; ++i) out[i] = results[uint64_t{t} * rows + i] * op.value_scale;
  }
}

template <class To>
void project_head(const OpContext& context, const QkvProjOperands& op, const HeadOutput& head,
                  const HeadPart& part, const Inputs& x, To to) {
  head.is_value() ? value_head(context, op, head, part, x, to)
                  : rotated_head(context, op, head, part, x, to);
}

// Copies a part's dimensions of a row of the head.
void copy_part(const QkvProjOperands& op, bool is_value, const HeadPart& part, const float* from,
               float* to) {
  const auto copy = [&](uint32_t begin, uint32_t size) {
    const uint32_t share = size / part.count;
    const uint32_t first = begin + part.index * share;
    std::copy_n(from + first, share, to + first);
  };
  if (is_value) return copy(0, op.v_head_dim);
  const uint32_t half = op.rotary_dim / 2;
  copy(0, half);
  copy(half, half);
  copy(op.rotary_dim, op.head_dim - op.rotary_dim);
}

// A part of a k or v head, rounded as the cache keeps it. A NaN anywhere in a row makes all of it
// NaN, so each part computes the whole head.
void rounded_head(const OpContext& context, const QkvProjOperands& op, const HeadOutput& head,
                  const HeadPart& part, const Inputs& x) {
  const uint32_t dim = head.is_value() ? op.v_head_dim : op.head_dim;
  const uint32_t columns = context.num_columns();
  const tensor::KvScales scales = context.kv_scales(op, head.kv_head());
  const float scale = head.is_value() ? scales.value : scales.key;
  float* heads = context.scratch->floats(kHeads, uint64_t{columns} * dim);
  const auto row = [&](uint32_t t) { return heads + uint64_t{t} * dim; };
  project_head(context, op, head, {}, x, row);
  for (uint32_t t = 0; t < columns; ++t) {
    round_cache_row(context.kv_cache(), scale, dim, row(t));
    copy_part(op, head.is_value(), part, row(t), head.column(t));
  }
}

}  // namespace

Status run_op(const OpContext& context, const QkvProjOperands& op, uint32_t) {
  const Inputs x = normed_inputs(context, context.matrix(op.weight), op.norm, op.hidden);
  const HeadPart part{context.task.part, op.head_parts};
  for (uint32_t index = context.task.row_begin; index < context.row_end(); ++index) {
    const HeadOutput head(context, op, index);
    if (head.is_query() || context.kv_cache() == KvCacheType::kF32) {
      project_head(context, op, head, part, x, [&](uint32_t t) { return head.column(t); });
    } else {
      rounded_head(context, op, head, part, x);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
