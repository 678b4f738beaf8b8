#include "cpu/kernels/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels/int8.h"
#include "cpu/math.h"

// Three widths of x86 vectors are enough; scalable vectors cannot be members of a struct.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/kernels.cc"
#include "hwy/foreach_target.h"  // compiles this file once a target
//
#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/panels-inl.h"
#include "cpu/kernels/quantize-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ultraspeed::cpu {
namespace HWY_NAMESPACE {

// R rows times C inputs at once, over some steps of the columns. More inputs share the decoding of
// a weight; R * C running sums of 16 lanes must fit the registers. sums[c * R + r].
template <class Row, size_t R, size_t C>
HWY_INLINE void multiply_tile(Row* rows, uint32_t first_step, uint32_t last_step,
                              const float* const* x, float* sums) {
  static_assert(R * C % 4 == 0);
  Lanes16 lanes[R * C];
  unrolled<R * C>([&](auto i) HWY_ATTR __attribute__((always_inline)) { lanes[i] = zero_lanes(); });
  for (uint32_t step = first_step; step < last_step;) {
    const uint32_t block = step / Row::kBlockSteps;
    const uint32_t block_end = std::min(last_step, (block + 1) * Row::kBlockSteps);
    unrolled<R>([&](auto r) HWY_ATTR
                __attribute__((always_inline)) { rows[r].start_block(block); });
    for (; step < block_end; ++step) {
      Lanes16 inputs[C];
      unrolled<C>([&](auto c) HWY_ATTR __attribute__((always_inline)) {
        inputs[c] = load_lanes(x[c] + size_t{step} * 16);
      });
      unrolled<R>([&](auto r) HWY_ATTR __attribute__((always_inline)) {
        const Lanes16 weights = rows[r].decode(step);
        unrolled<C>([&](auto c) HWY_ATTR __attribute__((always_inline)) {
          add_product(weights, inputs[c], &lanes[c * R + r]);
        });
      });
    }
  }
  unrolled<R * C / 4>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
    const Lanes16* four = lanes + i * 4;
    sum_four(four[0], four[1], four[2], four[3], sums + i * 4);
  });
}

// All rows times C inputs from `input` on. The last tile may repeat the last row; those sums are
// dropped.
template <class Row, size_t R, size_t C>
HWY_NOINLINE void multiply_inputs(const MatrixRows& matrix, const float* const* x, uint32_t input,
                                  const ProductOutput& out) {
  for (uint32_t r = 0; r < matrix.num_rows; r += R) {
    Row rows[R];
    const uint32_t count = std::min<uint32_t>(R, matrix.num_rows - r);
    for (uint32_t i = 0; i < R; ++i) {
      rows[i] = Row(matrix.matrix, matrix.row + r + std::min(i, count - 1));
    }
    for (uint32_t chunk = 0; chunk < matrix.num_chunks; ++chunk) {
      HWY_ALIGN float sums[R * C];
      multiply_tile<Row, R, C>(rows, matrix.chunk_begin(chunk) / 16,
                               matrix.chunk_begin(chunk + 1) / 16, x + input, sums);
      for (uint32_t c = 0; c < C; ++c) {
        out.put(input + c, chunk, r, sums + c * R, count);
      }
    }
  }
}

template <class Row>
HWY_INLINE void multiply_rows(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                              const ProductOutput& out) {
  constexpr bool kManyRegisters = kVectorLanes == 16;
  uint32_t input = 0;
  for (; num_inputs - input >= 4; input += 4) {
    multiply_inputs<Row, kManyRegisters ? 4 : 1, 4>(rows, x, input, out);
  }
  for (; num_inputs - input >= 2; input += 2) {
    multiply_inputs<Row, kManyRegisters ? 4 : 2, 2>(rows, x, input, out);
  }
  if (input < num_inputs) multiply_inputs<Row, 4, 1>(rows, x, input, out);
}

void multiply_vectors(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                      const ProductOutput& out) {
  switch (rows.matrix.format) {
    case tensor::WeightFormat::kF32:
      return multiply_rows<F32Row>(rows, x, num_inputs, out);
    case tensor::WeightFormat::kBf16:
      return multiply_rows<Bf16Row>(rows, x, num_inputs, out);
    case tensor::WeightFormat::kFp8Block128:
      return multiply_panels<Fp8Panel>(rows, x, num_inputs, out);
    case tensor::WeightFormat::kMxfp4:
      return multiply_panels<Mxfp4Panel>(rows, x, num_inputs, out);
  }
}

