// Sixteen float lanes in as many vectors as the target needs, and the rows of packed matrices as
// such. Included once a target by kernels.cc (hence no #pragma once).
#if defined(ULTRASPEED_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ULTRASPEED_CPU_LANES_INL_H_
#undef ULTRASPEED_CPU_LANES_INL_H_
#else
#define ULTRASPEED_CPU_LANES_INL_H_
#endif

#include <cmath>

#include "cpu/machine.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "tensor/mxfp4.h"
#include "tensor/weight_format.h"

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

// Rows lie one after the other, and a tile reads several at once, each for a few cache lines: too
// short for the processor to see the direction. This far ahead is asked for.
constexpr size_t kPrefetchBytes = 4096;

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

// Sign and the seven other bits of an e4m3 code, put where a float has them, are the code's value
// times 2^-120 (subnormals too). One product with scale * 2^120 rounds as e4m3 * scale does.
class Fp8Row {
 public:
  static constexpr uint32_t kBlockSteps = tensor::kFp8BlockColumns / 16;
  Fp8Row() = default;
  Fp8Row(const Matrix& matrix, uint32_t row) {
    const auto* bytes = reinterpret_cast<const int8_t*>(matrix.data);
    codes_ = bytes + size_t{row} * matrix.cols;
    scales_ = reinterpret_cast<const float*>(
                  bytes + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols)) +
              row * tensor::scale_columns(matrix.format, matrix.cols);
  }

  HWY_INLINE void start_block(uint32_t block) {
    const int8_t* ahead = codes_ + size_t{block} * tensor::kFp8BlockColumns + kPrefetchBytes;
    hwy::Prefetch(ahead);
    hwy::Prefetch(ahead + 64);
    scale_ = hn::Set(FloatTag(), scales_[block] * 0x1p120F);
  }
  HWY_INLINE Lanes16 decode(uint32_t step) const {
    const hn::Rebind<int8_t, FloatTag> byte;
    const auto mask = hn::Set(IntTag(), static_cast<int32_t>(0x87f00000u));
    Lanes16 lanes;
    for (size_t i = 0; i < kParts; ++i) {
      const auto codes = hn::LoadU(byte, codes_ + size_t{step} * 16 + i * kVectorLanes);
      const auto bits = hn::ShiftLeft<20>(hn::PromoteTo(IntTag(), codes));
      lanes.part[i] = hn::Mul(hn::BitCast(FloatTag(), hn::And(bits, mask)), scale_);
    }
    return lanes;
  }

 private:
  const int8_t* codes_ = nullptr;
  const float* scales_ = nullptr;
  FloatVector scale_ = hn::Zero(FloatTag());
};

// Byte i of a block has columns i (low nibble) and i + 16 (Machine splits them so when it loads).
class Mxfp4Row {
 public:
  static constexpr uint32_t kBlockSteps = tensor::kMxBlockColumns / 16;
  Mxfp4Row() = default;
  Mxfp4Row(const Matrix& matrix, uint32_t row) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(matrix.data);
    codes_ = bytes + size_t{row} * (matrix.cols / 2);
    scales_ = bytes + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols) +
              row * tensor::scale_columns(matrix.format, matrix.cols);
  }

  HWY_INLINE void start_block(uint32_t block) {
    if (block % 4 == 0) hwy::Prefetch(codes_ + size_t{block} * 16 + kPrefetchBytes);
    const FloatVector scale = hn::Set(FloatTag(), tensor::kE8m0Values[scales_[block]]);
#if HWY_TARGET == HWY_AVX3
    table_ = hn::Mul(hn::LoadU(FloatTag(), tensor::kE2m1Values.data()), scale);
    const hn::Rebind<uint8_t, FloatTag> byte;
    pairs_ = hn::PromoteTo(IntTag(), hn::LoadU(byte, codes_ + size_t{block} * 16));
#else
    scale_ = hn::Mul(scale, hn::Set(FloatTag(), 0.5F));
    block_codes_ = codes_ + size_t{block} * 16;
#endif
  }

#if HWY_TARGET == HWY_AVX3
  HWY_INLINE Lanes16 decode(uint32_t step) const {
    const __m512i codes = step % 2 == 0 ? pairs_.raw : _mm512_srli_epi32(pairs_.raw, 4);
    Lanes16 lanes;
    lanes.part[0] = FloatVector{_mm512_permutexvar_ps(codes, table_.raw)};
    return lanes;
  }
#else
  // Doubled values are small integers: a table of bytes, whose halves the scale takes in.
  HWY_INLINE Lanes16 decode(uint32_t step) const {
    const hn::CappedTag<uint8_t, 16> byte;
    constexpr size_t kBytes = hn::MaxLanes(hn::CappedTag<uint8_t, 16>());
    HWY_ALIGN int8_t doubled[16];
    if constexpr (kBytes == 16) {
      HWY_ALIGN static constexpr uint8_t kDoubled[16] = {0, 1,   2,   3,   4,   6,   8,   12,
                                                         0, 255, 254, 253, 252, 250, 248, 244};
      const auto pairs = hn::LoadU(byte, block_codes_);
      const auto codes =
          step % 2 == 0 ? hn::And(pairs, hn::Set(byte, 15)) : hn::ShiftRight<4>(pairs);
      hn::Store(hn::TableLookupBytes(hn::Load(byte, kDoubled), codes), byte,
                reinterpret_cast<uint8_t*>(doubled));
    } else {
      for (size_t i = 0; i < 16; ++i) {
        const uint32_t code = step % 2 == 0 ? block_codes_[i] & 15u : block_codes_[i] >> 4u;
        doubled[i] = static_cast<int8_t>(2 * tensor::kE2m1Values[code]);
      }
    }
    const hn::Rebind<int8_t, FloatTag> quarter;
    Lanes16 lanes;
    for (size_t i = 0; i < kParts; ++i) {
      const auto values = hn::PromoteTo(IntTag(), hn::LoadU(quarter, doubled + i * kVectorLanes));
      lanes.part[i] = hn::Mul(hn::ConvertTo(FloatTag(), values), scale_);
    }
    return lanes;
  }
#endif

 private:
  const uint8_t* codes_ = nullptr;
  const uint8_t* scales_ = nullptr;
#if HWY_TARGET == HWY_AVX3
  FloatVector table_ = hn::Zero(FloatTag());  // the 16 values times the block's scale
  IntVector pairs_ = hn::Zero(IntTag());      // a byte of codes a lane
#else
  FloatVector scale_ = hn::Zero(FloatTag());
  const uint8_t* block_codes_ = nullptr;
#endif
};

}  // namespace HWY_NAMESPACE
}  // namespace ultraspeed::cpu
HWY_AFTER_NAMESPACE();

#endif
