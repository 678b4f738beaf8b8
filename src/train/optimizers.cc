#include "train/optimizers.h"

#include <algorithm>
#include <cmath>

namespace ultraspeed::train {

Optimizers::Optimizers(const std::vector<Parameter>& parameters, const RunOptions& options)
    : parameters_(parameters), options_(options) {
  std::vector<torch::Tensor> matrices, others;
  std::vector<double> units;
  for (const Parameter& p : parameters) {
    if (p.kind == ParameterKind::kState) continue;
    if (p.kind == ParameterKind::kMatrix && options.has_muon()) {
      matrices.push_back(p.value);
      units.push_back(p.unit);
    } else {
      others.push_back(p.value);
    }
  }
  MuonOptions muon;
  muon.weight_decay = options.muon_weight_decay;
  muon.scale = options.muon_scale;
  muon.compute = options.compute;
  muon_ = std::make_unique<Muon>(matrices, muon, units);
  adamw_ = std::make_unique<Adamw>(others, AdamwOptions{});
}

void Optimizers::begin_step() {
  for (Parameter& p : parameters_) {
    if (p.kind != ParameterKind::kState) p.value.mutable_grad() = torch::zeros_like(p.value);
  }
}

Result<double> Optimizers::update(double divisor, uint64_t step) {
  const torch::NoGradGuard no_grad;
  torch::Tensor squares = torch::zeros({}, torch::dtype(torch::kFloat32).device(options_.device));
  for (const Parameter& p : parameters_) {
    if (p.kind != ParameterKind::kState) squares += p.value.grad().square().sum();
  }
  const double norm = std::sqrt(squares.item<double>()) / divisor;
  if (!std::isfinite(norm)) {
    return make_error(ErrorCode::kInternal,
                      "step {}: the gradient is not finite; try a smaller learning rate", step + 1);
  }
  const double clip = std::min(1.0, options_.clip_norm / std::max(norm, 1e-12));
  for (const Parameter& p : parameters_) {
    if (p.kind != ParameterKind::kState) p.value.grad().mul_(clip / divisor);
  }
  const double factor = schedule_factor(options_, step);
  muon_->step(options_.muon_learning_rate * factor);
  adamw_->step(options_.learning_rate * factor);
  return norm;
}

std::vector<NamedTensor> Optimizers::state() {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : parameters_) tensors.push_back({p.name, p.value});
  for (size_t i = 0; i < muon_->state().size(); ++i) {
    tensors.push_back({fmt::format("muon {}", i), muon_->state()[i]});
  }
  for (size_t i = 0; i < adamw_->state().size(); ++i) {
    tensors.push_back({fmt::format("adamw {}", i), adamw_->state()[i]});
  }
  return tensors;
}

}  // namespace ultraspeed::train