// As multiply_inputs, of float rows.
template <size_t C>
HWY_NOINLINE void dot_rows_inputs(const FloatRows& rows, const float* x, size_t x_stride,
                                  float* out, size_t out_stride) {
  const float* inputs[C];
  for (size_t c = 0; c < C; ++c) inputs[c] = x + c * x_stride;
  for (uint32_t r = 0; r < rows.num_rows; r += 4) {
    F32Row four[4];
    const uint32_t count = std::min(4u, rows.num_rows - r);
    for (uint32_t i = 0; i < 4; ++i) four[i] = F32Row(rows.at(r + std::min(i, count - 1)));
    HWY_ALIGN float sums[4 * C];
    multiply_tile<F32Row, 4, C>(four, 0, rows.num_columns / 16, inputs, sums);
    for (size_t c = 0; c < C; ++c) {
      float* to = out + c * out_stride + r;
      if (count == 4) {
        std::copy_n(sums + c * 4, 4, to);
      } else {
        for (uint32_t i = 0; i < count; ++i) to[i] = sums[c * 4 + i];
      }
    }
  }
}

HWY_INLINE void dot_few_rows(const FloatRows& rows, const float* x, size_t x_stride,
                             uint32_t num_inputs, float* out, size_t out_stride) {
  uint32_t i = 0;
  for (; kVectorLanes == 16 && num_inputs - i >= 4; i += 4) {
    dot_rows_inputs<4>(rows, x + i * x_stride, x_stride, out + i * out_stride, out_stride);
  }
  for (; num_inputs - i >= 2; i += 2) {
    dot_rows_inputs<2>(rows, x + i * x_stride, x_stride, out + i * out_stride, out_stride);
  }
  if (i < num_inputs) dot_rows_inputs<1>(rows, x + i * x_stride, x_stride, out + i * out_stride, 0);
}

// Asks for rows [begin, end), as many as there are. Keys and values of old positions are in no
// cache near, and rows of one head lie too far apart for the processor to see what comes.
HWY_INLINE void prefetch_rows(const FloatRows& rows, uint32_t begin, uint32_t end) {
  constexpr int kSecondLevel = 2;
  for (uint32_t r = begin; r < std::min(end, rows.num_rows); ++r) {
    for (uint32_t c = 0; c < rows.num_columns; c += 16) {
      __builtin_prefetch(rows.at(r) + c, 0, kSecondLevel);
    }
  }
}

// A few rows stay in the first-level cache for all inputs.
void dot_rows_vectors(const FloatRows& rows, const float* x, size_t x_stride, uint32_t num_inputs,
                      float* out, size_t out_stride) {
  constexpr uint32_t kRowsAtOnce = 16;
  for (uint32_t r = 0; r < rows.num_rows; r += kRowsAtOnce) {
    const FloatRows few{rows.at(r), rows.stride, std::min(kRowsAtOnce, rows.num_rows - r),
                        rows.num_columns};
    prefetch_rows(rows, r + kRowsAtOnce, r + 2 * kRowsAtOnce);
    dot_few_rows(few, x, x_stride, num_inputs, out + r, out_stride);
  }
}

// V vectors of columns from `column` on, of I outputs: a row is loaded once for all of them, and
// their sums do not wait for each other.
template <size_t V, size_t I>
HWY_INLINE void add_weighted_tile(const FloatRows& rows, const float* weights, size_t weight_stride,
                                  float* out, size_t out_stride) {
  const FloatTag tag;
  FloatVector sums[I * V];
  for (size_t i = 0; i < I; ++i) {
    for (size_t v = 0; v < V; ++v) {
      sums[i * V + v] = hn::LoadU(tag, out + i * out_stride + v * kVectorLanes);
    }
  }
  for (uint32_t r = 0; r < rows.num_rows; ++r) {
    FloatVector row[V];
    for (size_t v = 0; v < V; ++v) row[v] = hn::LoadU(tag, rows.at(r) + v * kVectorLanes);
    HWY_UNROLL(8) for (size_t i = 0; i < I; ++i) {
      const FloatVector weight = hn::Set(tag, weights[i * weight_stride + r]);
      HWY_UNROLL(8) for (size_t v = 0; v < V; ++v) {
        sums[i * V + v] = fused_multiply_add(weight, row[v], sums[i * V + v]);
      }
    }
  }
  for (size_t i = 0; i < I; ++i) {
    for (size_t v = 0; v < V; ++v) {
      hn::StoreU(sums[i * V + v], tag, out + i * out_stride + v * kVectorLanes);
    }
  }
}

template <size_t V, size_t I>
HWY_INLINE void add_weighted_tiles(FloatRows* rows, const float* weights, size_t weight_stride,
                                   float** out, size_t out_stride) {
  constexpr uint32_t kColumns = static_cast<uint32_t>(V * kVectorLanes);
  while (rows->num_columns >= kColumns) {
    add_weighted_tile<V, I>(*rows, weights, weight_stride, *out, out_stride);
    rows->first += kColumns;
    rows->num_columns -= kColumns;
    *out += kColumns;
  }
}

