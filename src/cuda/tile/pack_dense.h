// Packs canonical FP8 and BF16 matrices (tensor/weight_format.h) into pages (dense_page.h), on the
// host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/tile/dense_matrix.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// Which row of a matrix each packed row is: order[2 i + h] is half h of pair i. A permutation of
// all rows, which are even in number.
using RowOrder = std::vector<uint32_t>;

// Pair i is rows 2 i and 2 i + 1.
RowOrder neighbour_order(uint32_t rows);

// [gate; up], each of `intermediate` rows: pair i is the gate and the up row of neuron i.
RowOrder gate_up_order(uint32_t intermediate);

// [q; k; v] heads: of a q or k head first the rotated pairs (i, i + rotary_dim / 2), then
// neighbours; of a v head neighbours. REQUIRES: rotary_dim <= head_dim; all dimensions are even.
struct QkvShape {
  uint32_t num_q_heads = 0, num_kv_heads = 0;
  uint32_t head_dim = 0, v_head_dim = 0, rotary_dim = 0;

  uint32_t rows() const {
    return (num_q_heads + num_kv_heads) * head_dim + num_kv_heads * v_head_dim;
  }
  bool operator==(const QkvShape&) const = default;
};
RowOrder qkv_order(const QkvShape& shape);

// kUnsupported, with the shape and what was expected, if there are no kernels for the matrix: the
// format is neither FP8 nor BF16, rows are odd in number, or 4 does not divide a chunk.
Status check_dense(const DenseMatrix& matrix);

// Bytes of the pages. REQUIRES: check_dense() is fine.
uint64_t dense_page_bytes(const DenseMatrix& matrix);

// Rows that fill up the last tile are zeros, and columns that fill up chunks, scales too.
// REQUIRES: check_dense() is fine; order is one of matrix.rows rows; canonical and pages have
// tensor::packed_bytes() and dense_page_bytes() bytes.
void pack_dense(const DenseMatrix& matrix, std::span<const uint32_t> order,
                std::span<const std::byte> canonical, std::span<std::byte> pages);
void unpack_dense(const DenseMatrix& matrix, std::span<const uint32_t> order,
                  std::span<const std::byte> pages, std::span<std::byte> canonical);

}  // namespace ultraspeed::cuda
