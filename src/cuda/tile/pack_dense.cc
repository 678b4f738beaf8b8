#include "cuda/tile/pack_dense.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "cuda/tile/dense_page.h"
#include "cuda/tile/mxfp4_page.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;

// Appends the pairs (first + i, first + i + distance) for i < count, i in steps of `step`.
void append_pairs(RowOrder& order, uint32_t first, uint32_t count, uint32_t step,
                  uint32_t distance) {
  for (uint32_t i = 0; i < count; i += step) {
    order.push_back(first + i);
    order.push_back(first + i + distance);
  }
}

template <class Call>
auto with_page(WeightFormat format, const Call& call) {
  US_CHECK(format == WeightFormat::kFp8Block128 || format == WeightFormat::kBf16, "format {}",
           weight_format_name(format));
  return format == WeightFormat::kBf16 ? call(Bf16Page()) : call(Fp8Page());
}

void check_sizes(const DenseMatrix& matrix, std::span<const uint32_t> order, uint64_t canonical,
                 uint64_t pages) {
  US_CHECK(order.size() == matrix.rows, "an order of {} rows for {}", order.size(), matrix.rows);
  std::vector<bool> seen(matrix.rows, false);
  for (const uint32_t row : order) {
    US_CHECK(row < matrix.rows && !seen[row], "row {} is not one of {}, or twice in the order", row,
             matrix.rows);
    seen[row] = true;
  }
  US_CHECK(canonical == packed_bytes(matrix.format, matrix.rows, matrix.columns) &&
               pages == dense_page_bytes(matrix),
           "{} bytes and {} bytes of pages for [{}, {}]", canonical, pages, matrix.rows,
           matrix.columns);
}

// Calls copy(offset in the canonical form, offset in the pages, bytes) for all elements and scales.
template <class Page, class Copy>
void for_each_place(const DenseMatrix& matrix, std::span<const uint32_t> order, const Copy& copy) {
  const uint64_t scale_columns = tensor::scale_columns(matrix.format, matrix.columns);
  const uint64_t first_scale = code_bytes(matrix.format, matrix.rows, matrix.columns);
  const uint32_t row_pages = matrix.columns / Page::kColumns;
  for (uint32_t packed = 0; packed < matrix.rows; ++packed) {
    const uint64_t row = order[packed];
    const uint32_t in_tile = packed % kDenseTileRows;
    const uint32_t tile_row = dense_tile_row(in_tile / 2, in_tile % 2);
    for (uint32_t p = 0; p < row_pages; ++p) {
      const uint64_t page = (uint64_t{packed / kDenseTileRows} * row_pages + p) * Page::kBytes;
      for (uint32_t k = 0; k < Page::kColumns; k += 2) {  // columns 2 t and 2 t + 1 stay neighbours
        copy((row * matrix.columns + p * Page::kColumns + k) * Page::kElementBytes,
             page + Page::element(tile_row, k), 2 * Page::kElementBytes);
      }
      if constexpr (Page::kFormat == WeightFormat::kFp8Block128) {
        for (uint32_t slab = 0; slab < kDenseSlabs; ++slab) {
          copy(first_scale + (row * scale_columns + p * kDenseSlabs + slab) * sizeof(float),
               page + Page::scale(tile_row, slab), sizeof(float));
        }
      }
    }
  }
}

}  // namespace

RowOrder neighbour_order(uint32_t rows) {
  RowOrder order;
  append_pairs(order, 0, rows, 2, 1);
  return order;
}

RowOrder gate_up_order(uint32_t intermediate) {
  RowOrder order;
  append_pairs(order, 0, intermediate, 1, intermediate);
  return order;
}

RowOrder qkv_order(const QkvShape& shape) {
  US_CHECK(shape.rotary_dim <= shape.head_dim && shape.rotary_dim % 2 == 0 &&
               shape.head_dim % 2 == 0 && shape.v_head_dim % 2 == 0,
           "{} of {} dimensions rotate, v has {}", shape.rotary_dim, shape.head_dim,
           shape.v_head_dim);
  RowOrder order;
  uint32_t first = 0;
  for (uint32_t head = 0; head < shape.num_q_heads + shape.num_kv_heads; ++head) {
    append_pairs(order, first, shape.rotary_dim / 2, 1, shape.rotary_dim / 2);
    append_pairs(order, first + shape.rotary_dim, shape.head_dim - shape.rotary_dim, 2, 1);
    first += shape.head_dim;
  }
  append_pairs(order, first, shape.num_kv_heads * shape.v_head_dim, 2, 1);
  return order;
}