// All columns of I outputs, whose sums of a tile fit the registers.
template <size_t I>
HWY_INLINE void add_weighted_outputs(FloatRows rows, const float* weights, size_t weight_stride,
                                     float* out, size_t out_stride) {
  constexpr size_t kMostSums = kVectorLanes == 16 ? 16 : 8;
  add_weighted_tiles<std::min<size_t>(4, kMostSums / I), I>(&rows, weights, weight_stride, &out,
                                                            out_stride);
  add_weighted_tiles<1, I>(&rows, weights, weight_stride, &out, out_stride);
  for (size_t i = 0; i < I; ++i) {
    for (uint32_t c = 0; c < rows.num_columns; ++c) {
      float& sum = out[i * out_stride + c];
      for (uint32_t r = 0; r < rows.num_rows; ++r) {
        sum = std::fma(weights[i * weight_stride + r], rows.at(r)[c], sum);
      }
    }
  }
}

void add_weighted_rows_vectors(const FloatRows& rows, const float* weights, size_t weight_stride,
                               uint32_t num_outputs, float* out, size_t out_stride) {
  prefetch_rows(rows, 1, rows.num_rows);
  uint32_t i = 0;
  for (; num_outputs - i >= 4; i += 4) {
    add_weighted_outputs<4>(rows, weights + i * weight_stride, weight_stride, out + i * out_stride,
                            out_stride);
  }
  for (; num_outputs - i >= 2; i += 2) {
    add_weighted_outputs<2>(rows, weights + i * weight_stride, weight_stride, out + i * out_stride,
                            out_stride);
  }
  if (i < num_outputs) {
    add_weighted_outputs<1>(rows, weights + i * weight_stride, weight_stride, out + i * out_stride,
                            out_stride);
  }
}

float largest_vectors(const float* x, uint32_t count) {
  const FloatTag tag;
  FloatVector most = hn::Set(tag, x[0]);
  auto is_number = hn::Eq(most, most);
  uint32_t i = 0;
  for (; i + kVectorLanes <= count; i += kVectorLanes) {
    const FloatVector values = hn::LoadU(tag, x + i);
    is_number = hn::And(is_number, hn::Eq(values, values));
    most = hn::Max(most, values);
  }
  float result = hn::GetLane(hn::MaxOfLanes(tag, most));
  bool all_numbers = hn::AllTrue(tag, is_number);
  for (; i < count; ++i) {
    all_numbers = all_numbers && x[i] == x[i];
    result = std::max(result, x[i]);
  }
  return all_numbers ? result : std::numeric_limits<float>::quiet_NaN();
}

// A tail shorter than the lanes is filled up with values whose exponential is 0.
float exp_and_sum_vectors(const float* x, float shift, uint32_t count, float* out) {
  const FloatTag tag;
  const FloatVector shifts = hn::Set(tag, shift);
  Lanes16 sum = zero_lanes();
  for (uint32_t begin = 0; begin < count; begin += 16) {
    const uint32_t length = std::min(16u, count - begin);
    HWY_ALIGN float tail[16];
    const float* from = x + begin;
    if (length < 16) {
      std::fill(tail, tail + 16, -std::numeric_limits<float>::infinity());
      std::copy(from, from + length, tail);
      from = tail;
    }
    Lanes16 values = load_lanes(from);
    for (size_t i = 0; i < kParts; ++i) {
      values.part[i] = hn::Exp(tag, hn::Sub(values.part[i], shifts));
      sum.part[i] = hn::Add(sum.part[i], values.part[i]);
    }
    if (out == nullptr) continue;
    float* to = length < 16 ? tail : out + begin;
    for (size_t i = 0; i < kParts; ++i) hn::StoreU(values.part[i], tag, to + i * kVectorLanes);
    if (length < 16) std::copy(tail, tail + length, out + begin);
  }
  return sum_of_lanes(sum);
}

FloatVector sigmoid_of(FloatVector x) {
  const FloatTag tag;
  const FloatVector one = hn::Set(tag, 1.0F);
  // Exp() is not for more than 104; the sigmoid is 0 to all float digits long before.
  const FloatVector power = hn::Min(hn::Set(tag, 88.0F), hn::Neg(x));
  return hn::Div(one, hn::Add(one, hn::Exp(tag, power)));
}

