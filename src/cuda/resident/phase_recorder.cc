#include "cuda/resident/phase_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "cuda/resident/phase_kernel.h"
#include "cuda/tile/dense_page.h"
#include "program/operands.h"

namespace ultraspeed::cuda {
namespace {

uint32_t ceil_div(uint64_t a, uint32_t b) {
  return static_cast<uint32_t>((a + b - 1) / b);
}

// The row, and the weight of a norm, which may be asked for later.
constexpr uint64_t scratch_bytes(uint32_t row_size) {
  return uint64_t{2} * row_size * sizeof(float);
}

// Whether what is made of rows can be made before the phase, which stood in front of that: of what
// it reads only the rows' copy is made of them, and a second one, of the same rows and norm, has
// the same numbers.
bool stands_beside_rows(const Phase& phase) {
  return phase.kind == PhaseKind::kF32Product || phase.kind == PhaseKind::kRoute;
}

bool overlap(const float* a, uint64_t a_size, const float* b, uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

void PhaseRecorder::begin_stage() {
  stage_begin_ = phases_.size();
  changed_.clear();
}

void PhaseRecorder::drop_stage() {
  phases_.resize(stage_begin_);
  for (; !changed_.empty(); changed_.pop_back()) {
    phases_[changed_.back().first] = changed_.back().second;
  }
}

// The payload of a phase that is recorded already, to be added to.
template <class Payload>
Payload* PhaseRecorder::change(size_t index) {
  if (index < stage_begin_) changed_.emplace_back(index, phases_[index]);
  return reinterpret_cast<Payload*>(phases_[index].payload);
}

std::vector<Phase> PhaseRecorder::finish() {
  if (!phases_.empty()) {
    const auto last = static_cast<uint32_t>(phases_.size() - 1);
    phases_.front().wait = {last, phases_[last].arrivals, 1};
  }
  return std::exchange(phases_, {});
}

cudaError_t PhaseRecorder::refuse(std::string what) {
  limit_ = std::move(what);
  return cudaErrorNotSupported;
}

template <class Payload>
cudaError_t PhaseRecorder::add(PhaseKind kind, const Payload& payload, uint32_t arrivals) {
  US_CHECK(arrivals > 0, "a phase that nobody takes part in");  // whoever waits for it would not
  static_assert(sizeof(Payload) <= Phase::kPayloadBytes);
  Phase phase;
  phase.kind = kind;
  phase.index = static_cast<uint32_t>(phases_.size());
  phase.arrivals = arrivals;
  if (!phases_.empty()) phase.wait = wait_for(static_cast<uint32_t>(phases_.size() - 1));
  std::memcpy(phase.payload, &payload, sizeof(payload));
  phases_.push_back(phase);
  return cudaSuccess;
}

cudaError_t PhaseRecorder::check_scratch(uint64_t size_bytes) {
  if (size_bytes <= phase_unit_bytes()) return cudaSuccess;
  return refuse(fmt::format("{} bytes of work space for an operation, more than {}", size_bytes,
                            phase_unit_bytes()));
}

template <class Payload>
cudaError_t PhaseRecorder::add_units(PhaseKind kind, const Payload& payload, uint32_t num_units,
                                     uint64_t scratch_bytes) {
  const cudaError_t error = check_scratch(scratch_bytes);
  if (error != cudaSuccess) return error;
  const uint32_t ctas = group_of(kind) == PhaseGroup::kStages ? ctas_.of_stages : ctas_.of_units;
  const cudaError_t added = add(kind, payload, std::min(num_units, ctas));
  if (added == cudaSuccess) phases_.back().num_units = num_units;
  return added;
}

cudaError_t PhaseRecorder::run(const DenseColumnsLaunch& launch) {
  return add_units(PhaseKind::kDenseColumns, launch, launch.num_kinds, 0);
}

template <class IsFree>
RowsPhase* PhaseRecorder::phase_of_rows(const float* from, uint32_t size, const float* norm_weight,
                                        float norm_epsilon, const IsFree& is_free) {
  RowsPhase rows;
  rows.rows = from;
  rows.num_rows = width();
  rows.size = size;
  rows.norm_weight = norm_weight;
  rows.norm_epsilon = norm_epsilon;
  size_t index = phases_.size();
  while (index > 0 && stands_beside_rows(phases_[index - 1])) --index;
  if (index-- > 0 && phases_[index].kind == PhaseKind::kRows) {
    const auto& of = phases_[index].as<RowsPhase>();
    const bool is_same_norm = of.norm_weight == norm_weight && of.norm_epsilon == norm_epsilon;
    if (of.rows == from && of.size == size && (is_same_norm || !of.is_made()) && is_free(of)) {
      auto* to = change<RowsPhase>(index);
      to->norm_weight = norm_weight;
      to->norm_epsilon = norm_epsilon;
      return to;
    }
  }
  if (add_rows(rows) != cudaSuccess) return nullptr;
  return change<RowsPhase>(phases_.size() - 1);
}

cudaError_t PhaseRecorder::add_rows(const RowsPhase& rows) {
  if (rows.size % kThreadFloats != 0) {
    return refuse(
        fmt::format("rows of {} floats, which {} does not divide", rows.size, kThreadFloats));
  }
  return add_units(PhaseKind::kRows, rows, kPhaseColumns, scratch_bytes(rows.size));
}

cudaError_t PhaseRecorder::run(const DensePrepare& data) {
  if (data.columns != kPhaseColumns) return refuse("more than 8 columns");
  const bool fills_up = paged_row(data.format, data.k, data.num_chunks).size() != data.k;
  const auto is_of_window = [&](const FlashAttention& attention) {
    return attention.output == data.rows && attention.cache.v_head_dim == kFlashValueDim;
  };
  if (!phases_.empty() && phases_.back().kind == PhaseKind::kWindow &&
      is_of_window(phases_.back().as<WindowPhase>().attention) && data.norm_weight == nullptr &&
      !fills_up) {
    auto* window = change<WindowPhase>(phases_.size() - 1);
    window->dense_operand = data.operand;
    window->dense_format = data.format;
    return cudaSuccess;
  }
  if (data.norm_weight == nullptr && scratch_bytes(data.k) > phase_unit_bytes()) {
    if (uint64_t{data.k} * sizeof(float) > phase_stage_bytes()) return refuse("rows too long");
    return add_units(PhaseKind::kLongRow, data, kPhaseColumns, 0);
  }
  RowsPhase* rows = phase_of_rows(data.rows, data.k, data.norm_weight, data.epsilon,
                                  [](const RowsPhase& of) { return of.dense_operand == nullptr; });
  if (rows == nullptr) return cudaErrorNotSupported;
  rows->dense_operand = data.operand;
  rows->dense_format = data.format;
  rows->dense_chunks = data.num_chunks;
  rows->fills_up = fills_up;
  return cudaSuccess;
}

template <class Epilogue>
cudaError_t PhaseRecorder::add_dense(PhaseKind kind, const DenseLaunch& launch,
                                     const Epilogue& epilogue) {
  if (launch.columns != kPhaseColumns) return refuse("more than 8 columns");
  const uint32_t units = ceil_div(launch.rows, kDenseTileRows) * launch.num_chunks;
  const uint32_t clusters = std::min(units, ctas_.streaming / kPhaseRanks);
  DensePhase<Epilogue> phase{launch, epilogue};
  set_pages(&phase.launch);
  return add(kind, phase, clusters * kPhaseRanks);
}

cudaError_t PhaseRecorder::run(const DenseLaunch& launch, const DenseStore& store) {
  return add_dense(PhaseKind::kDenseStore, launch, store);
}
cudaError_t PhaseRecorder::run(const DenseLaunch& launch, const DensePartials& partials) {
  return add_dense(PhaseKind::kDensePartials, launch, partials);
}
cudaError_t PhaseRecorder::run(const DenseLaunch& launch, const DenseSwiglu& swiglu) {
  return add_dense(PhaseKind::kDenseSwiglu, launch, swiglu);
}
cudaError_t PhaseRecorder::run(const DenseLaunch& launch, const DenseQkv& qkv) {
  return add_dense(PhaseKind::kDenseQkv, launch, qkv);
}

cudaError_t PhaseRecorder::run(const JoinedRows& data) {
  if (data.width > kPhaseColumns) return refuse("more than 8 columns");
  return add_units(PhaseKind::kJoinedRows, data, data.width * data.num_inputs, 0);
}

cudaError_t PhaseRecorder::run(const HeadRows& data) {
  if (data.width > kPhaseColumns) return refuse("more than 8 columns");
  return add_units(PhaseKind::kHeadRows, data,
                   ceil_div(uint64_t{data.width} * data.num_heads(), 2 * kPhaseUnitWarps), 0);
}

// Before the first phase of experts: all of them have phases or none.
cudaError_t PhaseRecorder::check_experts(const ExpertLaunch& launch) {
  if (launch.columns != kPhaseColumns) return refuse("more than 8 columns");
  if (launch.format != tensor::WeightFormat::kMxfp4) return refuse("experts in FP8");
  if (!has_route_) return refuse("experts without a router before them");
  if (gate_up_ranks(launch.hidden) == 2) return refuse("experts whose columns pairs of CTAs share");
  return cudaSuccess;
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const QuantizeData& data) {
  const cudaError_t limit = check_experts(launch);
  if (limit != cudaSuccess) return limit;
  RowsPhase* rows = phase_of_rows(data.rows, launch.hidden, data.norm_weight, data.norm_epsilon,
                                  [](const RowsPhase& of) { return of.expert_operand == nullptr; });
  if (rows == nullptr) return cudaErrorNotSupported;
  rows->expert_operand = data.output;
  rows->expert_columns = gate_up_columns(launch.hidden);
  return cudaSuccess;
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const ExpertGateUpData& data) {
  return add(PhaseKind::kGateUp, ExpertPhase<ExpertGateUpData>{launch, data}, ctas_.streaming);
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const ExpertDownData& data) {
  const cudaError_t limit = check_experts(launch);
  if (limit != cudaSuccess) return limit;
  const uint32_t units = launch.hidden / kBlockRows * (launch.intermediate / launch.chunk_columns);
  return add(PhaseKind::kDown, ExpertPhase<ExpertDownData>{launch, data},
             std::min(units, ctas_.streaming));
}

cudaError_t PhaseRecorder::run(const ExpertPrefill&, const PrefillRows&, const PrefillInput&) {
  return refuse("prefill of experts");
}
cudaError_t PhaseRecorder::run(const ExpertPrefill&) {
  return refuse("prefill of experts");
}
cudaError_t PhaseRecorder::run(const ExpertPrefill&, const PrefillGateUpData&) {
  return refuse("prefill of experts");
}
cudaError_t PhaseRecorder::run(const ExpertPrefill&, const PrefillDownData&) {
  return refuse("prefill of experts");
}

cudaError_t PhaseRecorder::run(const KvRows& rows) {
  return add_units(PhaseKind::kStoreKv, rows,
                   ceil_div(uint64_t{rows.num_columns} * rows.cache.num_kv_heads, kPhaseUnitWarps),
                   0);
}
cudaError_t PhaseRecorder::run(const QueryRows& rows) {
  return add_units(PhaseKind::kStoreQueries, rows,
                   ceil_div(uint64_t{rows.num_columns} * rows.num_q_heads, kPhaseUnitWarps), 0);
}

cudaError_t PhaseRecorder::run(const FlashAttention& launch) {
  if (!launch.is_short()) {
    if (launch.max_columns > kMaxFlashColumns) return refuse("attention of more than 64 columns");
    return add_units(PhaseKind::kAttention, launch, ctas_.of_stages, 0);  // each has a share
  }
  const uint32_t kv_heads = launch.cache.num_kv_heads;
  const uint32_t slabs = ceil_div(launch.num_q_heads / kv_heads, kPhaseWindowHeads);
  return add_units(PhaseKind::kWindow, WindowPhase{launch}, kPhaseColumns * kv_heads * slabs,
                   phase_window_bytes(launch.format));
}

cudaError_t PhaseRecorder::run(const RoundRows& data) {
  if (width() > kPhaseColumns) return refuse("more than 8 columns");
  if (data.rounding != program::Rounding::kNone || data.num_rows != width() ||
      data.size % kThreadFloats != 0) {
    return add_units(PhaseKind::kRoundRows, data, data.num_rows,
                     uint64_t{2} * data.size * sizeof(float));
  }
  RowsPhase* rows = phase_of_rows(data.rows, data.size, data.norm_weight, data.norm_epsilon,
                                  [](const RowsPhase& of) { return of.copy == nullptr; });
  if (rows == nullptr) return cudaErrorNotSupported;
  rows->copy = data.output;
  return cudaSuccess;
}

cudaError_t PhaseRecorder::run(const F32Product& data) {
  if (data.width > kPhaseColumns) return refuse("more than 8 columns");
  if (data.k % kF32LongStage != 0 && data.k % kF32ShortStage != 0) {
    return refuse(fmt::format("a router of {} columns, which neither {} nor {} divides", data.k,
                              kF32LongStage, kF32ShortStage));
  }
  const uint32_t tiles = phase_f32_tiles(data);
  return add(PhaseKind::kF32Product, data, std::min(tiles, ctas_.streaming));
}

cudaError_t PhaseRecorder::run(const program::QkvProjOperands& op, const CacheRounding& rounding,
                               const StageLaunch& launch) {
  const uint64_t heads = uint64_t{rounding.num_ranks} * rounding.width * 2 * op.num_kv_heads;
  return add_units(PhaseKind::kRoundCache,
                   CacheRoundingPhase{op, rounding, launch.tasks, launch.buffer_offsets},
                   ceil_div(heads, kPhaseUnitWarps), 0);
}

template <class Op>
cudaError_t PhaseRecorder::add_stage(PhaseKind kind, const Op& op, const StageLaunch& launch,
                                     uint64_t scratch_bytes) {
  const StagePhase phase = {StageOperands::of(op), launch.tasks, launch.buffer_offsets};
  return add_units(kind, phase, launch.num_tasks, scratch_bytes);
}

// As a phase of rows where there is one, for what is made of them.
cudaError_t PhaseRecorder::run(const program::ReduceOperands& op, const StageLaunch& launch) {
  if (width() > kPhaseColumns) return refuse("more than 8 columns");
  if (!machine_->is_single()) return add_stage(PhaseKind::kStage, op, launch, 0);
  std::vector<RankTask> tasks(launch.num_tasks);
  const cudaError_t error = cudaMemcpy(tasks.data(), launch.tasks, tasks.size() * sizeof(RankTask),
                                       cudaMemcpyDeviceToHost);
  if (error != cudaSuccess) return error;
  const uint32_t rank = machine_->first_rank();
  const auto buffer = [&](program::BufferId id) { return machine_->buffer(rank, program_, id); };
  RowsPhase rows;
  rows.rows = buffer(op.output);
  rows.num_rows = width();
  rows.size = machine_->view().hidden_size;
  rows.residual = buffer(op.residual);
  rows.partials = buffer(op.partials);
  rows.bias = machine_->vector(rank, op.bias);
  rows.rows_offset = machine_->memory(program_).offsets[op.output];
  rows.first_sum = ~0u;
  uint32_t count = 0;
  for (const RankTask& of : tasks) {
    rows.first_sum = std::min(rows.first_sum, of.task.row_begin);
    rows.end_sum = std::max(rows.end_sum, of.task.row_begin + of.task.row_count);
    count += of.task.row_count;
  }
  const bool is_apart = count != rows.end_sum - rows.first_sum;
  const bool is_aligned = rows.first_sum % kThreadFloats == 0 &&
                          rows.end_sum % kThreadFloats == 0 && rows.size % kThreadFloats == 0;
  // Units read what they add at different times.
  const uint64_t floats = uint64_t{rows.num_rows} * rows.size;
  const bool is_in_place =
      overlap(rows.rows, floats, rows.residual, floats) ||
      overlap(rows.rows, floats, rows.partials, floats * program::kReductionChunks);
  if (is_apart || !is_aligned || is_in_place) return add_stage(PhaseKind::kStage, op, launch, 0);
  return add_rows(rows);
}
cudaError_t PhaseRecorder::run(const program::RouteOperands& op, const StageLaunch& launch) {
  if (op.num_experts > kPhaseExperts) return refuse("more than 384 experts");
  if (op.max_pairs > kPhaseColumns * op.top_k) return refuse("more than 8 columns");
  const cudaError_t error = add_stage(PhaseKind::kRoute, op, launch, phase_route_bytes(op));
  has_route_ = has_route_ || error == cudaSuccess;
  return error;
}

#define US_ADD(name)                                                                             \
  cudaError_t PhaseRecorder::run(const program::name##Operands& op, const StageLaunch& launch) { \
    return add_stage(PhaseKind::kStage, op, launch, 0);                                          \
  }
US_ADD(Embed)
US_ADD(QkvProj)
US_ADD(Attention)
US_ADD(AttentionMerge)
US_ADD(OutProj)
US_ADD(GateUp)
US_ADD(ExpertGateUp)
US_ADD(ExpertDown)
US_ADD(Linear)
US_ADD(Sample)
US_ADD(Accept)
US_ADD(Nominate)
US_ADD(Propose)
US_ADD(Follow)
#undef US_ADD

}  // namespace ultraspeed::cuda
