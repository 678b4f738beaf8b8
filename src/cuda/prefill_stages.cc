#include "cuda/prefill_stages.h"

#include <algorithm>
#include <variant>

#include "base/check.h"
#include "cuda/ops/column_group.h"
#include "cuda/tile/mxfp4_page.h"

namespace ultraspeed::cuda {
namespace {

using program::ExpertDownOperands;
using program::ExpertGateUpOperands;

// A prompt takes 0.6 of the time that it takes in steps of 64 columns. Steps of 512 would save
// another seventh, and let those who decode wait 1.7 times as long (docs/performance.md).
constexpr uint32_t kWidePrefill = 256;

// The first expert stage with pages, whose shape is that of all (ExpertStages); nullptr: none.
const ExpertGateUpOperands* first_stage(const program::Program& program,
                                        std::span<const WeightForm> weights) {
  for (const program::Stage& stage : program.stages) {
    const auto* op = std::get_if<ExpertGateUpOperands>(&stage.operands);
    if (op != nullptr && weights[op->weight] == WeightForm::kGateUpPages) return op;
  }
  return nullptr;
}

// Whether any expert has what the kernels do not add or clamp.
bool has_biases(const program::Program& program) {
  return std::ranges::any_of(program.stages, [](const program::Stage& stage) {
    const auto* gate_up = std::get_if<ExpertGateUpOperands>(&stage.operands);
    const auto* down = std::get_if<ExpertDownOperands>(&stage.operands);
    return (gate_up != nullptr && (gate_up->bias != program::kNoId || gate_up->clamp.limit != 0)) ||
           (down != nullptr && down->bias != program::kNoId);
  });
}

// Whether the kernels take the program's experts.
bool has_shape(const program::Program& program, std::span<const WeightForm> weights) {
  const ExpertGateUpOperands* op = first_stage(program, weights);
  return op != nullptr && !has_biases(program) &&
         program.weights[op->weight].count <= kMaxPrefillSlots &&
         program.hidden_size % (kGateUpMaxRanks * kGateUpPageColumns) == 0 &&
         down_chunk_columns(program, op->intermediate_size) == kDownChunkColumns;
}

// What all expert stages of the program have in common.
ExpertPrefill common_launch(const program::Program& program, const ExpertGateUpOperands& op) {
  ExpertPrefill launch;
  launch.num_tokens = program.width;
  launch.experts_per_token = op.max_pairs / program.width;
  launch.max_pairs = op.max_pairs;
  launch.hidden = program.hidden_size;
  launch.intermediate = op.intermediate_size;
  return launch;
}

// Where the parts of kExpertScratch lie, in bytes. One layer's are alive at a time.
struct ScratchPlaces {
  ScratchPlaces(const ExpertPrefill& launch, uint32_t max_slots) {
    const uint64_t elements = uint64_t{launch.num_tokens} * launch.hidden;
    const uint32_t max_pairs = launch.max_pairs;
    tiles = add(ExpertTiles::words(max_slots, max_pairs, max_pairs) * sizeof(uint32_t));
    codes = add(elements);
    scales = add(elements / kBlockColumns);
    h = add(prefill_h_bytes(max_slots, max_pairs, launch.intermediate));
    products = add(prefill_product_bytes(launch, prefill_section_groups(launch)));
    counters = add(launch.hidden / 128 * sizeof(SectionCounters));
  }

  uint64_t tiles, codes, scales, h, products, counters;
  uint64_t size_bytes = 0;

 private:
  uint64_t add(uint64_t bytes) {
    constexpr uint64_t kAlignment = kScratchAlignment * sizeof(float);
    const uint64_t at = size_bytes;
    size_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
};

}  // namespace

uint32_t prefill_width(const program::Program& program, std::span<const WeightForm> weights) {
  return has_shape(program, weights) ? kWidePrefill : kMaxGroupColumns;
}

bool has_prefill_stages(const program::Program& program, std::span<const WeightForm> weights) {
  return program.width >= kMaxGroupColumns && has_shape(program, weights);
}

void add_prefill_scratch(const program::Program& program, std::span<const WeightForm> weights,
                         ScratchFloats* floats) {
  if (!has_prefill_stages(program, weights)) return;
  const ExpertGateUpOperands& op = *first_stage(program, weights);
  const ScratchPlaces places(common_launch(program, op), op.max_slots);
  (*floats)[kExpertScratch] = places.size_bytes / sizeof(float);
}

Result<PrefillStages> PrefillStages::make(const Machine& machine, uint32_t program,
                                          const StepView* step) {
  const program::Program& of = machine.programs()[program];
  const ExpertGateUpOperands* op = first_stage(of, machine.forms());
  US_CHECK(op != nullptr && machine.is_single(), "program '{}'", of.name);
  PrefillStages stages(machine, program);
  stages.launch_ = common_launch(of, *op);
  stages.launch_.num_columns = &step->num_columns;
  US_ASSIGN(stages.launch_.num_ctas, count_multiprocessors());
  return stages;
}

float* PrefillStages::buffer(program::BufferId id) const {
  return machine_->buffer(machine_->first_rank(), program_, id);
}

std::byte* PrefillStages::scratch(uint64_t offset_bytes) const {
  const program::BufferId id = scratch_id(machine_->programs()[program_], kExpertScratch);
  return reinterpret_cast<std::byte*>(buffer(id)) + offset_bytes;
}

template <class Op>
ExpertPrefill PrefillStages::launch_of(const Op& op) const {
  ExpertPrefill launch = launch_;
  const ScratchPlaces places(launch, op.max_slots);
  launch.route = program::RouteTable::at(reinterpret_cast<uint32_t*>(buffer(op.route)),
                                         op.max_slots, op.max_pairs);
  launch.tiles = ExpertTiles::at(reinterpret_cast<uint32_t*>(scratch(places.tiles)), op.max_slots,
                                 op.max_pairs);
  return launch;
}

cudaError_t PrefillStages::launch(const ExpertGateUpOperands& op, KernelSink& sink) const {
  const uint32_t rank = machine_->first_rank();
  const ExpertPrefill launch = launch_of(op);
  const ScratchPlaces places(launch, op.max_slots);
  const PrefillInput input = {scratch(places.codes), scratch(places.scales)};
  cudaError_t error = sink.run(
      launch,
      PrefillRows{buffer(op.hidden), machine_->vector(rank, op.norm.weight), op.norm.epsilon},
      input);
  if (error != cudaSuccess) return error;
  error = sink.run(launch);
  if (error != cudaSuccess) return error;
  return sink.run(launch, PrefillGateUpData{machine_->weight(rank, op.weight).data, input,
                                            scratch(places.h), buffer(op.activation)});
}

cudaError_t PrefillStages::launch(const ExpertDownOperands& op, KernelSink& sink) const {
  const uint32_t rank = machine_->first_rank();
  const ExpertPrefill launch = launch_of(op);
  const ScratchPlaces places(launch, op.max_slots);
  PrefillDownData data;
  data.weights = machine_->weight(rank, op.weight).data;
  data.input = scratch(places.h);
  data.products = reinterpret_cast<float*>(scratch(places.products));
  data.counters = reinterpret_cast<SectionCounters*>(scratch(places.counters));
  data.partials = buffer(op.partials);
  data.first_chunk = rank * rank_chunks(machine_->programs()[program_]);
  data.section_groups = prefill_section_groups(launch);
  return sink.run(launch, data);
}

}  // namespace ultraspeed::cuda
