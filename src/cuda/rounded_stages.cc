#include "cuda/rounded_stages.h"

#include <algorithm>
#include <variant>
#include <vector>

#include "cuda/dense_stages.h"
#include "cuda/flash_stages.h"
#include "cuda/linear_output.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/round_cache.h"
#include "cuda/prefill_stages.h"
#include "cuda/scratch.h"

namespace ultraspeed::cuda {

using program::BufferId;
using program::Rounding;

namespace {

// Whether inputs go through scratch.
bool rounds_inputs(program::Activations activations) {
  return program::input_rounding(activations, tensor::WeightFormat::kMxfp4) != Rounding::kNone;
}

// Rounded inputs.
void add_input_scratch(const program::Program& program, program::Activations activations,
                       ScratchFloats* scratch) {
  if (!rounds_inputs(activations)) return;
  uint64_t* floats = scratch->data() + kInputScratch;
  const uint64_t hidden = uint64_t{program.width} * program.hidden_size;
  floats[0] = hidden;
  for (const program::Stage& stage : program.stages) {
    if (const auto* out_proj = std::get_if<program::OutProjOperands>(&stage.operands)) {
      floats[0] = std::max(floats[0], uint64_t{program.width} * out_proj->input_size);
    } else if (const auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands)) {
      floats[0] = std::max(floats[0], uint64_t{down->max_pairs} * down->intermediate_size);
    } else if (const auto* linear = std::get_if<program::LinearOperands>(&stage.operands)) {
      for (uint32_t i = 1; i < program::kMaxTaps; ++i) {
        if (linear->more_inputs[i - 1] != program::kNoId) floats[i] = hidden;
      }
    }
  }
}

}  // namespace

ScratchFloats scratch_floats(const program::Program& program, program::Activations activations,
                             const MemoryForms& forms, uint32_t num_sequences) {
  ScratchFloats floats = {};
  add_input_scratch(program, activations, &floats);
  add_flash_scratch(program, forms.caches, num_sequences, &floats);
  add_prefill_scratch(program, forms.weights, &floats);
  add_dense_scratch(program, forms.weights, &floats);
  for (uint64_t& count : floats) count = align_scratch(count);
  return floats;
}

RoundedStages::RoundedStages(const Machine& machine, uint32_t program,
                             program::Activations activations, program::KvCacheType kv_cache,
                             const StepView* step)
    : machine_(&machine),
      index_(program),
      program_(&machine.programs()[program]),
      activations_(activations),
      kv_cache_(kv_cache),
      step_(step) {}

Rounding RoundedStages::rounding_of(program::WeightId weight) const {
  return program::input_rounding(activations_, program_->weights[weight].format);
}

BufferId RoundedStages::scratch(uint32_t i) const {
  return scratch_id(*program_, kInputScratch + i);
}

cudaError_t RoundedStages::round(std::span<const Input> inputs, Rounding rounding,
                                 KernelSink& sink) const {
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank(); ++rank) {
    for (uint32_t i = 0; i < inputs.size(); ++i) {
      const Input& input = inputs[i];
      RoundRows data;
      data.rows = machine_->buffer(rank, index_, input.buffer);
      data.num_rows = input.num_rows;
      data.size = input.size;
      data.norm_weight = machine_->vector(rank, input.norm.weight);
      data.norm_epsilon = input.norm.epsilon;
      data.rounding = rounding;
      data.output = machine_->buffer(rank, index_, scratch(i));
      const cudaError_t error = sink.run(data);
      if (error != cudaSuccess) return error;
    }
  }
  return cudaSuccess;
}

template <class Op, class Replace>
cudaError_t RoundedStages::launch_rounded(const Op& op, const Input& input, const Replace& replace,
                                          const StageLaunch& launch, KernelSink& sink) const {
  const Rounding rounding = rounding_of(op.weight);
  if (rounding == Rounding::kNone) return sink.run(op, launch);
  const cudaError_t error = round({&input, 1}, rounding, sink);
  if (error != cudaSuccess) return error;
  Op rounded = op;
  replace(rounded, scratch(0));
  return sink.run(rounded, launch);
}

template <class Op>
cudaError_t RoundedStages::launch_normed(const Op& op, const StageLaunch& launch,
                                         KernelSink& sink) const {
  return launch_rounded(
      op, {op.hidden, op.norm, program_->width, program_->hidden_size},
      [](Op& rounded, BufferId input) {
        rounded.hidden = input;
        rounded.norm = {};
      },
      launch, sink);
}

