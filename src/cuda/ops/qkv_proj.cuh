// QkvProj: heads of q, k or v: norm, product, rotation or scaling, and the write to the query
// buffer or the KV cache.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/rope.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxHeadDim = 512;

// Columns are taken kInputGroup at a time.
struct QkvShared {
  float factors[kMaxColumns];
  float results[kInputGroup][kMaxHeadDim];  // products, a part of a head each
  float cosines[kInputGroup][kMaxHeadDim / 2];
  float sines[kInputGroup][kMaxHeadDim / 2];
};
template <>
inline constexpr uint32_t kSharedBytes<program::QkvProjOperands> = sizeof(QkvShared);

constexpr const char* limit_of(const program::QkvProjOperands& op, uint32_t) {
  const bool fits = op.head_dim / op.head_parts <= kMaxHeadDim &&
                    op.v_head_dim / op.head_parts <= kMaxHeadDim && op.rotary_dim <= kMaxHeadDim;
  return fits ? nullptr : "parts of heads, or rotary dimensions, of more than 512";
}

// One head of the stage's output axis and this task's part of it.
class QkvHead {
 public:
  __device__ QkvHead(const OpContext& context, const program::QkvProjOperands& op, uint32_t head)
      : context_(context), op_(op), head_(head) {}

  __device__ bool is_query() const { return head_ < op_.num_q_heads; }
  __device__ bool is_value() const { return head_ >= op_.num_q_heads + op_.num_kv_heads; }

  // Rows of the weight that the part needs, and which: of a q or k head its share of the low sides
  // of the rotation pairs (i, i + rotary_dim / 2), of the high sides, and of the rest.
  __device__ uint32_t num_rows() const {
    return (is_value() ? op_.v_head_dim : op_.head_dim) / op_.head_parts;
  }
  __device__ uint32_t dimension(uint32_t i) const {
    const uint32_t part = context_.task.part;
    if (is_value()) return part * num_rows() + i;
    const uint32_t pairs = num_pairs();
    if (i < pairs) return part * pairs + i;
    if (i < 2 * pairs) return op_.rotary_dim / 2 + part * pairs + i - pairs;
    return op_.rotary_dim + part * (num_rows() - 2 * pairs) + i - 2 * pairs;
  }
  __device__ uint32_t num_pairs() const { return op_.rotary_dim / 2 / op_.head_parts; }

  // The head's first row in [q; k; v].
  __device__ uint32_t first_row() const {
    if (!is_value()) return head_ * op_.head_dim;
    return (op_.num_q_heads + op_.num_kv_heads) * op_.head_dim +
           (head_ - op_.num_q_heads - op_.num_kv_heads) * op_.v_head_dim;
  }

  // Where the head of column t goes.
  __device__ float* output(uint32_t t) const {
    if (is_query()) {
      return context_.buffer(op_.query) + (uint64_t{t} * op_.num_q_heads + head_) * op_.head_dim;
    }
    if (op_.cache == kNoId) {
      const uint64_t row = uint64_t{op_.num_kv_heads} * (op_.head_dim + op_.v_head_dim);
      return context_.buffer(op_.cache_rows) + t * row + first_row() -
             uint64_t{op_.num_q_heads} * op_.head_dim;
    }
    const Cache& cache = context_.cache(op_.cache);
    const uint64_t index = context_.cache_index(cache, t, context_.column(t).position);
    const uint64_t kv_head = head_ - op_.num_q_heads;
    if (!is_value()) return cache.keys + (index * op_.num_kv_heads + kv_head) * op_.head_dim;
    return cache.values + (index * op_.num_kv_heads + kv_head - op_.num_kv_heads) * op_.v_head_dim;
  }

 private:
  const OpContext& context_;
  const program::QkvProjOperands& op_;
  uint32_t head_;
};

