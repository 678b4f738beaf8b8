// Products of matrices in the int8 layout with AVX-512 VNNI: VPDPBUSD adds four columns of 16 rows
// times the same four of an input, broadcast from memory. It wants its first
// factor unsigned: weights are biased by kInt8Bias, and a sum starts at what that adds too much.
#if defined(__x86_64__)
#include "hwy/base.h"
// GCC 12 warns of the deliberately undefined values in its own header.
HWY_DIAGNOSTICS(push)
#if HWY_COMPILER_GCC_ACTUAL
HWY_DIAGNOSTICS_OFF(disable : 4703, ignored "-Wmaybe-uninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wuninitialized")
#endif
#include <immintrin.h>
HWY_DIAGNOSTICS(pop)

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/kernels/int8.h"
#include "cpu/vector_layout.h"

#define ULTRASPEED_AVX512_SETS "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni"
// Lambdas do not take it from the pragma.
#define ULTRASPEED_AVX512 __attribute__((target(ULTRASPEED_AVX512_SETS)))

HWY_PUSH_ATTRIBUTES(ULTRASPEED_AVX512_SETS);

namespace ultraspeed::cpu {
namespace {

// More share the decoding of a weight; their sums and the weights fit the 32 registers.
constexpr uint32_t kAvx512Inputs = 8;

// How far ahead of their use weights are asked for, into the second-level cache: the first has
// fewer lines in flight than memory needs to give what it can.
constexpr size_t kAvx512AheadBytes = 4096;

// f(0), ..., f(N - 1) with constants, so that arrays that they index stay in registers.
template <class Function, size_t... I>
[[gnu::always_inline]] inline void unroll(std::index_sequence<I...> /*indices*/, Function f) {
  (f(std::integral_constant<size_t, I>()), ...);
}

// 16 rows of an FP8 matrix. decode(block, pair) gives columns 8 * pair to 8 * pair + 7 of a block.
class Fp8Avx512 {
 public:
  static constexpr uint32_t kBlockBytes = kPanelRows * kInt8BlockColumns;
  Fp8Avx512(const uint8_t* codes, const std::byte* scales, uint64_t first_block)
      : codes_(codes + first_block * kBlockBytes),
        scales_(scales + first_block * kPanelRows * sizeof(float)) {}

  [[gnu::always_inline]] void decode(uint32_t block, size_t pair, __m512i* weights) const {
    const uint8_t* from = codes_ + size_t{block} * kBlockBytes + pair * 128;
    _mm_prefetch(from + kAvx512AheadBytes, _MM_HINT_T1);
    _mm_prefetch(from + kAvx512AheadBytes + 64, _MM_HINT_T1);
    weights[0] = _mm512_loadu_si512(from);
    weights[1] = _mm512_loadu_si512(from + 64);
  }
  [[gnu::always_inline]] __m512 scale(uint32_t block) const {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(scales_) + size_t{block} * kPanelRows);
  }

 private:
  const uint8_t* codes_;
  const std::byte* scales_;
};

// The same of an MXFP4 matrix. VPERMB looks up the low 6 bits of a byte; two of them do not count.
class Mxfp4Avx512 {
 public:
  static constexpr uint32_t kBlockBytes = kPanelRows * kInt8BlockColumns / 2;
  Mxfp4Avx512(const uint8_t* codes, const std::byte* scales, uint64_t first_block)
      : codes_(codes + first_block * kBlockBytes), scales_(scales + first_block * kPanelRows) {}

  [[gnu::always_inline]] void decode(uint32_t block, size_t pair, __m512i* weights) const {
    const uint8_t* from = codes_ + size_t{block} * kBlockBytes + pair * 64;
    _mm_prefetch(from + kAvx512AheadBytes, _MM_HINT_T1);
    const __m512i pairs = _mm512_loadu_si512(from);
    weights[0] = _mm512_permutexvar_epi8(pairs, table_);
    weights[1] = _mm512_permutexvar_epi8(_mm512_srli_epi16(pairs, 4), table_);
  }
  [[gnu::always_inline]] __m512 scale(uint32_t block) const {
    const auto* from = reinterpret_cast<const __m128i*>(scales_) + block;
    const __m512i exponents = _mm512_cvtepu8_epi32(_mm_loadu_si128(from));
    const __m512i least = _mm512_set1_epi32(0x00400000);  // 2^-127, which code 0 stands for
    const __m512i bits = _mm512_max_epi32(_mm512_slli_epi32(exponents, 23), least);
    return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0.5F));
  }

 private:
  // Twice the e2m1 values, biased.
  static __m512i biased_table() {
    return _mm512_broadcast_i32x4(
        _mm_setr_epi8(static_cast<char>(128), static_cast<char>(129), static_cast<char>(130),
                      static_cast<char>(131), static_cast<char>(132), static_cast<char>(134),
                      static_cast<char>(136), static_cast<char>(140), static_cast<char>(128), 127,
                      126, 125, 124, 122, 120, 116));
  }

  const uint8_t* codes_;
  const std::byte* scales_;
  __m512i table_ = biased_table();
};

