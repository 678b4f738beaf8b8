#include "cuda/bench/expert_shape.h"

#include <algorithm>
#include <variant>

namespace ultraspeed::cuda {

std::vector<ExpertShape> find_expert_shapes(const program::Program& program) {
  std::vector<ExpertShape> shapes;
  for (const program::Stage& stage : program.stages) {
    const auto* op = std::get_if<program::ExpertGateUpOperands>(&stage.operands);
    if (op == nullptr) continue;
    const program::WeightDecl& weight = program.weights[op->weight];
    const ExpertShape shape{weight.format,
                            weight.count,
                            weight.cols,
                            op->intermediate_size,
                            op->max_pairs / program.width,
                            program.num_ranks};
    if (std::ranges::find(shapes, shape) == shapes.end()) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace ultraspeed::cuda
