#include "cuda/resident/phase_ctas.h"

#include <variant>

#include "program/program.h"

namespace ultraspeed::cuda {

OtherCtas other_ctas(const program::Program& program) {
  constexpr uint32_t kSmallHiddenSize = 2048;
  if (program.hidden_size < kSmallHiddenSize) return {.of_units = 32, .of_stages = 16};
  uint32_t num_full = 0, num_windows = 0;
  for (const program::Stage& stage : program.stages) {
    const auto* op = std::get_if<program::AttentionOperands>(&stage.operands);
    if (op == nullptr) continue;
    ++(op->window == 0 ? num_full : num_windows);
  }
  if (num_full < num_windows) return {};
  return {.of_units = 16, .of_stages = 32};
}

}  // namespace ultraspeed::cuda
