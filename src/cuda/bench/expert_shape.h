// The shapes of a program's experts, for the kernels that are measured with them.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "program/program.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// A layer's experts, as one rank has them.
struct ExpertShape {
  tensor::WeightFormat format = tensor::WeightFormat::kMxfp4;
  uint32_t num_experts = 0;
  uint32_t hidden = 0, intermediate = 0;
  uint32_t top_k = 0;      // experts that a column chooses
  uint32_t num_ranks = 1;  // that share the intermediate size

  auto operator<=>(const ExpertShape&) const = default;
};

// Each once, in the order of the stages.
std::vector<ExpertShape> find_expert_shapes(const program::Program& program);

}  // namespace ultraspeed::cuda
