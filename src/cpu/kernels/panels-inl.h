// Products of FP8 and MXFP4 matrices in panels of 16 rows (vector_layout.h): a vector has a column
// of 16 rows. The 16 lanes of a dot product (docs/numerics.md) are 16 vectors here, lane j the sum
// over columns j, j + 16, ... of all rows, and their tree is plain additions. Included once a
// target by kernels.cc (hence no #pragma once).
#if defined(ULTRASPEED_CPU_PANELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ULTRASPEED_CPU_PANELS_INL_H_
#undef ULTRASPEED_CPU_PANELS_INL_H_
#else
#define ULTRASPEED_CPU_PANELS_INL_H_
#endif

#include <algorithm>
#include <bit>

#include "cpu/kernels/kernels.h"
#include "cpu/kernels/lanes-inl.h"
#include "cpu/vector_layout.h"
#include "hwy/cache_control.h"
#include "tensor/mxfp4.h"
#include "tensor/weight_format.h"

HWY_BEFORE_NAMESPACE();
namespace ultraspeed::cpu {
namespace HWY_NAMESPACE {

// The codes and scales of 16 rows: kStepBytes bytes of codes for each 16 columns.
template <class Code, class Scale, size_t kStepBytes>
class PanelMemory {
 public:
  PanelMemory(const Matrix& matrix, uint32_t panel)
      : next_(matrix.cols / 16 * kStepBytes),
        codes_(reinterpret_cast<const Code*>(matrix.data) + panel * next_),
        scales_(reinterpret_cast<const Scale*>(
                    matrix.data + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols)) +
                panel * kPanelRows * tensor::scale_columns(matrix.format, matrix.cols)) {}

  // Asks for part `index` of the next panel, of which a step has kStepParts.
  template <size_t kStepParts>
  HWY_INLINE void prefetch_next(size_t index) const {
    constexpr size_t kBytes = kStepBytes / kStepParts;
    const Code* bytes = codes_ + next_ + index * kBytes;
    for (size_t i = 0; i < kBytes; i += 64) hwy::Prefetch(bytes + i);
  }

 protected:
  const Code* codes() const { return codes_; }
  const Scale* block_scales(uint32_t block) const { return scales_ + size_t{block} * kPanelRows; }

 private:
  size_t next_;  // bytes to the next panel
  const Code* codes_;
  const Scale* scales_;
};

// 16 rows of a matrix, a column at a time: column `lane` of step `step` is 16 * step + lane.
// decode<S> gives it for S steps that one load may serve: 1 or kLoadSteps, from a multiple of S on.
// start_block() comes before the steps of each block of kBlockSteps.

// Sign and the seven other bits of an e4m3 code, put where a float has them, are the code's value
// times 2^-120 (subnormals too). One product with scale * 2^120 rounds as e4m3 * scale does.
class Fp8Panel : public PanelMemory<int8_t, float, size_t{16} * kPanelRows> {
 public:
  static constexpr uint32_t kBlockSteps = tensor::kFp8BlockColumns / 16;
  static constexpr uint32_t kLoadSteps = 1;
  Fp8Panel(const Matrix& matrix, uint32_t panel) : PanelMemory(matrix, panel) {}

  HWY_INLINE void start_block(uint32_t block) {
    scale_ = load_lanes(block_scales(block));
    for (auto& part : scale_.part) part = hn::Mul(part, hn::Set(FloatTag(), 0x1p120F));
  }
  template <size_t S>
  HWY_INLINE void decode(uint32_t step, uint32_t lane, Lanes16* weights) const {
    const hn::Rebind<int8_t, FloatTag> byte;
    const auto mask = hn::Set(IntTag(), static_cast<int32_t>(0x87f00000u));
    const int8_t* column_codes = codes() + (size_t{step} * 16 + lane) * kPanelRows;
    for (size_t i = 0; i < kParts; ++i) {
      const auto column = hn::LoadU(byte, column_codes + i * kVectorLanes);
      const auto bits = hn::ShiftLeft<20>(hn::PromoteTo(IntTag(), column));
      weights[0].part[i] = hn::Mul(hn::BitCast(FloatTag(), hn::And(bits, mask)), scale_.part[i]);
    }
  }

