#include "train/muon.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/check.h"

namespace ultraspeed::train {
namespace {

// Of the quintic a x + b x^3 + c x^5, whose slope at 0 is as steep as it may be.
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr int kSteps = 5;
constexpr double kSmallestNorm = 1e-7;

}  // namespace

torch::Tensor orthogonalize(const torch::Tensor& matrices, torch::Dtype compute) {
  torch::Tensor x = matrices.to(compute);
  const bool is_tall = x.size(-2) > x.size(-1);
  if (is_tall) x = x.transpose(-1, -2);
  const torch::Dtype sums = compute == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const torch::Tensor norm =
      x.to(sums).square().sum({-2, -1}, true).sqrt().clamp_min(kSmallestNorm);
  x = x / norm.to(compute);
  for (int i = 0; i < kSteps; ++i) {
    const torch::Tensor gram = x.matmul(x.transpose(-1, -2));
    x = x * kA + (gram * kB + gram.matmul(gram) * kC).matmul(x);
  }
  return is_tall ? x.transpose(-1, -2) : x;
}

double muon_scale(MuonScale scale, int64_t rows, int64_t columns) {
  const auto r = static_cast<double>(rows), c = static_cast<double>(columns);
  if (scale == MuonScale::kOriginal) return std::sqrt(std::max(1.0, r / c));
  return 0.2 * std::sqrt(std::max(r, c));
}

Muon::Muon(std::vector<torch::Tensor> matrices, const MuonOptions& options,
           std::vector<double> units)
    : options_(options), matrices_(std::move(matrices)), units_(std::move(units)) {
  units_.resize(matrices_.size(), 1);
  const torch::NoGradGuard no_grad;
  std::map<std::vector<int64_t>, std::vector<size_t>> by_shape;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    US_CHECK(matrices_[i].dim() >= 2, "{} dimensions", matrices_[i].dim());
    momentum_.push_back(torch::zeros_like(matrices_[i]));
    by_shape[matrices_[i].sizes().vec()].push_back(i);
  }
  for (auto& [shape, members] : by_shape) groups_.push_back(std::move(members));
}

void Muon::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  for (const std::vector<size_t>& group : groups_) {
    std::vector<torch::Tensor> updates;
    for (const size_t i : group) {
      const torch::Tensor gradient = matrices_[i].grad();
      US_CHECK(gradient.defined(), "matrix {} has no gradient", i);
      momentum_[i].lerp_(gradient, 1 - options_.momentum);
      updates.push_back(gradient.lerp(momentum_[i], options_.momentum));  // Nesterov's
    }
    const torch::Tensor directions = orthogonalize(torch::stack(updates), options_.compute);
    const torch::Tensor& like = matrices_[group.front()];
    const double scale = muon_scale(options_.scale, like.size(-2), like.size(-1));
    for (size_t i = 0; i < group.size(); ++i) {
      torch::Tensor& matrix = matrices_[group[i]];
      matrix.mul_(1 - learning_rate * options_.weight_decay);
      matrix.sub_(directions[static_cast<int64_t>(i)].to(matrix.scalar_type()) *
                  (learning_rate * scale * units_[group[i]]));
    }
  }
}

}  // namespace ultraspeed::train
