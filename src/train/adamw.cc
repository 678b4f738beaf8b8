#include "train/adamw.h"

#include <cmath>

#include "base/check.h"

namespace ultraspeed::train {

Adamw::Adamw(std::vector<torch::Tensor> tensors, const AdamwOptions& options)
    : options_(options), tensors_(std::move(tensors)) {
  const torch::NoGradGuard no_grad;
  for (int moment = 0; moment < 2; ++moment) {
    for (const torch::Tensor& tensor : tensors_) state_.push_back(torch::zeros_like(tensor));
  }
}

void Adamw::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  ++num_steps_;
  const auto steps = static_cast<double>(num_steps_);
  const double correction_1 = 1 - std::pow(options_.beta_1, steps);
  const double correction_2 = 1 - std::pow(options_.beta_2, steps);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const torch::Tensor gradient = tensors_[i].grad();
    US_CHECK(gradient.defined(), "tensor {} has no gradient", i);
    torch::Tensor& mean = state_[i];
    torch::Tensor& square = state_[tensors_.size() + i];
    mean.lerp_(gradient, 1 - options_.beta_1);
    square.mul_(options_.beta_2).addcmul_(gradient, gradient, 1 - options_.beta_2);
    tensors_[i].mul_(1 - learning_rate * options_.weight_decay);
    const torch::Tensor scale = (square / correction_2).sqrt_().add_(options_.epsilon);
    tensors_[i].sub_(mean / scale * (learning_rate / correction_1));
  }
}

}  // namespace ultraspeed::train
