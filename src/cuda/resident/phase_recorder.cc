#include "cuda/resident/phase_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cuda/resident/phase_kernel.h"
#include "cuda/tile/dense_page.h"
#include "program/operands.h"

namespace ultraspeed::cuda {
namespace {

uint32_t ceil_div(uint64_t a, uint32_t b) {
  return static_cast<uint32_t>((a + b - 1) / b);
}

}  // namespace

void PhaseRecorder::drop_from(size_t count) {
  phases_.resize(count);
}

std::vector<Phase> PhaseRecorder::finish() {
  if (!phases_.empty()) {
    const auto last = static_cast<uint32_t>(phases_.size() - 1);
    phases_.front().waits[0] = {last, phases_[last].arrivals, 1};
  }
  return std::exchange(phases_, {});
}

cudaError_t PhaseRecorder::refuse(std::string what) {
  limit_ = std::move(what);
  return cudaErrorNotSupported;
}

template <class Payload>
cudaError_t PhaseRecorder::add(PhaseKind kind, const Payload& payload, uint32_t num_units,
                               uint32_t arrivals, uint64_t scratch_bytes) {
  static_assert(sizeof(Payload) <= Phase::kPayloadBytes);
  const uint32_t slots = ceil_div(scratch_bytes, phase_slot_bytes());
  if (slots > phase_ring_slots()) {
    return refuse(
        fmt::format("{} bytes of work space for an operation, more than the {} of the page ring",
                    scratch_bytes, phase_ring_slots() * phase_slot_bytes()));
  }
  Phase phase;
  phase.kind = kind;
  phase.num_units = num_units;
  phase.arrivals = arrivals;
  phase.scratch_slots = slots;
  if (!phases_.empty()) phase.waits[0] = wait_for(static_cast<uint32_t>(phases_.size() - 1));
  std::memcpy(phase.payload, &payload, sizeof(payload));
  phases_.push_back(phase);
  return cudaSuccess;
}

template <class Payload>
cudaError_t PhaseRecorder::add_units(PhaseKind kind, const Payload& payload, uint32_t num_units,
                                     uint64_t scratch_bytes) {
  return add(kind, payload, num_units, std::min(num_units, num_ctas_), scratch_bytes);
}

cudaError_t PhaseRecorder::run(const DenseColumnsLaunch& launch) {
  return add_units(PhaseKind::kDenseColumns, launch, launch.num_kinds, 0);
}

cudaError_t PhaseRecorder::run(const DensePrepare& data) {
  if (data.columns != kPhaseColumns) return refuse("more than 8 columns");
  const uint64_t rows = data.norm_weight == nullptr ? 1 : 2;
  return add_units(PhaseKind::kDensePrepare, data, data.columns, rows * data.k * sizeof(float));
}

template <class Epilogue>
cudaError_t PhaseRecorder::add_dense(PhaseKind kind, const DenseLaunch& launch,
                                     const Epilogue& epilogue) {
  if (launch.columns != kPhaseColumns) return refuse("more than 8 columns");
  const uint32_t units = ceil_div(launch.rows, kDenseTileRows) * launch.num_chunks;
  const uint32_t clusters = std::min(units, num_ctas_ / kDenseRanks);
  return add(kind, DensePhase<Epilogue>{launch, epilogue}, units, clusters * kDenseRanks, 0);
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

// Before the first phase of experts: all of them have phases or none.
cudaError_t PhaseRecorder::check_experts(const ExpertLaunch& launch) {
  if (launch.columns != kPhaseColumns) return refuse("more than 8 columns");
  if (launch.format != tensor::WeightFormat::kMxfp4) return refuse("experts in FP8");
  if (gate_up_ranks(launch.hidden) != kGateUpMaxRanks) {
    return refuse(
        fmt::format("experts with a hidden size of {}, which 2048 does not divide", launch.hidden));
  }
  if (last_route_ == kNoPhase) return refuse("experts without a router before them");
  return cudaSuccess;
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const QuantizeData& data) {
  const cudaError_t limit = check_experts(launch);
  if (limit != cudaSuccess) return limit;
  const cudaError_t error =
      add_units(PhaseKind::kQuantize, ExpertPhase<QuantizeData>{launch, data},
                launch.columns * kQuantizeParts, uint64_t{2} * launch.hidden * sizeof(float));
  if (error != cudaSuccess) return error;
  last_quantize_ = static_cast<uint32_t>(phases_.size() - 1);
  move_beside_router(data.rows);
  return cudaSuccess;
}

// Experts and their router normalise the same rows: the last phase, which makes the experts' input,
// does not wait for the route, but runs beside the rounding of the router's rows, on other CTAs.
void PhaseRecorder::move_beside_router(const float* rows) {
  const auto is_router = [&](const Phase& phase) {
    return phase.kind == PhaseKind::kRoundRows && phase.as<RoundRows>().rows == rows;
  };
  uint32_t router = last_quantize_;
  while (router > 0 && last_quantize_ - router < 3 && !is_router(phases_[router])) --router;
  if (!is_router(phases_[router])) return;
  const uint32_t to = router + 1;
  Phase phase = phases_.back();
  phases_.pop_back();
  phase.waits[0] = phases_[router].waits[0];
  phase.first_cta = phases_[router].arrivals % num_ctas_;
  phases_.insert(phases_.begin() + to, phase);
  for (size_t i = to + 1; i < phases_.size(); ++i) {
    for (PhaseWait& wait : phases_[i].waits) {
      if (wait.phase != kNoPhase && wait.phase >= to) ++wait.phase;
    }
  }
  if (last_route_ != kNoPhase && last_route_ >= to) ++last_route_;
  last_quantize_ = to;
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const ExpertGateUpData& data) {
  const cudaError_t error =
      add(PhaseKind::kGateUp, ExpertPhase<ExpertGateUpData>{launch, data}, 0, num_ctas_, 0);
  if (error != cudaSuccess) return error;
  phases_.back().waits[0] = wait_for(last_quantize_);
  phases_.back().waits[1] = wait_for(last_route_);
  return cudaSuccess;
}

cudaError_t PhaseRecorder::run(const ExpertLaunch& launch, const ExpertDownData& data) {
  const cudaError_t limit = check_experts(launch);
  if (limit != cudaSuccess) return limit;
  const uint32_t units = launch.hidden / kBlockRows * (launch.intermediate / launch.chunk_columns);
  return add(PhaseKind::kDown, ExpertPhase<ExpertDownData>{launch, data}, units,
             std::min(units, num_ctas_), 0);
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
  if (!launch.is_short()) return refuse("full attention");
  const uint32_t kv_heads = launch.cache.num_kv_heads;
  const uint32_t slabs = ceil_div(launch.num_q_heads / kv_heads, kPhaseWindowHeads);
  return add_units(PhaseKind::kWindow, launch, launch.max_columns * kv_heads * slabs,
                   phase_window_bytes(launch.format));
}

cudaError_t PhaseRecorder::run(const RoundRows& data) {
  if (data.norm_weight == nullptr || data.size % 512 != 0) {
    return refuse("rounding of rows that are not normalised");
  }
  return add_units(PhaseKind::kRoundRows, data, data.num_rows,
                   uint64_t{2} * data.size * sizeof(float));
}

cudaError_t PhaseRecorder::run(const F32Product& data) {
  if (data.width > kPhaseColumns) return refuse("more than 8 columns");
  if (data.k % phase_f32_columns() != 0) {
    return refuse(fmt::format("an F32 matrix of {} columns, which {} does not divide", data.k,
                              phase_f32_columns()));
  }
  return add_units(PhaseKind::kF32Product, data, phase_f32_tiles(data), 0);
}

cudaError_t PhaseRecorder::run(const program::QkvProjOperands&, const CacheRounding&,
                               const StageLaunch&) {
  return refuse("caches of rounded rows");
}

template <class Op>
cudaError_t PhaseRecorder::add_stage(const Op& op, const StageLaunch& launch,
                                     uint64_t scratch_bytes) {
  const StagePhase phase = {StageOperands::of(op), launch.tasks, launch.buffer_offsets};
  return add_units(PhaseKind::kStage, phase, launch.num_tasks, scratch_bytes);
}

cudaError_t PhaseRecorder::run(const program::EmbedOperands& op, const StageLaunch& launch) {
  return add_stage(op, launch, 0);
}
cudaError_t PhaseRecorder::run(const program::ReduceOperands& op, const StageLaunch& launch) {
  return add_stage(op, launch, 0);
}
cudaError_t PhaseRecorder::run(const program::AcceptOperands& op, const StageLaunch& launch) {
  return add_stage(op, launch, 0);
}
cudaError_t PhaseRecorder::run(const program::RouteOperands& op, const StageLaunch& launch) {
  if (op.num_experts > kPhaseExperts) return refuse("more than 384 experts");
  if (op.max_pairs > kPhaseColumns * op.top_k) return refuse("more than 8 columns");
  const cudaError_t error = add_stage(op, launch, phase_route_bytes(op));
  if (error == cudaSuccess) last_route_ = static_cast<uint32_t>(phases_.size() - 1);
  return error;
}

#define US_REFUSE(name)                                                                \
  cudaError_t PhaseRecorder::run(const program::name##Operands&, const StageLaunch&) { \
    return refuse("the general operation " #name);                                     \
  }
US_REFUSE(QkvProj)
US_REFUSE(Attention)
US_REFUSE(AttentionMerge)
US_REFUSE(OutProj)
US_REFUSE(GateUp)
US_REFUSE(ExpertGateUp)
US_REFUSE(ExpertDown)
US_REFUSE(Linear)
US_REFUSE(Sample)
US_REFUSE(Propose)
US_REFUSE(Follow)
#undef US_REFUSE

}  // namespace ultraspeed::cuda
