// quantize() of int8.h in vectors. Included once a target by kernels.cc (hence no #pragma once).
#if defined(ULTRASPEED_CPU_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ULTRASPEED_CPU_QUANTIZE_INL_H_
#undef ULTRASPEED_CPU_QUANTIZE_INL_H_
#else
#define ULTRASPEED_CPU_QUANTIZE_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <limits>

#include "cpu/kernels/int8.h"
#include "cpu/kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ultraspeed::cpu {
namespace HWY_NAMESPACE {

// The largest magnitude of 32 elements: of positive floats the bits compare as the values do, and
// those of infinity and NaN are larger than all others.
HWY_INLINE uint32_t largest_magnitude_bits(const float* x) {
  const auto magnitude = hn::Set(IntTag(), 0x7fffffff);
  IntVector most = hn::Zero(IntTag());
  for (size_t i = 0; i < kInt8BlockColumns; i += kVectorLanes) {
    const auto bits = hn::BitCast(IntTag(), hn::LoadU(FloatTag(), x + i));
    most = hn::Max(most, hn::And(bits, magnitude));
  }
  return static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(IntTag(), most)));
}

// codes[0, 16) = x * inverse rounded; returns their sum.
HWY_INLINE int32_t round_sixteen(const float* x, float inverse, int8_t* codes) {
  const hn::Rebind<int8_t, FloatTag> byte;
  IntVector sum = hn::Zero(IntTag());
  for (size_t i = 0; i < 16; i += kVectorLanes) {
    const FloatVector scaled = hn::Mul(hn::LoadU(FloatTag(), x + i), hn::Set(FloatTag(), inverse));
    const IntVector rounded = hn::NearestInt(scaled);
    sum = hn::Add(sum, rounded);
    hn::StoreU(hn::DemoteTo(byte, rounded), byte, codes + i);
  }
  return hn::GetLane(hn::SumOfLanes(IntTag(), sum));
}

void quantize_vectors(const float* x, uint32_t count, Int8Block* blocks) {
  for (uint32_t begin = 0; begin < count; begin += kInt8BlockColumns, ++blocks) {
    const uint32_t bits = largest_magnitude_bits(x + begin);
    const auto most = std::bit_cast<float>(bits);
    constexpr uint32_t kInfinityBits = 0x7f800000;
    if (bits >= kInfinityBits || most < kLeastInt8Magnitude) {
      *blocks = {};
      if (bits >= kInfinityBits) blocks->scale = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    blocks->scale = most / 127;
    for (size_t half = 0; half < 2; ++half) {
      const int32_t sum =
          round_sixteen(x + begin + half * 16, 127 / most, blocks->codes + half * 16);
      blocks->half_offsets[half] = -kInt8Bias * sum;
    }
    blocks->offset = blocks->half_offsets[0] + blocks->half_offsets[1];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ultraspeed::cpu
HWY_AFTER_NAMESPACE();

#endif
