// Products of matrices in the int8 layout with AVX2. VPMADDUBSW adds two products of an unsigned
// and a signed byte in 16 bits, saturating: it gets the magnitudes of the weights and the inputs
// with the weights' signs, at most 2 * 127 * 127 = 32258 < 2^15, so nothing saturates.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/int8.h"
#include "cpu/vector_layout.h"
#include "hwy/base.h"

HWY_PUSH_ATTRIBUTES("avx2,fma");

namespace ultraspeed::cpu {
namespace {

// So many share the decoding of a weight; the 16 registers hold their sums.
constexpr uint32_t kAvx2Inputs = 4;
// Half a panel.
constexpr uint32_t kAvx2Rows = 8;

// Four neighbouring columns of 8 rows: the codes of the FP8 and MXFP4 forms.
struct Fp8Avx2 {
  static constexpr uint32_t kScaleBytes = sizeof(float);
  static constexpr uint32_t kBlockBytes = kPanelRows * kInt8BlockColumns;

  static __m256i decode(const uint8_t* block, uint32_t quad) {
    const auto* from = reinterpret_cast<const __m256i*>(block + quad * 64);
    return _mm256_xor_si256(_mm256_loadu_si256(from), _mm256_set1_epi8(static_cast<char>(128)));
  }
  static __m256 scale(const std::byte* scales) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(scales));
  }
};

struct Mxfp4Avx2 {
  static constexpr uint32_t kScaleBytes = 1;
  static constexpr uint32_t kBlockBytes = kPanelRows * kInt8BlockColumns / 2;

  static __m256i decode(const uint8_t* block, uint32_t quad) {
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    const auto* from = reinterpret_cast<const __m256i*>(block + quad / 2 * 64);
    const __m256i pairs = _mm256_loadu_si256(from);
    const __m256i codes = quad % 2 == 0 ? pairs : _mm256_srli_epi16(pairs, 4);
    return _mm256_shuffle_epi8(table, _mm256_and_si256(codes, _mm256_set1_epi8(15)));
  }
  static __m256 scale(const std::byte* scales) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales));
    const __m256i least = _mm256_set1_epi32(0x00400000);  // 2^-127, which code 0 stands for
    const __m256i exponents = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
    const __m256i bits = _mm256_max_epi32(exponents, least);
    return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5F));
  }
};

// Adds columns [4 * first_quad, 4 * (first_quad + num_quads)) of a block to the sums of P inputs.
template <class Format, size_t P>
[[gnu::always_inline]] inline void add_piece_avx2(const uint8_t* codes, const std::byte* scales,
                                                  uint32_t first_quad, uint32_t num_quads,
                                                  const Int8Block* const* x, uint32_t block,
                                                  __m256* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i dots[P];
#pragma GCC unroll 4
  for (size_t p = 0; p < P; ++p) dots[p] = _mm256_setzero_si256();
  for (uint32_t quad = first_quad; quad < first_quad + num_quads; ++quad) {
    const __m256i weights = Format::decode(codes, quad);
    const __m256i magnitudes = _mm256_abs_epi8(weights);
#pragma GCC unroll 4
    for (size_t p = 0; p < P; ++p) {
      int32_t four = 0;
      std::memcpy(&four, x[p][block].codes + quad * 4, sizeof(four));
      const __m256i signed_inputs = _mm256_sign_epi8(_mm256_set1_epi32(four), weights);
      const __m256i pairs = _mm256_maddubs_epi16(magnitudes, signed_inputs);
      dots[p] = _mm256_add_epi32(dots[p], _mm256_madd_epi16(pairs, ones));
    }
  }
  const __m256 scale = Format::scale(scales);
#pragma GCC unroll 4
  for (size_t p = 0; p < P; ++p) {
    const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(x[p][block].scale));
    sums[p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[p]), factor, sums[p]);
  }
}

// What a call of multiply_half_panel() is about.
struct HalfPanel {
  const uint8_t* codes;     // of its first block, from its first row on
  const std::byte* scales;  // likewise
  uint32_t first, end;      // rows of the half
  uint32_t output_row;      // of row `first`
};

template <class Format, size_t P>
[[gnu::noinline]] void multiply_half_panel(const HalfPanel& half, const MatrixRows& rows,
                                           const Int8Block* const* x, uint32_t input,
                                           const ProductOutput& out) {
  const uint32_t piece_columns = int8_piece_columns(rows);
  for (uint32_t chunk = 0; chunk < rows.num_chunks; ++chunk) {
    __m256 sums[P];
    for (auto& sum : sums) sum = _mm256_setzero_ps();
    const uint32_t end = rows.chunk_begin(chunk + 1);
    for (uint32_t column = rows.chunk_begin(chunk); column < end; column += piece_columns) {
      const uint32_t block = column / kInt8BlockColumns;
      add_piece_avx2<Format, P>(half.codes + size_t{block} * Format::kBlockBytes,
                                half.scales + size_t{block} * kPanelRows * Format::kScaleBytes,
                                column % kInt8BlockColumns / 4, piece_columns / 4, x + input, block,
                                sums);
    }
    for (size_t p = 0; p < P; ++p) {
      float values[kAvx2Rows];
      _mm256_storeu_ps(values, sums[p]);
      out.put(input + static_cast<uint32_t>(p), chunk, half.output_row, values + half.first,
              half.end - half.first);
    }
  }
}

template <class Format, size_t P = 1>
void multiply_some_avx2(const HalfPanel& half, const MatrixRows& rows, const Int8Block* const* x,
                        uint32_t num_inputs, uint32_t input, const ProductOutput& out) {
  if constexpr (P < kAvx2Inputs) {
    if (num_inputs - input > P) {
      return multiply_some_avx2<Format, P + 1>(half, rows, x, num_inputs, input, out);
    }
  }
  multiply_half_panel<Format, P>(half, rows, x, input, out);
}

template <class Format>
void multiply_all_avx2(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                       const ProductOutput& out) {
  const Int8Parts parts = int8_parts(rows.matrix);
  const uint32_t rows_end = rows.row + rows.num_rows;
  for (uint32_t row = rows.row; row < rows_end;) {
    const uint32_t first = row / kAvx2Rows * kAvx2Rows;
    const uint32_t end = std::min(first + kAvx2Rows, rows_end);
    const uint64_t first_block = row / kPanelRows * parts.blocks;
    const uint32_t row_in_panel = first % kPanelRows;
    const HalfPanel half{
        parts.codes + first_block * Format::kBlockBytes + size_t{row_in_panel} * 4,
        parts.scales + (first_block * kPanelRows + row_in_panel) * Format::kScaleBytes, row - first,
        end - first, row - rows.row};
    for (uint32_t input = 0; input < num_inputs; input += kAvx2Inputs) {
      multiply_some_avx2<Format>(half, rows, x, num_inputs, input, out);
    }
    row = end;
  }
}

}  // namespace

void multiply_int8_avx2(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                        const ProductOutput& out) {
  if (rows.matrix.format == tensor::WeightFormat::kFp8Block128) {
    return multiply_all_avx2<Fp8Avx2>(rows, x, num_inputs, out);
  }
  multiply_all_avx2<Mxfp4Avx2>(rows, x, num_inputs, out);
}

}  // namespace ultraspeed::cpu

HWY_POP_ATTRIBUTES;
#endif
