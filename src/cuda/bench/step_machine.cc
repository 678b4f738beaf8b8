#include "cuda/bench/step_machine.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <variant>

#include "base/check.h"
#include "cuda/bench/general_stages.h"
#include "cuda/bench/route_words.h"
#include "cuda/bench/synthetic.h"
#include "cuda/ops/column_group.h"
#include "program/step_check.h"

namespace ultraspeed::cuda {
namespace {

using program::Program;

uint32_t sampled_ids(const Program& program) {
  uint32_t vocab_size = 1;
  for (const program::Stage& stage : program.stages) {
    const auto* sample = std::get_if<program::SampleOperands>(&stage.operands);
    if (sample != nullptr) vocab_size = sample->vocab_size;
  }
  return vocab_size;
}

}  // namespace

StepMachine::StepMachine(Program program, const StepShape& shape, const MachineOptions& options)
    : shape_(shape),
      options_(options),
      step_(prepare_step(std::move(program), shape.has_own_routes)),
      forms_{weight_forms({&step_.program, 1}, options),
             cache_forms({&step_.program, 1}, options.kv_cache)},
      rotation_(
          rotate_weights(step_.program, forms_.weights, shape.live_experts, shape.has_own_routes)) {
  const uint32_t page_positions = step_.program.kv_page_positions;
  limits_.num_kv_pages = (shape.positions + shape.rows + page_positions - 1) / page_positions;
  pages_.resize(limits_.num_kv_pages);
  std::iota(pages_.begin(), pages_.end(), 0);
  page_table_ = pages_;
  const uint32_t vocab_size = sampled_ids(step_.program);
  for (uint32_t i = 0; i < shape.rows; ++i) {
    program::Column column;
    column.token_id = static_cast<int32_t>((1000 + uint64_t{7919} * i) % vocab_size);
    column.position = shape.positions + i;
    column.is_drafted = i > 0 && step_.program.is_drafting();
    // Of a prompt only the last token does.
    column.wants_logits = shape.rows <= kMaxGroupColumns || i + 1 == shape.rows;
    columns_.push_back(column);
  }
}

std::vector<StageGroup> StepMachine::groups() const {
  std::vector<StageGroup> groups =
      group_stages(step_.program, forms_, options_.only_rank.value_or(0), shape_);
  for (StageGroup& group : groups) {
    const program::Stage& first = step_.program.stages[group.stages[0]];
    group.general_reason = general_reason(step_.program, forms_, first, options_);
  }
  return groups;
}

uint64_t StepMachine::memory_bytes() const {
  const std::span<const Program> programs(&step_.program, 1);
  return rotation_.places.size_bytes + arena_bytes(programs, limits_, options_) +
         cache_bytes(programs, limits_, options_.kv_cache);
}

Status StepMachine::load(cudaStream_t stream) {
  US_ASSIGN(image_, StepImage::make());
  SyntheticWeights weights(rotation_);
  US_TRY(machine_.load({step_.program}, limits_, &weights, options_));
  US_ASSIGN(launcher_, StageLauncher::make(machine_, 0, options_.activations, options_.kv_cache,
                                           image_->device_view()));
  US_TRY(cuda_status(cudaMemsetAsync(machine_.view().ranks[0].arena, 0,
                                     arena_bytes(machine_.programs(), limits_, options_), stream),
                     "clearing activations"));
  US_TRY(fill_caches(stream));
  if (!shape_.has_own_routes) US_TRY(upload_routes(stream));
  US_TRY(upload_step(stream));
  return cuda_status(cudaStreamSynchronize(stream), "making synthetic data");
}

Status StepMachine::fill_caches(cudaStream_t stream) {
  const uint32_t rank = machine_.first_rank();
  const Program& program = step_.program;
  for (program::CacheId id = 0; id < program.caches.size(); ++id) {
    const program::CacheDecl& decl = program.caches[id];
    if (forms_.caches[id] != CacheForm::kRows) {
      const uint64_t size_bytes = cache_bytes(program, id, forms_.caches[id], limits_);
      const WordKind kind =
          forms_.caches[id] == CacheForm::kBf16Tiles ? WordKind::kBf16 : WordKind::kE4m3;
      US_TRY(cuda_status(fill_pages({machine_.tiles(rank, id).tiles, size_bytes, size_bytes,
                                     size_bytes, kind, kind},
                                    stream),
                         "making synthetic KV caches"));
      continue;
    }
    const uint64_t rows = program::cache_positions(program, decl, limits_) * decl.num_kv_heads;
    const Cache cache = machine_.cache(rank, id);
    cudaError_t error = fill_values(cache.keys, rows * decl.head_dim, stream);
    if (error == cudaSuccess) error = fill_values(cache.values, rows * decl.v_head_dim, stream);
    US_TRY(cuda_status(error, "making synthetic KV caches"));
  }
  return {};
}

Status StepMachine::upload_routes(cudaStream_t stream) {
  for (const PreparedRoute& route : step_.routes) {
    const uint32_t num_pairs = std::max(shape_.live_experts, route.num_chosen * shape_.rows);
    const std::vector<uint32_t> words = route_words(
        rotation_.live(route.gate_up), {shape_.rows, num_pairs, route.max_slots, route.max_pairs});
    US_TRY(cuda_status(
        cudaMemcpyAsync(machine_.buffer(machine_.first_rank(), 0, route.buffer), words.data(),
                        words.size() * sizeof(uint32_t), cudaMemcpyHostToDevice, stream),
        "copying route tables"));
  }
  return {};
}

Result<std::vector<uint32_t>> StepMachine::live_counts(cudaStream_t stream) const {
  std::vector<uint32_t> counts(step_.routes.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto* table = machine_.buffer(machine_.first_rank(), 0, step_.routes[i].buffer);
    US_TRY(cuda_status(
        cudaMemcpyAsync(&counts[i], table, sizeof(uint32_t), cudaMemcpyDeviceToHost, stream),
        "reading route tables"));
  }
  US_TRY(cuda_status(cudaStreamSynchronize(stream), "reading route tables"));
  return counts;
}

Status StepMachine::upload_step(cudaStream_t stream) {
  US_TRY(program::check_step(step_.program, limits_, input()));
  return image_->upload(step_.program, input(), stream);
}

Status StepMachine::check_results(cudaStream_t stream) {
  US_TRY(image_->download(stream));
  US_TRY(cuda_status(cudaStreamSynchronize(stream), "running a step"));
  program::StepOutput output;
  return image_->read(input(), &output);
}

}  // namespace ultraspeed::cuda
