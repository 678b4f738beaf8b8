// A wgmma product of e4m3 codes as tests compute it on the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/e4m3.h"

namespace ultraspeed::cuda {

// How the tensor core adds 32 products of e4m3 codes (measured on an H100; all results are equal).
// The exponent of a term is the sum of both codes' exponents, -6 for subnormals. Terms are aligned
// to the largest exponent of those that are not 0 and cut off, toward zero, 13 bits below it; their
// sum is exact, then cut off toward zero to 13 bits behind its leading one.
inline double model_product(const uint8_t* a, const uint8_t* b) {
  constexpr int kBits = 13;
  const auto exponent_of = [](uint8_t code) { return std::max((code >> 3) & 15, 1) - 7; };
  const auto cut_off = [](double value, int unit) {
    return std::ldexp(std::trunc(std::ldexp(value, -unit)), unit);
  };
  int largest = -1000;
  double terms[32];
  for (int k = 0; k < 32; ++k) {
    terms[k] = double{tensor::e4m3_to_float(a[k])} * tensor::e4m3_to_float(b[k]);
    if (terms[k] != 0) largest = std::max(largest, exponent_of(a[k]) + exponent_of(b[k]));
  }
  double sum = 0;
  for (const double term : terms) sum += cut_off(term, largest - kBits);
  return sum == 0 ? 0 : cut_off(sum, std::ilogb(sum) - kBits);
}

}  // namespace ultraspeed::cuda
