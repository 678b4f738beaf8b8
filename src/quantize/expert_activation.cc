#include "quantize/expert_activation.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/workers.h"

namespace ultraspeed::quantize {
namespace {

constexpr uint32_t kMatrixRowsAtOnce = 128;  // whole blocks of FP8
constexpr uint32_t kChannels = 8;            // that a thread computes at a time

Result<std::vector<float>> read_whole(const StoredMatrix& matrix) {
  const size_t columns = matrix.columns;
  std::vector<float> values(matrix.rows * columns);
  std::vector<std::byte> buffer;
  for (uint32_t begin = 0; begin < matrix.rows; begin += kMatrixRowsAtOnce) {
    const uint32_t count = std::min(kMatrixRowsAtOnce, matrix.rows - begin);
    const auto rows = std::span(values).subspan(begin * columns, count * columns);
    US_TRY(matrix.read_rows(begin, count, rows, &buffer));
    matrix.forget_rows(begin, count);
  }
  return values;
}

// In lanes, which compilers keep in vectors. REQUIRES: as many of both, a multiple of 32.
float dot(std::span<const float> a, std::span<const float> b) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> sums = {};
  for (size_t i = 0; i < a.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

Result<ExpertActivation> ExpertActivation::read(const StoredMatrix& gate, const StoredMatrix& up) {
  US_CHECK(gate.rows == up.rows && gate.columns == up.columns, "{} and {}", gate.weight.name,
           up.weight.name);
  ExpertActivation activation;
  activation.inner_ = gate.rows;
  activation.hidden_ = gate.columns;
  US_ASSIGN(activation.gate_, read_whole(gate));
  US_ASSIGN(activation.up_, read_whole(up));
  return activation;
}

std::vector<float> ExpertActivation::of(uint32_t num_threads, std::span<const float> rows) const {
  const size_t num_rows = rows.size() / hidden_;
  std::vector<float> out(num_rows * inner_);
  const auto row_of = [&](std::span<const float> matrix, size_t row) {
    return matrix.subspan(row * hidden_, hidden_);
  };
  (void)run_jobs(num_threads, (inner_ + kChannels - 1) / kChannels,
                 [&](uint32_t, size_t job) -> Status {
                   const size_t begin = job * kChannels;
                   const size_t end = std::min<size_t>(begin + kChannels, inner_);
                   for (size_t row = 0; row < num_rows; ++row) {
                     for (size_t i = begin; i < end; ++i) {
                       const float gate = dot(row_of(gate_, i), row_of(rows, row));
                       const float up = dot(row_of(up_, i), row_of(rows, row));
                       out[row * inner_ + i] = gate / (1 + std::exp(-gate)) * up;
                     }
                   }
                   return {};
                 });
  return out;
}

}  // namespace ultraspeed::quantize
