#include "quantize/triangular.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/workers.h"

namespace ultraspeed::quantize {
namespace {

constexpr size_t kTileRows = 32;
constexpr size_t kTileColumns = 512;  // so much of 64 rows stays in a second-level cache
constexpr size_t kBlock = 64;         // columns that are factored at a time

struct Tile {
  size_t row = 0, column = 0;
};

std::vector<Tile> tiles_of_upper(size_t size) {
  std::vector<Tile> tiles;
  for (size_t row = 0; row < size; row += kTileRows) {
    for (size_t column = row / kTileColumns * kTileColumns; column < size; column += kTileColumns) {
      tiles.push_back({row, column});
    }
  }
  return tiles;
}

// out[j] += sum of factors[m] * rows[m * stride + j], four rows at a time.
void add_multiples(std::span<const double> factors, const double* rows, size_t stride, size_t count,
                   double* out) {
  size_t m = 0;
  for (; m + 4 <= factors.size(); m += 4, rows += 4 * stride) {
    const double a = factors[m], b = factors[m + 1], c = factors[m + 2], d = factors[m + 3];
    const double *first = rows, *second = rows + stride, *third = rows + 2 * stride,
                 *fourth = rows + 3 * stride;
    for (size_t j = 0; j < count; ++j) {
      out[j] += (a * first[j] + b * second[j]) + (c * third[j] + d * fourth[j]);
    }
  }
  for (; m < factors.size(); ++m, rows += stride) {
    for (size_t j = 0; j < count; ++j) out[j] += factors[m] * rows[j];
  }
}

using Corner = std::array<double, kBlock * kBlock>;

// Factors rows and columns [begin, end) on their own; `corner` gets the result transposed.
bool factor_corner(size_t begin, size_t end, size_t stride, double* matrix, Corner* corner) {
  for (size_t k = end; k-- > begin;) {
    double& pivot = matrix[k * stride + k];
    if (!(pivot > 0)) return false;
    pivot = std::sqrt(pivot);
    (*corner)[(k - begin) * kBlock + k - begin] = pivot;
    double* column = &(*corner)[(k - begin) * kBlock];
    for (size_t j = begin; j < k; ++j) column[j - begin] = matrix[j * stride + k] /= pivot;
    for (size_t i = begin; i < k; ++i) {
      for (size_t j = i; j < k; ++j) {
        matrix[i * stride + j] -= column[i - begin] * column[j - begin];
      }
    }
  }
  return true;
}

// The part of a row that lies above a factored corner of `size` columns, in place.
void solve_row(const Corner& corner, size_t size, double* row) {
  for (size_t k = size; k-- > 0;) {
    const double* column = &corner[k * kBlock];
    row[k] /= column[k];
    for (size_t j = 0; j < k; ++j) row[j] -= row[k] * column[j];
  }
}

}  // namespace

void add_squares(uint32_t num_threads, double sign, std::span<const double> rows, size_t size,
                 size_t stride, double* matrix) {
  const std::vector<Tile> tiles = tiles_of_upper(size);
  const size_t count = size == 0 ? 0 : rows.size() / size;
  (void)run_jobs(num_threads, tiles.size(), [&](uint32_t, size_t index) -> Status {
    const Tile tile = tiles[index];
    std::vector<double> factors(count);
    const size_t row_end = std::min(tile.row + kTileRows, size);
    const size_t column_end = std::min(tile.column + kTileColumns, size);
    for (size_t i = tile.row; i < row_end; ++i) {
      for (size_t m = 0; m < count; ++m) factors[m] = sign * rows[m * size + i];
      const size_t begin = std::max(tile.column, i);
      if (begin >= column_end) continue;
      add_multiples(factors, rows.data() + begin, size, column_end - begin,
                    matrix + i * stride + begin);
    }
    return {};
  });
}

bool factor_upper(uint32_t num_threads, size_t size, double* matrix) {
  Corner corner;
  std::vector<double> above;  // the rows above the corner, transposed
  for (size_t end = size; end > 0;) {
    const size_t begin = (end - 1) / kBlock * kBlock;
    if (!factor_corner(begin, end, size, matrix, &corner)) return false;
    above.resize((end - begin) * begin);
    (void)run_jobs(num_threads, begin / kBlock, [&](uint32_t, size_t job) -> Status {
      for (size_t i = job * kBlock; i < (job + 1) * kBlock; ++i) {
        double* row = matrix + i * size + begin;
        solve_row(corner, end - begin, row);
        for (size_t k = 0; k < end - begin; ++k) above[k * begin + i] = row[k];
      }
      return {};
    });
    add_squares(num_threads, -1, above, begin, size, matrix);
    end = begin;
  }
  return true;
}

}  // namespace ultraspeed::quantize
