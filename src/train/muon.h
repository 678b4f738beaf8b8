// Muon (K. Jordan and others, 2024): momentum, made nearly orthogonal, for matrices. Five
// Newton-Schulz steps of a quintic take every singular value to between about 0.7 and 1.2.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <vector>

namespace ultraspeed::train {

enum class MuonScale : uint8_t {
  kOriginal,      // sqrt(max(1, rows / columns))
  kMatchRmsAdamw  // 0.2 sqrt(max(rows, columns)): updates as large as AdamW's
};

struct MuonOptions {
  double momentum = 0.95;
  double weight_decay = 0.1;
  MuonScale scale = MuonScale::kMatchRmsAdamw;
  torch::Dtype compute = torch::kFloat32;  // of the Newton-Schulz steps; kBFloat16 on a GPU
};

// Of each matrix [..., rows, columns], in the type `compute`.
torch::Tensor orthogonalize(const torch::Tensor& matrices, torch::Dtype compute);

double muon_scale(MuonScale scale, int64_t rows, int64_t columns);

class Muon {
 public:
  // `matrices`, [..., rows, columns], are updated in place. `units`: how large a matrix's numbers
  // are where others' are 1, for its updates; empty: all are alike.
  Muon(std::vector<torch::Tensor> matrices, const MuonOptions& options,
       std::vector<double> units = {});

  // One update from the matrices' grad(). REQUIRES: each has one.
  void step(double learning_rate);

  // The momentum of each matrix: what a checkpoint keeps.
  std::vector<torch::Tensor>& state() { return momentum_; }

 private:
  MuonOptions options_;
  std::vector<torch::Tensor> matrices_, momentum_;
  std::vector<double> units_;                // [matrices]
  std::vector<std::vector<size_t>> groups_;  // of matrices of one shape, made orthogonal together
};

}  // namespace ultraspeed::train
