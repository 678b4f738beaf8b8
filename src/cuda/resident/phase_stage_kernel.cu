#include "cuda/ops/dense_prepare.cuh"
#include "cuda/ops/joined_rows.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/resident/phase_attention.cuh"
#include "cuda/resident/phase_kernel.h"
#include "cuda/resident/run_opcode.cuh"
#include "cuda/resident/unit_cta.cuh"

namespace ultraspeed::cuda {
namespace {

// All that a multiprocessor has but for static shared memory.
constexpr uint32_t kStageBytes = 218 * 1024;

struct StageShared {
  UnitCtaShared cta;
  AttentionShared attention;

  // By one thread.
  __device__ void init() {
    cta.init();
    attention.init();
  }
};
static_assert(kStageBytes + sizeof(StageShared) <= 227 * 1024);
static_assert(FlashShared<PhaseTile<KvFormat::kE4m3>>::kBytes <= kStageBytes);
static_assert(FlashShared<PhaseTile<KvFormat::kBf16>>::kBytes <= kStageBytes);

// What CTAs of PhaseGroup::kStages do.
class PhaseStages : public UnitCta<PhaseStages> {
 public:
  __device__ __forceinline__ PhaseStages(const ResidentPhases& resident, StageShared& shared,
                                         std::byte* scratch, uint32_t cta)
      : UnitCta(resident, shared.cta, scratch, PhaseGroup::kStages, cta), shared_(shared) {}

  __device__ __forceinline__ void run_unit(uint32_t unit) {
    if (phase().kind == PhaseKind::kAttention) return attend(phase().as<FlashAttention>());
    await();
    if (!goes_on()) return;
    if (phase().kind != PhaseKind::kStage) return run_rows(phase(), unit, num_columns(), scratch_);
    const auto& stage = phase().as<StagePhase>();
    if (threadIdx.x == 0) exchange().note_heads(stage.operands);
    run_stage_unit(resident(), stage, unit, scratch_);
    task_barrier();
    if (threadIdx.x == 0) exchange().note_draft(stage.operands);
  }

 private:
  __device__ __forceinline__ void attend(const FlashAttention& launch) {
    make_plan(launch);
    const auto await_phase = [this] { await(); };
    const uint32_t* aborted = &resident().board->aborted;
    if (launch.format == KvFormat::kE4m3) {
      attend_to_all<KvFormat::kE4m3>(launch, shared_.attention, scratch_, aborted, await_phase);
    } else {
      attend_to_all<KvFormat::kBf16>(launch, shared_.attention, scratch_, aborted, await_phase);
    }
  }

  // Layers of the same shape share a step's.
  __device__ __forceinline__ void make_plan(const FlashAttention& launch) {
    const AttentionShape shape(launch);
    if (has_plan_ && plan_step_ == num_steps() && shape == plan_shape_) return;
    await();  // nothing of the step is known before
    if (threadIdx.x < kWarpThreads) shared_.attention.plan.make(launch);
    task_barrier();
    has_plan_ = true;
    plan_step_ = num_steps();
    plan_shape_ = shape;
  }

  __device__ __noinline__ static void run_rows(const Phase& phase, uint32_t unit,
                                               uint32_t num_columns, std::byte* scratch) {
    switch (phase.kind) {
      case PhaseKind::kLongRow:
        return phase.as<DensePrepare>().format == tensor::WeightFormat::kBf16
                   ? make_operand<Bf16Page>(phase.as<DensePrepare>(), unit, num_columns, scratch)
                   : make_operand<Fp8Page>(phase.as<DensePrepare>(), unit, num_columns, scratch);
      case PhaseKind::kJoinedRows:
        return join_rows(phase.as<JoinedRows>(), unit);
      case PhaseKind::kHeadRows:
        return HeadRow(phase.as<HeadRows>(), unit * kHalfWarps + half_warp()).run();
      default:
        return;  // other groups' phases
    }
  }

  // Of a row without a norm.
  template <class Page>
  __device__ static void make_operand(const DensePrepare& data, uint32_t column,
                                      uint32_t num_columns, std::byte* scratch) {
    auto* row = reinterpret_cast<float*>(scratch);
    const bool takes_part = column < num_columns;
    if (takes_part) copy_floats<kTaskThreads>(row, data.rows + uint64_t{column} * data.k, data.k);
    prepare_column<Page, kTaskThreads>(data, paged_row<Page>(data.k, data.num_chunks), column,
                                       {row, nullptr, nullptr}, takes_part);
  }

  // A function of its own: calls and products of attention do not mix.
  __device__ __noinline__ static void run_stage_unit(const ResidentPhases& resident,
                                                     const StagePhase& stage, uint32_t unit,
                                                     std::byte* scratch) {
    const RankTask of_unit = stage.tasks[unit];
    const OpContext context(resident.machine, stage.buffer_offsets, *resident.step, of_unit.task,
                            of_unit.rank, scratch);
    run_opcode<false>(context, stage.operands);
  }

  StageShared& shared_;
  bool has_plan_ = false;
  uint32_t plan_step_ = 0;
  AttentionShape plan_shape_ = AttentionShape(FlashAttention());
};

__global__ void __launch_bounds__(kTaskThreads, 1)
    stage_kernel(const __grid_constant__ ResidentPhases resident) {
  extern __shared__ __align__(128) std::byte scratch[];
  __shared__ StageShared shared;
  run_unit_cta<PhaseStages>(resident, shared, scratch, resident.num_ctas - gridDim.x);
}

}  // namespace

uint32_t phase_stage_bytes() {
  return kStageBytes;
}

cudaError_t load_stage_kernel() {
  return allow_shared_bytes(reinterpret_cast<const void*>(stage_kernel), kStageBytes);
}

cudaError_t launch_stages(const ResidentPhases& resident, const PhaseCtas& ctas,
                          cudaStream_t stream) {
  const LaunchSize size = {dim3(ctas.of_stages), kTaskThreads, kStageBytes};
  return launch_with(stage_kernel, size, {}, stream, resident);
}

}  // namespace ultraspeed::cuda
