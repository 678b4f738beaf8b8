// Random tensors in each stored format with the exact numbers they stand for: the raw material of
// checkpoint_generator.h.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support/checkpoint_generator.h"

namespace ultraspeed::test {

class RandomTensors {
 public:
  // has_bf16_scales: of FP8, where they are F32 otherwise.
  explicit RandomTensors(uint64_t seed, bool has_bf16_scales = false)
      : random_(seed), has_bf16_scales_(has_bf16_scales) {}

  // A matrix of standard deviation about 1 / sqrt(columns): tensor `module`.weight and, for FP8 and
  // MXFP4, its scales; an FP8 grid restarts in each of grid_chunks equal chunks of rows. Appends to
  // `tensors` and returns the values in stored order.
  DenseWeight matrix(const std::string& module, uint32_t rows, uint32_t columns,
                     tensor::WeightFormat format, uint32_t grid_chunks,
                     std::vector<StoredTensor>& tensors);

  // A one-dimensional tensor around `mean`, as BF16 or F32.
  DenseWeight vector(const std::string& name, uint32_t size, tensor::WeightFormat format,
                     float mean, float deviation, std::vector<StoredTensor>& tensors);

 private:
  float normal();  // about N(0, 1), the same on every platform
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

  DenseWeight plain(const std::string& name, std::vector<uint64_t> shape,
                    tensor::WeightFormat format, float mean, float deviation,
                    std::vector<StoredTensor>& tensors);
  DenseWeight fp8(const std::string& module, uint32_t rows, uint32_t columns, uint32_t grid_chunks,
                  std::vector<StoredTensor>& tensors);
  DenseWeight mxfp4(const std::string& module, uint32_t rows, uint32_t columns,
                    std::vector<StoredTensor>& tensors);

  std::mt19937_64 random_;
  bool has_bf16_scales_;
};

}  // namespace ultraspeed::test