 private:
  Lanes16 scale_ = zero_lanes();
};

class Mxfp4Panel : public PanelMemory<uint8_t, uint8_t, size_t{8} * kPanelRows> {
 public:
  static constexpr uint32_t kBlockSteps = tensor::kMxBlockColumns / 16;
  static constexpr uint32_t kLoadSteps = 2;
  Mxfp4Panel(const Matrix& matrix, uint32_t panel) : PanelMemory(matrix, panel) {}

  // e8m0 is a float's exponent; 0 stands for the subnormal 2^-127.
  HWY_INLINE void start_block(uint32_t block) {
    const hn::Rebind<uint8_t, FloatTag> byte;
    const auto least = hn::Set(IntTag(), 0x00400000);
    const uint8_t* scales = block_scales(block);
    for (size_t i = 0; i < kParts; ++i) {
      const auto exponents = hn::PromoteTo(IntTag(), hn::LoadU(byte, scales + i * kVectorLanes));
      const auto bits = hn::Max(hn::ShiftLeft<23>(exponents), least);
      scale_.part[i] = hn::Mul(hn::BitCast(FloatTag(), bits), hn::Set(FloatTag(), kScaleFactor));
    }
  }

#if HWY_TARGET == HWY_AVX3
  template <size_t S>
  HWY_INLINE void decode(uint32_t step, uint32_t lane, Lanes16* weights) const {
    const __m512 table = _mm512_loadu_ps(tensor::kE2m1Values.data());
    const auto value_of = [&](__m512i codes) HWY_ATTR __attribute__((always_inline)) {
      return FloatVector{_mm512_mul_ps(_mm512_permutexvar_ps(codes, table), scale_.part[0].raw)};
    };
    const __m512i pairs = _mm512_cvtepu8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(column_codes(step, lane))));
    if constexpr (S == 2) {
      weights[0].part[0] = value_of(pairs);
      weights[1].part[0] = value_of(_mm512_srli_epi32(pairs, 4));
    } else {
      weights[0].part[0] = value_of(step % 2 == 0 ? pairs : _mm512_srli_epi32(pairs, 4));
    }
  }
#else
  // Doubled values are small integers: a table of bytes, whose halves the scale takes in.
  template <size_t S>
  HWY_INLINE void decode(uint32_t step, uint32_t lane, Lanes16* weights) const {
    for (uint32_t i = 0; i < S; ++i) {
      HWY_ALIGN int8_t doubled[kPanelRows];
      double_values(column_codes(step, lane), (step + i) % 2 != 0, doubled);
      const hn::Rebind<int8_t, FloatTag> quarter;
      for (size_t part = 0; part < kParts; ++part) {
        const auto bytes = hn::LoadU(quarter, doubled + part * kVectorLanes);
        const auto values = hn::ConvertTo(FloatTag(), hn::PromoteTo(IntTag(), bytes));
        weights[i].part[part] = hn::Mul(values, scale_.part[part]);
      }
    }
  }
#endif

 private:
#if HWY_TARGET != HWY_AVX3
  static HWY_INLINE void double_values(const uint8_t* pairs, bool are_high, int8_t* doubled) {
    const hn::CappedTag<uint8_t, 16> byte;
    if constexpr (hn::MaxLanes(hn::CappedTag<uint8_t, 16>()) == 16) {
      HWY_ALIGN static constexpr uint8_t kDoubled[16] = {0, 1,   2,   3,   4,   6,   8,   12,
                                                         0, 255, 254, 253, 252, 250, 248, 244};
      const auto loaded = hn::LoadU(byte, pairs);
      const auto codes = are_high ? hn::ShiftRight<4>(loaded) : hn::And(loaded, hn::Set(byte, 15));
      hn::Store(hn::TableLookupBytes(hn::Load(byte, kDoubled), codes), byte,
                reinterpret_cast<uint8_t*>(doubled));
    } else {
      for (size_t i = 0; i < kPanelRows; ++i) {
        const uint32_t code = are_high ? pairs[i] >> 4u : pairs[i] & 15u;
        doubled[i] = static_cast<int8_t>(2 * tensor::kE2m1Values[code]);
      }
    }
  }
