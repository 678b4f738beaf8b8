#include "train/net_parameters.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::train {

void ParameterSet::add(const std::string& name, ParameterKind kind, const torch::Tensor& value) {
  const torch::Tensor placed = value.to(options_.device, options_.master).contiguous();
  all_.push_back({name, kind, placed.requires_grad_(kind != ParameterKind::kState)});
}

const torch::Tensor& ParameterSet::at(const std::string& name) const {
  const auto found =
      std::find_if(all_.begin(), all_.end(), [&](const Parameter& p) { return p.name == name; });
  US_CHECK(found != all_.end(), "no parameter {}", name);
  return found->value;
}

void ParameterSet::set(const std::string& name, const torch::Tensor& value) {
  const torch::NoGradGuard no_grad;
  torch::Tensor target = at(name);
  US_CHECK(target.sizes() == value.sizes(), "{} has another shape", name);
  target.copy_(value);
}

torch::Tensor random_normal(at::IntArrayRef sizes, uint64_t seed) {
  return torch::randn(sizes, at::detail::createCPUGenerator(seed), torch::kFloat32);
}

}  // namespace ultraspeed::train