Status check_dense(const DenseMatrix& matrix, uint32_t num_chunks) {
  if (matrix.format != WeightFormat::kFp8Block128 && matrix.format != WeightFormat::kBf16) {
    return make_error(ErrorCode::kUnsupported,
                      "the GPU's dense products have no {} weights; expected FP8 or BF16",
                      weight_format_name(matrix.format));
  }
  const uint32_t unit =
      kDenseRanks * with_page(matrix.format, [](auto page) { return decltype(page)::kColumns; });
  if (matrix.rows == 0 || matrix.rows % 2 != 0 || num_chunks == 0 || matrix.columns == 0 ||
      matrix.columns % (uint64_t{num_chunks} * unit) != 0) {
    return make_error(
        ErrorCode::kUnsupported,
        "the GPU's dense products have no {} matrix [{}, {}] in {} K-chunks; expected "
        "an even number of rows and chunks of a multiple of {} columns",
        weight_format_name(matrix.format), matrix.rows, matrix.columns, num_chunks, unit);
  }
  return {};
}

uint64_t dense_page_bytes(const DenseMatrix& matrix) {
  return with_page(matrix.format, [&](auto page) {
    return dense_bytes<decltype(page)>(matrix.rows, matrix.columns);
  });
}

std::vector<std::byte> fill_up_fp8(std::span<const std::byte> canonical, uint32_t rows,
                                   uint32_t columns, uint32_t chunk_columns) {
  constexpr auto kFormat = WeightFormat::kFp8Block128;
  constexpr uint32_t kBlock = tensor::kFp8BlockColumns;
  US_CHECK(chunk_columns != 0 && columns % chunk_columns == 0 &&
               (chunk_columns == kDownChunkColumns || kBlock % chunk_columns == 0) &&
               canonical.size() == packed_bytes(kFormat, rows, columns),
           "{} bytes for [{}, {}] in K-chunks of {}", canonical.size(), rows, columns,
           chunk_columns);
  const uint32_t padded = padded_down_columns(columns, chunk_columns);
  std::vector<std::byte> filled(packed_bytes(kFormat, rows, padded), std::byte{0});
  const uint64_t scales = tensor::scale_columns(kFormat, columns);
  const uint64_t padded_scales = tensor::scale_columns(kFormat, padded);
  const std::byte* from_scales = &canonical[code_bytes(kFormat, rows, columns)];
  std::byte* to_scales = &filled[code_bytes(kFormat, rows, padded)];
  const uint32_t piece = std::min(chunk_columns, kBlock);  // has one scale
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint32_t k = 0; k < columns; k += piece) {
      const uint32_t to = down_column(k, chunk_columns);
      std::memcpy(&filled[row * padded + to], &canonical[row * columns + k], piece);
      std::memcpy(to_scales + (row * padded_scales + to / kBlock) * sizeof(float),
                  from_scales + (row * scales + k / kBlock) * sizeof(float), sizeof(float));
    }
  }
  return filled;
}

void pack_dense(const DenseMatrix& matrix, std::span<const uint32_t> order,
                std::span<const std::byte> canonical, std::span<std::byte> pages) {
  check_sizes(matrix, order, canonical.size(), pages.size());
  std::fill(pages.begin(), pages.end(), std::byte{0});
  with_page(matrix.format, [&](auto page) {
    for_each_place<decltype(page)>(matrix, order, [&](uint64_t from, uint64_t to, size_t bytes) {
      std::memcpy(&pages[to], &canonical[from], bytes);
    });
  });
}

void unpack_dense(const DenseMatrix& matrix, std::span<const uint32_t> order,
                  std::span<const std::byte> pages, std::span<std::byte> canonical) {
  check_sizes(matrix, order, canonical.size(), pages.size());
  with_page(matrix.format, [&](auto page) {
    for_each_place<decltype(page)>(matrix, order, [&](uint64_t to, uint64_t from, size_t bytes) {
      std::memcpy(&canonical[to], &pages[from], bytes);
    });
  });
}

}  // namespace ultraspeed::cuda