// Adds columns [8 * first_pair, 8 * (first_pair + kPairs)) of a block, whose scales are given, to
// the sums of P inputs.
template <size_t P, size_t kPairs, class Panel>
[[gnu::always_inline]] inline void add_piece(const Panel& panel, uint32_t block, size_t first_pair,
                                             __m512 scale, const Int8Block* const* x,
                                             __m512* sums) {
  constexpr bool kIsWhole = kPairs * 8 == kInt8BlockColumns;
  __m512i dots[P];
  unroll(std::make_index_sequence<P>(), [&](auto p) ULTRASPEED_AVX512 {
    const Int8Block& input = x[p][block];
    dots[p] = _mm512_set1_epi32(kIsWhole ? input.offset : input.half_offsets[first_pair / kPairs]);
  });
  unroll(std::make_index_sequence<kPairs>(), [&](auto pair) ULTRASPEED_AVX512 {
    __m512i weights[2];
    panel.decode(block, first_pair + pair, weights);
    unroll(std::make_index_sequence<2 * P>(), [&](auto i) ULTRASPEED_AVX512 {
      constexpr size_t p = i % P;
      const int8_t* four = x[p][block].codes + (first_pair + pair) * 8 + i / P * 4;
      int32_t codes = 0;
      std::memcpy(&codes, four, sizeof(codes));
      dots[p] = _mm512_dpbusd_epi32(dots[p], weights[i / P], _mm512_set1_epi32(codes));
    });
  });
  unroll(std::make_index_sequence<P>(), [&](auto p) ULTRASPEED_AVX512 {
    const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x[p][block].scale));
    sums[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[p]), factor, sums[p]);
  });
}

// Rows [first, end) of the product's rows in one panel.
struct PanelRows {
  uint32_t first, end;  // within the panel
  uint32_t output_row;

  bool is_whole() const { return end - first == kPanelRows; }
  [[gnu::always_inline]] void put(__m512 sums, const ProductOutput& out, uint32_t input,
                                  uint32_t chunk) const {
    if (is_whole()) return put_whole(sums, out.weights, input, out.at(input, chunk) + output_row);
    float values[kPanelRows];
    _mm512_storeu_ps(values, sums);
    out.put(input, chunk, output_row, values + first, end - first);
  }
  [[gnu::always_inline]] static void put_whole(__m512 sums, const float* weights, size_t input,
                                               float* to) {
    if (weights != nullptr) {
      sums = _mm512_fmadd_ps(_mm512_set1_ps(weights[input]), sums, _mm512_loadu_ps(to));
    }
    _mm512_storeu_ps(to, sums);
  }
};

// A panel times P inputs from `input` on, in pieces of 32 columns or, if kAreHalves, of 16.
template <bool kAreHalves, size_t P, class Panel>
[[gnu::noinline]] void multiply_panel(const Panel& panel, const PanelRows& place,
                                      const MatrixRows& rows, const Int8Block* const* x,
                                      uint32_t input, const ProductOutput& out) {
  constexpr uint32_t kPieceColumns = kAreHalves ? 16 : 32;
  [[maybe_unused]] __m512 scale = _mm512_setzero_ps();  // of the block that has the last half
  for (uint32_t chunk = 0; chunk < rows.num_chunks; ++chunk) {
    __m512 sums[P];
    unroll(std::make_index_sequence<P>(),
           [&](auto p) ULTRASPEED_AVX512 { sums[p] = _mm512_setzero_ps(); });
    const uint32_t end = rows.chunk_begin(chunk + 1) / kPieceColumns;
    for (uint32_t piece = rows.chunk_begin(chunk) / kPieceColumns; piece < end; ++piece) {
      if constexpr (kAreHalves) {
        if (piece % 2 == 0) scale = panel.scale(piece / 2);
        add_piece<P, 2>(panel, piece / 2, piece % 2 * 2, scale, x + input, sums);
      } else {
        add_piece<P, 4>(panel, piece, 0, panel.scale(piece), x + input, sums);
      }
    }
    unroll(std::make_index_sequence<P>(), [&](auto p) ULTRASPEED_AVX512 {
      place.put(sums[p], out, input + static_cast<uint32_t>(p), chunk);
    });
  }
}