// out[i] = join(gate[i], up[i]).
template <class Join>
void join_vectors(const float* gate, const float* up, uint32_t count, float* out, Join join) {
  const FloatTag tag;
  uint32_t i = 0;
  for (; i + kVectorLanes <= count; i += kVectorLanes) {
    hn::StoreU(join(hn::LoadU(tag, gate + i), hn::LoadU(tag, up + i)), tag, out + i);
  }
  for (; i < count; ++i) out[i] = hn::GetLane(join(hn::Set(tag, gate[i]), hn::Set(tag, up[i])));
}

void silu_multiply_vectors(const float* gate, const float* up, uint32_t count, float* out) {
  join_vectors(gate, up, count, out,
               [](FloatVector g, FloatVector u) { return hn::Mul(hn::Mul(g, sigmoid_of(g)), u); });
}

void clamped_swiglu_vectors(float limit, float slope, const float* gate, const float* up,
                            uint32_t count, float* out) {
  const FloatTag tag;
  const FloatVector most = hn::Set(tag, limit), least = hn::Set(tag, -limit);
  // Both operands in the order that keeps a NaN of the input.
  join_vectors(gate, up, count, out, [&](FloatVector g, FloatVector u) {
    const FloatVector gated = hn::IfThenElse(hn::Gt(g, most), most, g);
    const FloatVector below = hn::IfThenElse(hn::Gt(u, most), most, u);
    const FloatVector lifted = hn::IfThenElse(hn::Lt(below, least), least, below);
    const FloatVector share = sigmoid_of(hn::Mul(hn::Set(tag, slope), gated));
    return hn::Mul(hn::Mul(gated, share), hn::Add(lifted, hn::Set(tag, 1.0F)));
  });
}

const char* target_name() {
  return hwy::TargetName(HWY_TARGET);
}

}  // namespace HWY_NAMESPACE
}  // namespace ultraspeed::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ultraspeed::cpu {
namespace {

HWY_EXPORT(multiply_vectors);
HWY_EXPORT(dot_rows_vectors);
HWY_EXPORT(add_weighted_rows_vectors);
HWY_EXPORT(largest_vectors);
HWY_EXPORT(exp_and_sum_vectors);
HWY_EXPORT(silu_multiply_vectors);
HWY_EXPORT(clamped_swiglu_vectors);
HWY_EXPORT(quantize_vectors);
HWY_EXPORT(target_name);

}  // namespace

void multiply(const MatrixRows& rows, const Inputs& x, uint32_t num_inputs,
              const ProductOutput& out) {
  if (rows.matrix.layout == WeightLayout::kInt8) {
    return multiply_int8(rows, x.int8, num_inputs, out);
  }
  const bool has_vectors = rows.matrix.layout == WeightLayout::kVectors;
  if (has_vectors && rows.chunk_unit() % 16 == 0) {
    return HWY_DYNAMIC_DISPATCH(multiply_vectors)(rows, x.floats, num_inputs, out);
  }
  multiply_plain(rows, x.floats, num_inputs, out);
}

void quantize(const float* x, uint32_t count, Int8Block* blocks) {
  HWY_DYNAMIC_DISPATCH(quantize_vectors)(x, count, blocks);
}

void dot_rows(const FloatRows& rows, const float* x, size_t x_stride, uint32_t num_inputs,
              float* out, size_t out_stride) {
  if (rows.num_columns % 16 == 0) {
    return HWY_DYNAMIC_DISPATCH(dot_rows_vectors)(rows, x, x_stride, num_inputs, out, out_stride);
  }
  for (uint32_t i = 0; i < num_inputs; ++i) {
    for (uint32_t r = 0; r < rows.num_rows; ++r) {
      out[i * out_stride + r] = dot(rows.at(r), x + i * x_stride, rows.num_columns);
    }
  }
}

void add_weighted_rows(const FloatRows& rows, const float* weights, size_t weight_stride,
                       uint32_t num_outputs, float* out, size_t out_stride) {
  HWY_DYNAMIC_DISPATCH(add_weighted_rows_vectors)
  (rows, weights, weight_stride, num_outputs, out, out_stride);
}

float largest(const float* x, uint32_t count) {
  return HWY_DYNAMIC_DISPATCH(largest_vectors)(x, count);
}

float exp_and_sum(const float* x, float shift, uint32_t count, float* out) {
  return HWY_DYNAMIC_DISPATCH(exp_and_sum_vectors)(x, shift, count, out);
}

void silu_multiply(const float* gate, const float* up, uint32_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(silu_multiply_vectors)(gate, up, count, out);
}

void clamped_swiglu(float limit, float slope, const float* gate, const float* up, uint32_t count,
                    float* out) {
  HWY_DYNAMIC_DISPATCH(clamped_swiglu_vectors)(limit, slope, gate, up, count, out);
}

std::string vector_target_name() {
  return HWY_DYNAMIC_DISPATCH(target_name)();
}

}  // namespace ultraspeed::cpu
#endif
