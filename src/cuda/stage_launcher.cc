#include "cuda/stage_launcher.h"

#include <type_traits>
#include <utility>
#include <variant>

namespace ultraspeed::cuda {
namespace {

// Weights have pages in programs of one rank alone (weight_form.h).
constexpr uint32_t kRank = 0;

}  // namespace

Result<StageLauncher> StageLauncher::make(const Machine& machine, uint32_t program,
                                          program::Activations activations,
                                          program::KvCacheType kv_cache, const StepView* step) {
  US_ASSIGN(ExpertStages experts, ExpertStages::make(machine, program, step));
  US_ASSIGN(DenseStages dense, DenseStages::make(machine, program, step));
  return StageLauncher(machine, std::move(experts), std::move(dense),
                       RoundedStages(machine, program, activations, kv_cache));
}

template <class Op>
cudaError_t StageLauncher::launch_dense_stage(const Op& op, const StageLaunch& launch) const {
  const cudaError_t error = dense_.launch(kRank, op, launch.stream);
  if constexpr (std::is_same_v<Op, program::QkvProjOperands>) {
    if (error == cudaSuccess) return rounded_.round_cache(op, launch);
  }
  return error;
}

cudaError_t StageLauncher::launch(const program::Operands& operands,
                                  const StageLaunch& launch) const {
  return std::visit(
      [&](const auto& op) {
        if constexpr (requires { experts_.launch(op, launch.stream); }) {
          if (has_pages(op.weight)) return experts_.launch(op, launch.stream);
        }
        if constexpr (requires { dense_.launch(kRank, op, launch.stream); }) {
          if (has_pages(op.weight)) return launch_dense_stage(op, launch);
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