// The same where each half is a chunk: of 16 columns, so that what comes around them counts.
template <size_t P, class Panel>
[[gnu::noinline]] void multiply_half_chunks(const Panel& panel, const PanelRows& place,
                                            const MatrixRows& rows, const Int8Block* const* x,
                                            uint32_t input, const ProductOutput& out) {
  // Copies, which no store can change, stay in registers.
  const Panel local = panel;
  const Int8Block* inputs[P];
  float* to[P];
  unroll(std::make_index_sequence<P>(), [&](auto p) ULTRASPEED_AVX512 {
    inputs[p] = x[input + p];
    to[p] = out.at(input + static_cast<uint32_t>(p), 0) + place.output_row;
  });
  const float* weights = out.weights == nullptr ? nullptr : out.weights + input;
  const size_t stride = out.chunk_stride;
  const uint32_t blocks = rows.matrix.cols / kInt8BlockColumns;
  for (uint32_t block = 0; block < blocks; ++block) {
    const __m512 scale = local.scale(block);
    unroll(std::make_index_sequence<2>(), [&](auto half) ULTRASPEED_AVX512 {
      __m512 sums[P];
      unroll(std::make_index_sequence<P>(),
             [&](auto p) ULTRASPEED_AVX512 { sums[p] = _mm512_setzero_ps(); });
      add_piece<P, 2>(local, block, half * 2, scale, inputs, sums);
      unroll(std::make_index_sequence<P>(), [&](auto p) ULTRASPEED_AVX512 {
        PanelRows::put_whole(sums[p], weights, p, to[p]);
        to[p] += stride;
      });
    });
  }
}

// The inputs from `input` on, at most kAvx512Inputs of them.
template <bool kAreHalves, size_t P = 1, class Panel>
void multiply_some(const Panel& panel, const PanelRows& place, const MatrixRows& rows,
                   const Int8Block* const* x, uint32_t num_inputs, uint32_t input,
                   const ProductOutput& out) {
  if constexpr (P < kAvx512Inputs) {
    if (num_inputs - input > P) {
      return multiply_some<kAreHalves, P + 1>(panel, place, rows, x, num_inputs, input, out);
    }
  }
  const bool are_chunks = rows.chunk_unit() == kInt8BlockColumns / 2;
  if (kAreHalves && are_chunks && place.is_whole()) {
    return multiply_half_chunks<P>(panel, place, rows, x, input, out);
  }
  multiply_panel<kAreHalves, P>(panel, place, rows, x, input, out);
}

// A panel stays in the first-level cache for all inputs.
template <bool kAreHalves, class Panel>
void multiply_all(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                  const ProductOutput& out) {
  const Int8Parts parts = int8_parts(rows.matrix);
  const uint32_t rows_end = rows.row + rows.num_rows;
  for (uint32_t row = rows.row; row < rows_end;) {
    const uint32_t first = row / kPanelRows * kPanelRows;
    const uint32_t end = std::min(first + kPanelRows, rows_end);
    const Panel panel(parts.codes, parts.scales, row / kPanelRows * parts.blocks);
    const PanelRows place{row - first, end - first, row - rows.row};
    for (uint32_t input = 0; input < num_inputs; input += kAvx512Inputs) {
      multiply_some<kAreHalves>(panel, place, rows, x, num_inputs, input, out);
    }
    row = end;
  }
}

}  // namespace

void multiply_int8_avx512(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                          const ProductOutput& out) {
  const bool are_halves = int8_piece_columns(rows) != kInt8BlockColumns;
  if (rows.matrix.format == tensor::WeightFormat::kFp8Block128) {
    return are_halves ? multiply_all<true, Fp8Avx512>(rows, x, num_inputs, out)
                      : multiply_all<false, Fp8Avx512>(rows, x, num_inputs, out);
  }
  return are_halves ? multiply_all<true, Mxfp4Avx512>(rows, x, num_inputs, out)
                    : multiply_all<false, Mxfp4Avx512>(rows, x, num_inputs, out);
}

#undef ULTRASPEED_AVX512
#undef ULTRASPEED_AVX512_SETS

}  // namespace ultraspeed::cpu

HWY_POP_ATTRIBUTES;
#endif
