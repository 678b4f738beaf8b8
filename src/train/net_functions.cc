#include "train/net_functions.h"

#include <cmath>

namespace ultraspeed::train {

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double epsilon) {
  return x * (x.square().mean(-1, true) + epsilon).rsqrt() * weight;
}

Rotation make_rotation(const torch::Tensor& positions, int64_t rotary_dim, double theta,
                       torch::Dtype type) {
  const int64_t pairs = rotary_dim / 2;
  const auto options = torch::dtype(torch::kFloat64).device(positions.device());
  const torch::Tensor exponents = torch::arange(pairs, options) / static_cast<double>(-pairs);
  const torch::Tensor frequencies = torch::exp(exponents * std::log(theta));
  const torch::Tensor angles = positions.to(torch::kFloat64).unsqueeze(-1) * frequencies;
  return {angles.cos().to(type).unsqueeze(-2), angles.sin().to(type).unsqueeze(-2)};
}

torch::Tensor rotate(const torch::Tensor& heads, const Rotation& rotation) {
  const int64_t pairs = rotation.cosine.size(-1);
  const torch::Tensor low = heads.narrow(-1, 0, pairs), high = heads.narrow(-1, pairs, pairs);
  const torch::Tensor rest = heads.narrow(-1, 2 * pairs, heads.size(-1) - 2 * pairs);
  return torch::cat({low * rotation.cosine - high * rotation.sine,
                     high * rotation.cosine + low * rotation.sine, rest},
                    -1);
}

}  // namespace ultraspeed::train
