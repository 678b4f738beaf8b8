#include "cuda/machine_executor.h"

#include <utility>
#include <variant>

#include "base/check.h"
#include "cuda/expert_stages.h"
#include "cuda/prefill_stages.h"
#include "program/step_check.h"

namespace ultraspeed::cuda {
namespace {

uint32_t vocab_size_of(const program::Program& program) {
  for (const program::Stage& stage : program.stages) {
    const auto* sample = std::get_if<program::SampleOperands>(&stage.operands);
    if (sample != nullptr) return sample->vocab_size;
  }
  return 0;
}

}  // namespace

uint64_t MachineExecutor::weight_bytes(const program::Program& program) const {
  return cuda::weight_bytes(program, options());
}

uint64_t MachineExecutor::cache_bytes(std::span<const program::Program> programs,
                                      const program::CacheLimits& limits) const {
  return cuda::cache_bytes(programs, limits, kv_cache_);
}

uint64_t MachineExecutor::activation_bytes(std::span<const program::Program> programs,
                                           const program::CacheLimits& limits) const {
  const std::vector<WeightForm> forms = weight_forms(programs, options());
  uint64_t size_bytes = cuda::arena_bytes(programs, limits, options());
  for (const program::Program& program : programs) {
    size_bytes += ExpertStages::operand_bytes(program, forms);
  }
  return size_bytes;
}

uint32_t MachineExecutor::prefill_width(const program::Program& program) const {
  return cuda::prefill_width(program, weight_forms({&program, 1}, options()));
}

Status MachineExecutor::load_machine(std::vector<program::Program> programs,
                                     const program::CacheLimits& limits,
                                     const program::WeightReader& read_weight) {
  for (const program::Program& program : programs) vocab_sizes_.push_back(vocab_size_of(program));
  US_ASSIGN(stream_, make_stream());
  US_ASSIGN(step_, StepImage::make());
  ReadWeights weights(read_weight);
  return machine_.load(std::move(programs), limits, &weights, options());
}

Status MachineExecutor::check_run(uint32_t index, const program::StepInput& input) const {
  US_CHECK(index < vocab_sizes_.size());
  US_TRY(program::check_step(machine_.programs()[index], machine_.limits(), input));
  if (machine_.has_tiles()) US_TRY(program::check_no_gaps(input));
  for (const program::Column& column : input.columns) {
    if (!column.wants_logits) continue;
    US_TRY(program::check_sampling(column.sampling, column.position, vocab_sizes_[index]));
  }
  return {};
}

}  // namespace ultraspeed::cuda
