// What GPTQ (Frantar et al., arXiv 2210.17323) knows of a matrix's inputs: how the rounding errors
// of a row's columns are made good by the columns after them, so that the outputs, not the numbers,
// change little.
//
// With e the errors of a row and H = sum of x x^T over inputs x, the outputs' squared error is
// e H e^T. Let H = R R^T with R upper triangular: it is |e R|^2, and its part k is R_kk times
// e_k + sum over j < k of e_j R_jk / R_kk. So when column k is rounded after those before it, the
// number to round is w_k + sum of e_j R_jk / R_kk. This is GPTQ without an inverse (Chee et al.,
// arXiv 2307.13304, section 3.2).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {

// R_jk / R_kk for j < k, else 0, in panels of 32 columns, each of the rows that it needs.
struct ErrorFeedback {
  uint32_t columns = 0;
  std::vector<float> panels;

  // [(block + 1) * 32, 32]: of the columns of an MXFP4 block.
  std::span<const float> panel(uint32_t block) const {
    constexpr size_t kSquare = size_t{tensor::kMxBlockColumns} * tensor::kMxBlockColumns;
    return std::span(panels).subspan(kSquare * block * (block + 1) / 2, kSquare * (block + 1));
  }
  static uint64_t num_values(uint32_t columns) {
    return uint64_t{columns} * (columns + tensor::kMxBlockColumns) / 2;
  }
};

// `squares`: the upper triangle of H, f64 [columns, columns], which is destroyed. `damping` times
// the mean of its diagonal is added to the diagonal. Inputs that are all zeros give no feedback.
// Nothing for an H that is not positive definite, which has numbers that are none or a damping of
// about 0. REQUIRES: 32 divides columns.
std::optional<ErrorFeedback> make_feedback(uint32_t num_threads, double damping, uint32_t columns,
                                           std::vector<double>* squares);

}  // namespace ultraspeed::quantize