// cos and sin of the angles of columns [first, first + count).
inline __device__ void make_rotations(const OpContext& context, const program::QkvProjOperands& op,
                                      uint32_t first, uint32_t count, QkvShared* shared) {
  const uint32_t half = op.rotary_dim / 2;
  for (uint32_t index = threadIdx.x; index < half * count; index += kTaskThreads) {
    const uint32_t t = index / half;
    const uint32_t i = index % half;
    const RopeAngle angle =
        rope_angle(context.column(first + t).position, i, op.rotary_dim, op.rope);
    shared->cosines[t][i] = angle.cosine;
    shared->sines[t][i] = angle.sine;
  }
}

// RMSNorm of the whole heads in `results`.
inline __device__ void normalise_heads(const OpContext& context, const program::NormRef& norm,
                                       uint32_t head_dim, uint32_t count, QkvShared* shared) {
  const float* weight = context.vector(norm.weight);
  if (weight == nullptr) return;
  const uint32_t t = half_warp();
  float* head = shared->results[min(t, kInputGroup - 1)];
  const float factor = rms_factor(dot(head, head, head_dim), head_dim, norm.epsilon);
  __syncwarp();
  if (t < count) {
    for (uint32_t i = dot_lane(); i < head_dim; i += kDotLanes)
      head[i] = weight[i] * (head[i] * factor);
  }
  task_barrier();
}

// Rotates or scales the results of columns [first, first + count) and writes them.
inline __device__ void write_heads(const OpContext& context, const program::QkvProjOperands& op,
                                   const QkvHead& head, uint32_t first, uint32_t count,
                                   const QkvShared& shared) {
  const uint32_t rows = head.num_rows();
  const uint32_t pairs = head.is_value() ? 0 : head.num_pairs();
  for (uint32_t index = threadIdx.x; index < count * rows; index += kTaskThreads) {
    const uint32_t t = index / rows;
    const uint32_t i = index % rows;
    const float* results = shared.results[t];
    const uint32_t dimension = head.dimension(i);
    float value = results[i];
    if (head.is_value()) {
      value *= op.value_scale;
    } else if (i < 2 * pairs) {
      const uint32_t angle = i < pairs ? dimension : dimension - op.rotary_dim / 2;
      const float cosine = shared.cosines[t][angle];
      const float sine = shared.sines[t][angle];
      value = i < pairs ? results[i] * cosine - results[i + pairs] * sine
                        : results[i] * cosine + results[i - pairs] * sine;
    }
    head.output(first + t)[dimension] = value;
  }
}

inline __device__ void run_op(const OpContext& context, const program::QkvProjOperands& op) {
  QkvShared* shared = reinterpret_cast<QkvShared*>(context.shared_memory);
  const NormedColumns x(context, op.norm, op.hidden, context.hidden_size(), shared->factors);
  const Matrix weight = context.matrix(op.weight);
  const float* bias = context.vector(op.bias);
  for (uint32_t first = 0; first < context.num_columns(); first += kInputGroup) {
    const uint32_t count = min(kInputGroup, context.num_columns() - first);
    make_rotations(context, op, first, count, shared);
    for (uint32_t index = context.task.row_begin; index < context.row_end(); ++index) {
      const QkvHead head(context, op, index);
      const uint32_t rows = head.num_rows();
      for_each_product(
          weight, (rows + 1) / 2, 1, count,
          [&](uint32_t pair, uint32_t half) {
            const uint32_t i = 2 * pair + half;
            return i < rows ? head.first_row() + head.dimension(i) : kNoId;
          },
          [&](uint32_t t, uint32_t k) { return x(first + t, k); },
          [&](const Product& product) {
            if (!product.is_writer) return;
            const uint32_t i = 2 * product.pair + product.half;
            float sum = product.sum;
            if (bias != nullptr) sum += bias[head.first_row() + head.dimension(i)];
            shared->results[product.input][i] = sum;
          });
      task_barrier();
      if (!head.is_value()) {
        normalise_heads(context, head.is_query() ? op.q_norm : op.k_norm, op.head_dim, count,
                        shared);
      }
      write_heads(context, op, head, first, count, *shared);
      task_barrier();  // the next head's products go where these were
    }
  }
}

}  // namespace ultraspeed::cuda