#endif

  static constexpr float kScaleFactor = HWY_TARGET == HWY_AVX3 ? 1.0F : 0.5F;

  const uint8_t* column_codes(uint32_t step, uint32_t lane) const {
    return codes() + (size_t{step} / 2 * 16 + lane) * kPanelRows;
  }

  Lanes16 scale_ = zero_lanes();
};

// The lanes of a dot product in the order in which neighbours, then neighbouring pairs, ... are
// added: lane j with j + 8, with j + 4, with j + 2, with j + 1.
constexpr uint32_t kLaneOrder[16] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

// Running sums that the registers hold beside the decoded weights.
constexpr size_t kMaxSums = kVectorLanes == 16 ? 16 : 4;
constexpr size_t kMaxInputs = kVectorLanes == 16 ? 8 : 4;

HWY_INLINE void add_scaled(const Lanes16& weights, float x, Lanes16* sum) {
  const FloatVector factor = hn::Set(FloatTag(), x);
  unrolled<kParts>([&](auto part) HWY_ATTR __attribute__((always_inline)) {
    sum->part[part] = fused_multiply_add(weights.part[part], factor, sum->part[part]);
  });
}

// J lanes, from first_lane of kLaneOrder on, of the dot products of a panel with P inputs, over
// some steps: sums[p * sums_stride]. With kAreApart the S steps of a load are summed apart, those
// of step i to sums[(i * P + p) * sums_stride]; then there is one load. J is a power of two that
// divides first_lane: the lanes are the first J of kLaneOrder, each moved by
// kLaneOrder[first_lane].
template <size_t J, size_t P, size_t S, bool kAreApart, class Panel>
HWY_INLINE void sum_lanes_of_panel(Panel& panel, size_t first_lane, uint32_t first_step,
                                   uint32_t last_step, const float* const* x, Lanes16* sums,
                                   size_t sums_stride) {
  constexpr size_t kSums = kAreApart ? S * P : P;
  constexpr size_t kGroups = 16 / J;  // each asks for its share of the next panel
  const uint32_t first = kLaneOrder[first_lane];
  Lanes16 lanes[kSums * J];
  unrolled<kSums * J>([&](auto i) HWY_ATTR
                      __attribute__((always_inline)) { lanes[i] = zero_lanes(); });
  for (uint32_t step = first_step; step < last_step;) {
    const uint32_t block = step / Panel::kBlockSteps;
    const uint32_t block_end = std::min(last_step, (block + 1) * Panel::kBlockSteps);
    panel.start_block(block);
    for (; step < block_end; step += S) {
      for (uint32_t i = 0; i < S; ++i) {
        panel.template prefetch_next<kGroups>(size_t{first_step} * kGroups +
                                              (first_lane / J) * (last_step - first_step) +
                                              (step + i - first_step));
      }
      unrolled<J>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
        constexpr uint32_t kLane = kLaneOrder[j];  // a displacement: no register of its own
        Lanes16 weights[S];
        panel.template decode<S>(step, first + kLane, weights);
        unrolled<S * P>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
          constexpr size_t p = i % P;
          const float* of_step = x[p] + (size_t{step} * 16 + first);
          add_scaled(weights[i / P], of_step[i / P * 16 + kLane], &lanes[i % kSums * J + j]);
        });
      });
    }
  }
  unrolled<kSums>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
    sums[i * sums_stride] = sum_tree<J>(lanes + i * J);
  });
}

// Rows [first, end) of a panel.
struct RowsOfPanel {
  uint32_t first, end;
  uint32_t output_row;

