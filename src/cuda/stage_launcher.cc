#include "cuda/stage_launcher.h"

#include <utility>
#include <variant>

namespace ultraspeed::cuda {

Result<StageLauncher> StageLauncher::make(const Machine& machine, uint32_t program,
                                          program::Activations activations,
                                          program::KvCacheType kv_cache, const StepView* step) {
  US_ASSIGN(ExpertStages experts, ExpertStages::make(machine, program, step));
  return StageLauncher(machine, std::move(experts),
                       RoundedStages(machine, program, activations, kv_cache));
}

cudaError_t StageLauncher::launch(const program::Operands& operands,
                                  const StageLaunch& launch) const {
  return std::visit(
      [&](const auto& op) {
        if constexpr (requires { experts_.launch(op, launch.stream); }) {
          if (has_pages(op.weight)) return experts_.launch(op, launch.stream);
        }
        if constexpr (requires { rounded_.launch(op, launch); }) {
          return rounded_.launch(op, launch);
        } else {
          return launch_stage(op, launch);
        }
      },
      operands);
}

}  // namespace ultraspeed::cuda