cudaError_t RoundedStages::launch(const program::QkvProjOperands& op, const StageLaunch& launch,
                                  KernelSink& sink) const {
  return launch_normed(op, launch, sink);
}

cudaError_t RoundedStages::round_cache(const program::QkvProjOperands& op,
                                       const StageLaunch& launch, KernelSink& sink) const {
  if (kv_cache_ == program::KvCacheType::kF32 || op.num_kv_heads == 0) return cudaSuccess;
  CacheRounding rounding = {kv_cache_,
                            program_->width,
                            machine_->first_rank(),
                            machine_->end_rank() - machine_->first_rank(),
                            {}};
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank(); ++rank) {
    rounding.scales.of[rank] = machine_->kv_scales(rank, op);
  }
  return sink.run(op, rounding, launch);
}

cudaError_t RoundedStages::launch(const program::OutProjOperands& op, const StageLaunch& launch,
                                  KernelSink& sink) const {
  return launch_rounded(
      op, {op.input, {}, program_->width, op.input_size},
      [](program::OutProjOperands& rounded, BufferId input) { rounded.input = input; }, launch,
      sink);
}

cudaError_t RoundedStages::launch(const program::GateUpOperands& op, const StageLaunch& launch,
                                  KernelSink& sink) const {
  return launch_normed(op, launch, sink);
}

cudaError_t RoundedStages::launch(const program::ExpertGateUpOperands& op,
                                  const StageLaunch& launch, KernelSink& sink) const {
  return launch_normed(op, launch, sink);
}

cudaError_t RoundedStages::launch(const program::ExpertDownOperands& op, const StageLaunch& launch,
                                  KernelSink& sink) const {
  return launch_rounded(
      op, {op.activation, {}, op.max_pairs, op.intermediate_size},
      [](program::ExpertDownOperands& rounded, BufferId input) { rounded.activation = input; },
      launch, sink);
}

bool RoundedStages::is_f32_product(const program::LinearOperands& op) const {
  const program::WeightDecl& decl = program_->weights[op.weight];
  return rounds_inputs(activations_) && decl.format == tensor::WeightFormat::kF32 &&
         decl.cols % kF32ProductColumns == 0 && op.more_inputs[0] == program::kNoId &&
         op.broadcast == 0 && op.gather_to_rank_0 == 0;
}

cudaError_t RoundedStages::launch_f32(const program::LinearOperands& op, KernelSink& sink) const {
  const Input input = {op.input, op.norm, program_->width, program_->hidden_size};
  cudaError_t error = round({&input, 1}, Rounding::kNone, sink);
  for (uint32_t rank = machine_->first_rank(); rank < machine_->end_rank() && error == cudaSuccess;
       ++rank) {
    const LinearOutput output = linear_output(*machine_, rank, index_, op, step_);
    const Weight& weight = machine_->weight(rank, op.weight);
    error = sink.run(F32Product{.weights = reinterpret_cast<const float*>(weight.data),
                                .num_rows = weight.rows,
                                .k = weight.cols,
                                .rows = machine_->buffer(rank, index_, scratch(0)),
                                .width = program_->width,
                                .num_columns = &step_->num_columns,
                                .filter = output.filter,
                                .output = output.data,
                                .total_rows = op.total_rows,
                                .first_row = output.first_row});
  }
  return error;
}

cudaError_t RoundedStages::launch(const program::LinearOperands& op, const StageLaunch& launch,
                                  KernelSink& sink) const {
  const Rounding rounding = rounding_of(op.weight);
  if (is_f32_product(op)) return launch_f32(op, sink);
  if (rounding == Rounding::kNone) return sink.run(op, launch);
  // Blocks of columns are those of the joined row, which Machine::load() has seen to.
  program::LinearOperands rounded = op;
  rounded.input = scratch(0);
  rounded.norm = rounded.second_norm = {};
  std::vector<Input> inputs = {{op.input, op.norm, program_->width, program_->hidden_size}};
  for (uint32_t i = 0; i < op.more_inputs.size() && op.more_inputs[i] != program::kNoId; ++i) {
    rounded.more_inputs[i] = scratch(i + 1);
    inputs.push_back({op.more_inputs[i], i == 0 ? op.second_norm : program::NormRef(),
                      program_->width, program_->hidden_size});
  }
  const cudaError_t error = round(inputs, rounding, sink);
  return error == cudaSuccess ? sink.run(rounded, launch) : error;
}

}  // namespace ultraspeed::cuda
