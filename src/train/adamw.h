// AdamW (Loshchilov and Hutter, 2019), for norms, sinks and embeddings.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <vector>

namespace ultraspeed::train {

struct AdamwOptions {
  double beta_1 = 0.9;
  double beta_2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

class Adamw {
 public:
  // `tensors` are updated in place.
  Adamw(std::vector<torch::Tensor> tensors, const AdamwOptions& options);

  // One update from the tensors' grad(). REQUIRES: each has one.
  void step(double learning_rate);

  // The first, then the second moments, and the number of steps: what a checkpoint keeps.
  std::vector<torch::Tensor>& state() { return state_; }
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t num_steps) { num_steps_ = num_steps; }

 private:
  AdamwOptions options_;
  std::vector<torch::Tensor> tensors_;
  std::vector<torch::Tensor> state_;  // [2 * tensors]
  int64_t num_steps_ = 0;
};

}  // namespace ultraspeed::train
