#include "cuda/expert_stages.h"

#include <variant>

#include "base/check.h"

namespace ultraspeed::cuda {

// Kernels take experts' biases to lie one behind the other, which form_bytes() keeps so.
static_assert(2 * kTileNeurons * sizeof(float) % kMatrixAlignment == 0 &&
              kBlockRows * sizeof(float) % kMatrixAlignment == 0);  // divisors: expert_limit()

namespace {

Result<DeviceMemory> zeros(uint64_t size_bytes) {
  US_ASSIGN(DeviceMemory memory, DeviceMemory::allocate(size_bytes));
  US_TRY(cuda_status(cudaMemset(memory.data(), 0, size_bytes), "clearing expert activations"));
  return memory;
}

// The first stage whose experts have pages; nullptr: none has.
const program::ExpertGateUpOperands* first_paged(const program::Program& program,
                                                 std::span<const WeightForm> forms) {
  for (const program::Stage& stage : program.stages) {
    const auto* op = std::get_if<program::ExpertGateUpOperands>(&stage.operands);
    if (op != nullptr && is_expert(forms[op->weight])) return op;
  }
  return nullptr;
}

ExpertLaunch launch_of(const program::Program& program, const program::ExpertGateUpOperands& op,
                       const ColumnGroup& columns) {
  ExpertLaunch launch;
  static_cast<ColumnGroup&>(launch) = columns;
  launch.format = program.weights[op.weight].format;
  launch.hidden = program.hidden_size;
  launch.intermediate = op.intermediate_size;
  launch.chunk_columns = down_chunk_columns(program, op.intermediate_size);
  return launch;
}

}  // namespace

uint64_t ExpertStages::operand_bytes(const program::Program& program,
                                     std::span<const WeightForm> forms) {
  const program::ExpertGateUpOperands* op = first_paged(program, forms);
  if (op == nullptr || has_prefill_stages(program, forms)) return 0;
  uint64_t size_bytes = 0;
  for (const ColumnGroup& columns : column_groups(program.width, nullptr)) {
    const ExpertLaunch launch = launch_of(program, *op, columns);
    size_bytes += expert_input_bytes(launch) + expert_activation_bytes(launch, op->max_slots);
  }
  return size_bytes;
}

Result<ExpertStages> ExpertStages::make(const Machine& machine, uint32_t program,
                                        const StepView* step) {
  ExpertStages stages(machine, program);
  const program::Program& of = machine.programs()[program];
  // Layers whose experts have pages are alike (weight_form.h); one layer's operands at a time are
  // alive.
  const program::ExpertGateUpOperands* first_op = first_paged(of, machine.forms());
  if (first_op == nullptr) return stages;
  US_CHECK(machine.is_single(), "expert pages on several ranks");
  if (has_prefill_stages(of, machine.forms())) {
    US_ASSIGN(stages.prefill_, PrefillStages::make(machine, program, step));
    return stages;
  }
  for (const ColumnGroup& columns : column_groups(of.width, step)) {
    US_TRY(stages.add_group(columns, *first_op));
  }
  return stages;
}

Status ExpertStages::add_group(const ColumnGroup& columns,
                               const program::ExpertGateUpOperands& op) {
  const program::Program& program = machine_->programs()[program_];
  Group group;
  ExpertLaunch& launch = group.launch;
  launch = launch_of(program, op, columns);
  US_TRY(cuda_status(set_clusters(&launch), "asking how many expert kernels run at once"));
  US_ASSIGN(group.input, zeros(expert_input_bytes(launch)));
  US_ASSIGN(group.activation, zeros(expert_activation_bytes(launch, op.max_slots)));
  groups_.push_back(std::move(group));
  return {};
}

float* ExpertStages::buffer(program::BufferId id) const {
  return machine_->buffer(machine_->first_rank(), program_, id);
}

ExpertLaunch ExpertStages::with_route(const Group& group, program::BufferId route,
                                      uint32_t max_slots, uint32_t max_pairs) const {
  ExpertLaunch launch = group.launch;
  launch.route =
      program::RouteTable::at(reinterpret_cast<uint32_t*>(buffer(route)), max_slots, max_pairs);
  return launch;
}

cudaError_t ExpertStages::launch(const program::ExpertGateUpOperands& op, KernelSink& sink) const {
  if (prefill_) return prefill_->launch(op, sink);
  const uint32_t rank = machine_->first_rank();
  for (const Group& group : groups_) {
    const ExpertLaunch launch = with_route(group, op.route, op.max_slots, op.max_pairs);
    cudaError_t error =
        sink.run(launch, QuantizeData{buffer(op.hidden), machine_->vector(rank, op.norm.weight),
                                      op.norm.epsilon, group.input.data()});
    if (error != cudaSuccess) return error;
    error = sink.run(launch,
                     ExpertGateUpData{machine_->weight(rank, op.weight).data, group.input.data(),
                                      group.activation.data(), buffer(op.activation),
                                      machine_->vector(rank, op.bias), op.clamp.limit});
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t ExpertStages::launch(const program::ExpertDownOperands& op, KernelSink& sink) const {
  if (prefill_) return prefill_->launch(op, sink);
  const uint32_t rank = machine_->first_rank();
  const uint32_t first_chunk = rank * (program::kReductionChunks / machine_->view().num_ranks);
  for (const Group& group : groups_) {
    const ExpertLaunch launch = with_route(group, op.route, op.max_slots, op.max_pairs);
    const cudaError_t error = sink.run(
        launch, ExpertDownData{machine_->weight(rank, op.weight).data, group.activation.data(),
                               buffer(op.partials), first_chunk, machine_->vector(rank, op.bias)});
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace ultraspeed::cuda
