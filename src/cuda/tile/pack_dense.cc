#include "cuda/tile/pack_dense.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "cuda/tile/dense_page.h"

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

// The columns of the matrix in page p of a row: first + k at k of [begin, end). first may be below
// 0 and wrap around.
struct PageColumns {
  PageColumns(const PagedRow& row, uint32_t page_columns, uint32_t p) {
    const uint32_t chunk = p / row.chunk_pages, at = p % row.chunk_pages * page_columns;
    const uint32_t chunk_begin = row.offset(chunk), chunk_end = chunk_begin + row.chunk_columns;
    begin = std::clamp(chunk_begin, at, at + page_columns) - at;
    end = std::clamp(chunk_end, at, at + page_columns) - at;
    first = chunk * row.chunk_columns + at - chunk_begin;
  }

  uint32_t begin, end, first;
};

// Calls copy(offset in the canonical form, offset in the pages, bytes) for all elements and scales.
template <class Page, class Copy>
void for_each_place(const DenseMatrix& matrix, std::span<const uint32_t> order, const Copy& copy) {
  const uint64_t scale_columns = tensor::scale_columns(matrix.format, matrix.columns);
  const uint64_t first_scale = code_bytes(matrix.format, matrix.rows, matrix.columns);
  const PagedRow paged = paged_row<Page>(matrix.columns, matrix.num_chunks);
  for (uint32_t packed = 0; packed < matrix.rows; ++packed) {
    const uint64_t row = order[packed];
    const uint32_t in_tile = packed % kDenseTileRows;
    const uint32_t tile_row = dense_tile_row(in_tile / 2, in_tile % 2);
    for (uint32_t p = 0; p < paged.pages(); ++p) {
      const uint64_t page = (uint64_t{packed / kDenseTileRows} * paged.pages() + p) * Page::kBytes;
      const PageColumns of_page(paged, Page::kColumns, p);
      for (uint32_t k = of_page.begin; k < of_page.end;
           k += 2) {  // 2 t and 2 t + 1 stay neighbours
        const uint32_t column = of_page.first + k;
        copy((row * matrix.columns + column) * Page::kElementBytes,
             page + Page::element(tile_row, k), 2 * Page::kElementBytes);
      }
      if constexpr (Page::kFormat == WeightFormat::kFp8Block128) {
        constexpr uint32_t kBlock = Page::kBlockColumns;
        for (uint32_t slab = of_page.begin / kBlock; slab * kBlock < of_page.end; ++slab) {
          const uint32_t column = of_page.first + std::max(of_page.begin, slab * kBlock);
          copy(first_scale + (row * scale_columns + column / kBlock) * sizeof(float),
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

Status check_dense(const DenseMatrix& matrix) {
  if (matrix.format != WeightFormat::kFp8Block128 && matrix.format != WeightFormat::kBf16) {
    return make_error(ErrorCode::kUnsupported,
                      "the GPU's dense products have no {} weights; expected FP8 or BF16",
                      weight_format_name(matrix.format));
  }
  if (has_dense_kernels(matrix)) return {};
  return make_error(ErrorCode::kUnsupported,
                    "the GPU's dense products have no {} matrix [{}, {}] in {} K-chunks; expected "
                    "an even number of rows and chunks of a multiple of {} columns",
                    weight_format_name(matrix.format), matrix.rows, matrix.columns,
                    matrix.num_chunks, kDenseColumnMultiple);
}

uint64_t dense_page_bytes(const DenseMatrix& matrix) {
  return with_page(matrix.format, [&](auto page) {
    return dense_bytes<decltype(page)>(matrix.rows, matrix.columns, matrix.num_chunks);
  });
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
