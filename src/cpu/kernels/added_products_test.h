// What a product adds where its output has places and weights.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/kernels/kernels.h"

namespace ultraspeed::cpu {

// Calls multiply(sums) with places in reverse order, weights, and values before them, and expects
// the products, which `stored` has in the form of `output`, added one by one. Nothing else changes.
template <class Multiply>
void expect_added_products(const std::vector<float>& stored, const ProductOutput& output,
                           uint32_t num_inputs, uint32_t num_chunks, uint32_t num_rows,
                           Multiply multiply) {
  std::vector<uint32_t> places(num_inputs);
  std::vector<float> weights(num_inputs);
  std::vector<float> expected(stored.size()), actual(stored.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] = actual[i] = 0.25F * static_cast<float>(i % 11) - 1;
  }
  for (uint32_t i = 0; i < num_inputs; ++i) {
    places[i] = num_inputs - 1 - i;
    weights[i] = 0.3F + 0.7F * static_cast<float>(i);
    for (uint32_t chunk = 0; chunk < num_chunks; ++chunk) {
      for (uint32_t r = 0; r < num_rows; ++r) {
        const size_t from = i * output.input_stride + chunk * output.chunk_stride + r;
        const size_t to = places[i] * output.input_stride + chunk * output.chunk_stride + r;
        expected[to] = std::fma(weights[i], stored[from], expected[to]);
      }
    }
  }
  ProductOutput sums = output;
  sums.first = actual.data();
  sums.places = places.data();
  sums.weights = weights.data();
  multiply(sums);
  ASSERT_EQ(std::memcmp(expected.data(), actual.data(), expected.size() * sizeof(float)), 0)
      << num_inputs << " inputs, " << num_chunks << " chunks";
}

}  // namespace ultraspeed::cpu
