// The two steps of f64 linear algebra that calibration is made of (error_feedback.h), in blocks and
// on threads. No result depends on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ultraspeed::quantize {

// The upper triangle of S += sign * V^T V. `rows`: V, [count, size]; `matrix`: S, whose rows are
// `stride` apart.
void add_squares(uint32_t num_threads, double sign, std::span<const double> rows, size_t size,
                 size_t stride, double* matrix);

// Of the symmetric matrix [size, size] whose upper triangle is given, replaces that by the upper
// triangular R with a positive diagonal whose R R^T it is: Cholesky's factor, begun at the last
// column. False if it is not positive definite.
bool factor_upper(uint32_t num_threads, size_t size, double* matrix);

}  // namespace ultraspeed::quantize
