#include "cuda/stage_launcher.h"

#include <utility>
#include <variant>

namespace ultraspeed::cuda {

Result<StageLauncher> StageLauncher::make(const Machine& machine, uint32_t program,
                                          program::Activations activations,
                                          program::KvCacheType kv_cache, const StepView* step) {
  US_ASSIGN(ExpertStages experts, ExpertStages::make(machine, program, step));
  US_ASSIGN(DenseStages dense, DenseStages::make(machine, program, step));
  US_ASSIGN(FlashStages flash, FlashStages::make(machine, program, step));
  return StageLauncher(machine, program, step, std::move(experts), std::move(dense),
                       std::move(flash),
                       RoundedStages(machine, program, activations, kv_cache, step));
}

cudaError_t StageLauncher::launch_qkv_proj(const program::QkvProjOperands& op,
                                           const StageLaunch& launch, KernelSink& sink) const {
  const bool has_tiles = flash_.has_tiles(op.cache);
  const program::QkvProjOperands product = has_tiles ? flash_.with_rows(op) : op;
  const cudaError_t error = has_pages(op.weight) ? dense_.launch(rank(), product, sink)
                                                 : rounded_.launch(product, launch, sink);
  if (error != cudaSuccess || flash_.stores_block_rows(op)) return error;
  return has_tiles ? flash_.store_rows(op, sink) : rounded_.round_cache(op, launch, sink);
}

cudaError_t StageLauncher::launch(uint32_t stage, bool follows_stage, KernelSink& sink) const {
  const ProgramMemory& memory = machine_->memory(program_);
  StageLaunch launch;
  launch.machine = machine_->view();
  launch.buffer_offsets = memory.buffer_offsets.as<const uint64_t>();
  launch.step = step_;
  launch.tasks = memory.tasks.as<const RankTask>() + memory.first_task[stage];
  launch.num_tasks = memory.first_task[stage + 1] - memory.first_task[stage];
  launch.follows_stage = follows_stage;
  if (launch.num_tasks == 0) return cudaSuccess;
  return launch_operands(machine_->programs()[program_].stages[stage].operands, launch, sink);
}

cudaError_t StageLauncher::launch_operands(const program::Operands& operands,
                                           const StageLaunch& launch, KernelSink& sink) const {
  return std::visit(
      [&](const auto& op) {
        if constexpr (requires { experts_.launch(op, sink); }) {
          if (has_pages(op.weight)) return experts_.launch(op, sink);
        }
        if constexpr (requires { flash_.launch(op, sink); }) {
          if (flash_.has_tiles(op)) return flash_.launch(op, sink);
        }
        if constexpr (requires { launch_qkv_proj(op, launch, sink); }) {
          return launch_qkv_proj(op, launch, sink);
        } else if constexpr (requires { rounded_.launch(op, launch, sink); }) {
          if constexpr (requires { dense_.launch(rank(), op, sink); }) {
            if (has_pages(op.weight)) return dense_.launch(rank(), op, sink);
          }
          return rounded_.launch(op, launch, sink);
        } else {
          return sink.run(op, launch);
        }
      },
      operands);
}

}  // namespace ultraspeed::cuda
