// Sixteen float lanes in as many vectors as the target needs, and rows of F32 and BF16 matrices as
// such. Included once a target by kernels.cc (hence no #pragma once).
#if defined(ULTRASPEED_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ULTRASPEED_CPU_LANES_INL_H_
#undef ULTRASPEED_CPU_LANES_INL_H_
#else
#define ULTRASPEED_CPU_LANES_INL_H_
#endif

#include <cmath>
#include <type_traits>
#include <utility>

#include "cpu/machine.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ultraspeed::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;
using IntTag = hn::RebindToSigned<FloatTag>;
using FloatVector = hn::Vec<FloatTag>;
using IntVector = hn::Vec<IntTag>;

constexpr size_t kVectorLanes = hn::MaxLanes(FloatTag());
constexpr size_t kParts = 16 / kVectorLanes;

struct Lanes16 {
  FloatVector part[kParts];
};

HWY_INLINE Lanes16 zero_lanes() {
  Lanes16 lanes;
  for (auto& part : lanes.part) part = hn::Zero(FloatTag());
  return lanes;
}

HWY_INLINE Lanes16 load_lanes(const float* values) {
  Lanes16 lanes;
  for (size_t i = 0; i < kParts; ++i) {
    lanes.part[i] = hn::LoadU(FloatTag(), values + i * kVectorLanes);
  }
  return lanes;
}

// a * b + sum, rounded once. Targets without the instruction take the C library's, slowly.
HWY_INLINE FloatVector fused_multiply_add(FloatVector a, FloatVector b, FloatVector sum) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
  return hn::MulAdd(a, b, sum);
#else
  HWY_ALIGN float lanes[3][kVectorLanes];
  hn::Store(a, FloatTag(), lanes[0]);
  hn::Store(b, FloatTag(), lanes[1]);
  hn::Store(sum, FloatTag(), lanes[2]);
  for (size_t i = 0; i < kVectorLanes; ++i) {
    lanes[0][i] = std::fma(lanes[0][i], lanes[1][i], lanes[2][i]);
  }
  return hn::Load(FloatTag(), lanes[0]);
#endif
}

HWY_INLINE void add_product(const Lanes16& a, const Lanes16& b, Lanes16* sum) {
  for (size_t i = 0; i < kParts; ++i) {
    sum->part[i] = fused_multiply_add(a.part[i], b.part[i], sum->part[i]);
  }
}

// Lane j with j + 8, with j + 4, with j + 2, with j + 1.
HWY_INLINE float sum_of_lanes(const Lanes16& lanes) {
  HWY_ALIGN float values[16];
  for (size_t i = 0; i < kParts; ++i) {
    hn::Store(lanes.part[i], FloatTag(), values + i * kVectorLanes);
  }
  const hn::CappedTag<float, 4> quad;
  constexpr size_t kQuad = hn::MaxLanes(hn::CappedTag<float, 4>());
  HWY_ALIGN float sums[4];
  for (size_t i = 0; i < 4; i += kQuad) {
    const auto low = hn::Add(hn::Load(quad, values + i), hn::Load(quad, values + 8 + i));
    const auto high = hn::Add(hn::Load(quad, values + 4 + i), hn::Load(quad, values + 12 + i));
    hn::Store(hn::Add(low, high), quad, sums + i);
  }
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// f(0), ..., f(N - 1) with constants, so that arrays that they index stay in registers.
template <size_t N, class Function>
HWY_INLINE void unrolled(Function f) {
  [&]<size_t... I>(std::index_sequence<I...>) HWY_ATTR __attribute__((always_inline)) {
    (f(std::integral_constant<size_t, I>()), ...);
  }
  (std::make_index_sequence<N>());
}

// The sum of lanes[0], ..., lanes[N - 1], neighbours first.
template <size_t N>
HWY_INLINE Lanes16 sum_tree(const Lanes16* lanes) {
  if constexpr (N == 1) {
    return lanes[0];
  } else {
    Lanes16 sum = sum_tree<N / 2>(lanes);
    const Lanes16 right = sum_tree<N / 2>(lanes + N / 2);
    unrolled<kParts>([&](auto part) HWY_ATTR __attribute__((always_inline)) {
      sum.part[part] = hn::Add(sum.part[part], right.part[part]);
    });
    return sum;
  }
}

// The sums of four.
#if HWY_TARGET == HWY_AVX3
HWY_INLINE void sum_four(const Lanes16& a, const Lanes16& b, const Lanes16& c, const Lanes16& d,
                         float* out) {
  const auto halves = [](__m512 x, __m512 y) {  // quarters: x0+x2, x1+x3, y0+y2, y1+y3
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
  };
  const __m512 ab = halves(a.part[0].raw, b.part[0].raw);
  const __m512 cd = halves(c.part[0].raw, d.part[0].raw);
  __m512 sums =
      _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0x4e));
  sums = _mm512_add_ps(sums, _mm512_permute_ps(sums, 0xb1));
  const __m512i first_of_quarter =
      _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_quarter, sums)));
}
#else
HWY_INLINE void sum_four(const Lanes16& a, const Lanes16& b, const Lanes16& c, const Lanes16& d,
                         float* out) {
  out[0] = sum_of_lanes(a);
  out[1] = sum_of_lanes(b);
  out[2] = sum_of_lanes(c);
  out[3] = sum_of_lanes(d);
}
#endif

// A row of each format, read 16 columns ("a step") at a time. start_block() comes before the steps
// of each block of kBlockSteps.

class F32Row {
 public:
  static constexpr uint32_t kBlockSteps = 64;
  F32Row() = default;
  explicit F32Row(const float* values) : values_(values) {}
  F32Row(const Matrix& matrix, uint32_t row)
      : values_(reinterpret_cast<const float*>(matrix.data) + size_t{row} * matrix.cols) {}

  HWY_INLINE void start_block(uint32_t) {}
  HWY_INLINE Lanes16 decode(uint32_t step) const { return load_lanes(values_ + size_t{step} * 16); }

 private:
  const float* values_ = nullptr;
};

class Bf16Row {
 public:
  static constexpr uint32_t kBlockSteps = 64;
  Bf16Row() = default;
  Bf16Row(const Matrix& matrix, uint32_t row)
      : values_(reinterpret_cast<const uint16_t*>(matrix.data) + size_t{row} * matrix.cols) {}

  HWY_INLINE void start_block(uint32_t) {}
  HWY_INLINE Lanes16 decode(uint32_t step) const {
    const hn::Rebind<uint16_t, FloatTag> half;
    const hn::RebindToUnsigned<FloatTag> full;
    Lanes16 lanes;
    for (size_t i = 0; i < kParts; ++i) {
      const auto bits = hn::LoadU(half, values_ + size_t{step} * 16 + i * kVectorLanes);
      lanes.part[i] = hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(full, bits)));
    }
    return lanes;
  }

 private:
  const uint16_t* values_ = nullptr;
};

}  // namespace HWY_NAMESPACE
}  // namespace ultraspeed::cpu
HWY_AFTER_NAMESPACE();

#endif