  HWY_INLINE void put(const Lanes16& sums, const ProductOutput& out, uint32_t input,
                      uint32_t chunk) const {
    const FloatTag tag;
    const bool is_whole = end - first == kPanelRows;
    HWY_ALIGN float values[kPanelRows];
    float* to = is_whole ? out.at(input, chunk) + output_row : values;
    for (size_t i = 0; i < kParts; ++i) {
      FloatVector part = sums.part[i];
      if (is_whole && out.weights != nullptr) {
        const auto there = hn::LoadU(tag, to + i * kVectorLanes);
        part = fused_multiply_add(hn::Set(tag, out.weights[input]), part, there);
      }
      hn::StoreU(part, tag, to + i * kVectorLanes);
    }
    if (!is_whole) out.put(input, chunk, output_row, values + first, end - first);
  }
};

// All rows times P inputs from `input` on, S steps a load. With kAreApart each of them is a chunk.
template <class Panel, size_t P, size_t S, bool kAreApart>
HWY_NOINLINE void multiply_panels_inputs(const MatrixRows& rows, const float* const* x,
                                         uint32_t input, const ProductOutput& out) {
  constexpr uint32_t kChunks = kAreApart ? S : 1;
  constexpr uint32_t kInputs = P;
  constexpr size_t kSums = kChunks * P;
  constexpr size_t kAtOnce = std::bit_floor(std::max(kMaxSums / kSums, size_t{1}));
  constexpr size_t kGroups = 16 / kAtOnce;
  const uint32_t rows_end = rows.row + rows.num_rows;
  for (uint32_t row = rows.row; row < rows_end;) {
    const uint32_t first = row / kPanelRows * kPanelRows;
    const uint32_t end = std::min(first + kPanelRows, rows_end);
    const RowsOfPanel place{row - first, end - first, row - rows.row};
    Panel panel(rows.matrix, row / kPanelRows);
    for (uint32_t chunk = 0; chunk < rows.num_chunks; chunk += kChunks) {
      const uint32_t step = rows.chunk_begin(chunk) / 16;
      const uint32_t end_step = rows.chunk_begin(chunk + kChunks) / 16;
      Lanes16 sums[kSums * kGroups];
      for (size_t group = 0; group < kGroups; ++group) {
        sum_lanes_of_panel<kAtOnce, P, S, kAreApart>(panel, group * kAtOnce, step, end_step,
                                                     x + input, sums + group, kGroups);
      }
      for (uint32_t i = 0; i < kSums; ++i) {
        place.put(sum_tree<kGroups>(sums + i * kGroups), out, input + i % kInputs,
                  chunk + i / kInputs);
      }
    }
    row = end;
  }
}

template <class Panel, size_t P>
HWY_INLINE void multiply_panels_chunks(const MatrixRows& rows, const float* const* x,
                                       uint32_t input, const ProductOutput& out) {
  const uint32_t chunk_steps = rows.chunk_unit() / 16;
  if (chunk_steps % Panel::kLoadSteps == 0) {
    return multiply_panels_inputs<Panel, P, Panel::kLoadSteps, false>(rows, x, input, out);
  }
  if constexpr (P * Panel::kLoadSteps <= kMaxSums / 2) {  // more spill
    if (chunk_steps == 1 && rows.num_chunks % Panel::kLoadSteps == 0) {
      return multiply_panels_inputs<Panel, P, Panel::kLoadSteps, true>(rows, x, input, out);
    }
  }
  multiply_panels_inputs<Panel, P, 1, false>(rows, x, input, out);
}

// As many inputs at once as fit share the decoding of a weight.
template <class Panel, size_t P = 1>
HWY_INLINE void multiply_panels_rest(const MatrixRows& rows, const float* const* x,
                                     uint32_t num_inputs, uint32_t input,
                                     const ProductOutput& out) {
  if constexpr (P < kMaxInputs) {
    if (num_inputs - input > P) {
      return multiply_panels_rest<Panel, P + 1>(rows, x, num_inputs, input, out);
    }
  }
  multiply_panels_chunks<Panel, P>(rows, x, input, out);
}

template <class Panel>
HWY_INLINE void multiply_panels(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                                const ProductOutput& out) {
  for (uint32_t input = 0; input < num_inputs; input += kMaxInputs) {
    multiply_panels_rest<Panel>(rows, x, num_inputs, input, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ultraspeed::cpu
HWY_AFTER_NAMESPACE();

#endif
