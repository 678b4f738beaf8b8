// What layers of transformers have in common, in tensors.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>

namespace ultraspeed::train {

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double epsilon);

struct Rotation {
  torch::Tensor cosine, sine;  // [..., 1, rotary_dim / 2], in the type that is asked for
};
// RoPE's angles of integer positions [...].
Rotation make_rotation(const torch::Tensor& positions, int64_t rotary_dim, double theta,
                       torch::Dtype type);
// heads: [..., heads, head_dim], whose first rotary_dim dimensions turn in pairs
// (i, i + rotary_dim / 2).
torch::Tensor rotate(const torch::Tensor& heads, const Rotation& rotation);

}  // namespace ultraspeed::train
