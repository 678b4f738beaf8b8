#include "vector_ceilings.h"

#ifdef __x86_64__
// GCC 12 warns of its own header (bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace ultraspeed::cpu {
namespace {

#ifdef __x86_64__

using Clock = std::chrono::steady_clock;

constexpr uint32_t kInputs = 8;
constexpr uint32_t kColumns = 1024;  // of an input: 32 KiB of inputs, 16 KiB of codes
constexpr uint32_t kTurns = 500'000;

double ns_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
}

struct Operands {
  std::array<float, size_t{kInputs} * kColumns> inputs;  // [kInputs][kColumns]
  std::array<int8_t, size_t{kColumns} * 16> codes;       // [kColumns][16 rows]
};

// Products a nanosecond of a loop of two columns, 16 rows and kInputs inputs a turn, its 16 sums in
// registers: what panels-inl.h does, without its blocks, chunks and trees.
template <bool kDecodes>
__attribute__((target("avx512f"), noinline)) double products_per_ns(const Operands& operands) {
  __m512 sums[2 * kInputs] = {};
  const __m512 scale = _mm512_set1_ps(1.0001F);
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0x87f00000u));
  const Operands* const volatile address = &operands;
  const Clock::time_point begin = Clock::now();
  for (uint32_t turn = 0; turn < kTurns; ++turn) {
    const Operands* source = address;  // anew, so that no input stays in a register
#pragma GCC unroll 2
    for (uint32_t c = 0; c < 2; ++c) {
      const uint32_t column = (turn * 2 + c) % kColumns;
      __m512 weight = scale;
      if constexpr (kDecodes) {
        const auto* codes = reinterpret_cast<const __m128i*>(&source->codes[size_t{column} * 16]);
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(codes));
        const __m512i bits = _mm512_and_si512(_mm512_slli_epi32(wide, 20), mask);
        weight = _mm512_mul_ps(_mm512_castsi512_ps(bits), scale);
      }
#pragma GCC unroll 8
      for (uint32_t i = 0; i < kInputs; ++i) {
        const __m512 input = _mm512_set1_ps(source->inputs[size_t{i} * kColumns + column]);
        __m512& sum = sums[c * kInputs + i];
        sum = _mm512_fmadd_ps(weight, input, sum);
      }
    }
  }
  const double ns = ns_since(begin);
  float total = 0;
  for (const __m512 sum : sums) total += _mm512_reduce_add_ps(sum);
  volatile float used = total;
  static_cast<void>(used);
  return double{kTurns} * 2 * 16 * kInputs / ns;
}

// From a chain of multiplications, each of which takes three clocks on every processor with
// AVX-512.
double clock_ghz() {
  constexpr uint32_t kProducts = 1'000'000;
  const Clock::time_point begin = Clock::now();
  uint64_t value = 1;
  for (uint32_t i = 0; i < kProducts; ++i) value *= 0x9e3779b97f4a7c15u;
  volatile uint64_t used = value;
  const double ns = ns_since(begin);
  static_cast<void>(used);
  return 3.0 * kProducts / ns;
}

#endif

}  // namespace

std::optional<VectorCeilings> measure_vector_ceilings() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) {
    Operands operands;
    operands.inputs.fill(1e-3F);
    operands.codes.fill(0x38);
    VectorCeilings best{};
    for (int repeat = 0; repeat < 20; ++repeat) {
      best.clock_ghz = std::max(best.clock_ghz, clock_ghz());
      best.broadcasts_per_ns = std::max(best.broadcasts_per_ns, products_per_ns<false>(operands));
      best.with_decoding_per_ns =
          std::max(best.with_decoding_per_ns, products_per_ns<true>(operands));
    }
    return best;
  }
#endif
  return std::nullopt;
}

}  // namespace ultraspeed::cpu
