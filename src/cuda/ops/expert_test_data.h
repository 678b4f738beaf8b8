// What the GPU tests of the expert products compute with: guarded device memory, matrices, routes.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "cuda/device_memory.h"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/pack_mxfp4.h"
#include "program/route_table.h"
#include "tensor/mxfp4.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

using test::check;
using test::Device;
using test::kPoison;

// Experts' matrices [rows, cols] in canonical form.
struct Experts {
  Experts(uint32_t experts, uint32_t num_rows, uint32_t num_cols, std::mt19937& random)
      : rows(num_rows),
        cols(num_cols),
        matrix_bytes(packed_bytes(tensor::WeightFormat::kMxfp4, rows, cols)),
        bytes(experts * matrix_bytes) {
    for (uint64_t i = 0; i < bytes.size(); ++i) {
      const bool is_code = i % matrix_bytes < uint64_t{rows} * cols / 2;
      bytes[i] = static_cast<std::byte>(is_code ? random() % 256 : 114 + random() % 8);
    }
  }
  double at(uint32_t expert, uint32_t row, uint32_t col) const {
    const auto* matrix = reinterpret_cast<const uint8_t*>(bytes.data() + expert * matrix_bytes);
    const uint8_t code = tensor::mxfp4_code(matrix + uint64_t{row} * cols / 2, col);
    const uint8_t scale = matrix[uint64_t{rows} * cols / 2 + (uint64_t{row} * cols + col) / 32];
    return double{tensor::kE2m1Values[code]} * std::ldexp(1.0, scale - 127);
  }
  std::vector<std::byte> gate_up_pages() const {
    const uint32_t columns = gate_up_columns(cols);
    return pages(
        packed_bytes(tensor::WeightFormat::kMxfp4, rows, columns), [&](auto from, auto to) {
          return pack_gate_up(fill_up_gate_up(from, rows / 2, cols), rows / 2, columns, to);
        });
  }
  std::vector<std::byte> down_pages(uint32_t chunk_columns) const {
    const uint32_t filled_rows = padded_down_rows(rows);
    const uint32_t columns = padded_down_columns(cols, chunk_columns);
    return pages(packed_bytes(tensor::WeightFormat::kMxfp4, filled_rows, columns),
                 [&](auto from, auto to) {
                   const auto filled = fill_up_down(from, rows, cols, chunk_columns);
                   return pack_down(filled, filled_rows, columns, to);
                 });
  }

  uint32_t rows, cols;
  uint64_t matrix_bytes;
  std::vector<std::byte> bytes;

 private:
  template <class Pack>
  std::vector<std::byte> pages(uint64_t page_bytes, const Pack& pack) const {
    const uint64_t experts = bytes.size() / matrix_bytes;
    std::vector<std::byte> packed(experts * page_bytes);
    for (uint64_t i = 0; i < experts; ++i) {
      EXPECT_TRUE(pack(std::span(bytes).subspan(i * matrix_bytes, matrix_bytes),
                       std::span(packed).subspan(i * page_bytes, page_bytes)));
    }
    return packed;
  }
};

struct Routes {
  std::vector<uint32_t> experts, begin = {0}, columns;
  std::vector<float> weights;

  void add_slot(uint32_t expert, const std::set<uint32_t>& of_slot, std::mt19937& random) {
    experts.push_back(expert);
    for (const uint32_t column : of_slot) {
      columns.push_back(column);
      weights.push_back(std::uniform_real_distribution<float>(0.01F, 1)(random));
    }
    begin.push_back(static_cast<uint32_t>(columns.size()));
  }
  // Of the slot's pair with a column; 0 where it has none.
  double weight(uint32_t slot, uint32_t column) const {
    for (uint32_t p = begin[slot]; p < begin[slot + 1]; ++p) {
      if (columns[p] == column) return double{weights[p]};
    }
    return 0;
  }
  uint32_t slots() const { return static_cast<uint32_t>(experts.size()); }
  uint32_t pairs() const { return static_cast<uint32_t>(columns.size()); }
  std::vector<uint32_t> words() const {
    std::vector<uint32_t> all(program::RouteTable::words(slots(), pairs()));
    program::RouteTable table = program::RouteTable::at(all.data(), slots(), pairs());
    *table.num_slots = slots();
    std::copy(experts.begin(), experts.end(), table.expert);
    std::copy(begin.begin(), begin.end(), table.pair_begin);
    std::copy(columns.begin(), columns.end(), table.pair_column);
    std::copy(weights.begin(), weights.end(), table.pair_weight);
    return all;
  }
};

}  // namespace ultraspeed::cuda
