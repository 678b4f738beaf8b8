// Makes the phases of the resident kernels of what a step launches (stage_launcher.h).
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/resident/phase.h"
#include "cuda/resident/phase_ctas.h"

namespace ultraspeed::cuda {

// Each phase waits for the one recorded before it, so that of experts for the route, which their
// loader has to know. What is made of a row is part of the phase that makes the row, or the first
// such one. What has no phase is cudaErrorNotSupported, and limit() says what it was.
class PhaseRecorder final : public KernelSink {
 public:
  // REQUIRES: machine stays where it is.
  PhaseRecorder(const Machine& machine, uint32_t program, const PhaseCtas& ctas)
      : machine_(&machine), program_(program), ctas_(ctas) {}

  // The phases of a step; the first waits for the last one of the step before.
  std::vector<Phase> finish();
  const std::string& limit() const { return limit_; }

  // Between both: what a stage has recorded before something of it was refused.
  void begin_stage();
  void drop_stage();

  cudaError_t run(const DenseColumnsLaunch& launch) override;
  cudaError_t run(const DensePrepare& data) override;
  cudaError_t run(const DenseLaunch& launch, const DenseStore& store) override;
  cudaError_t run(const DenseLaunch& launch, const DensePartials& partials) override;
  cudaError_t run(const DenseLaunch& launch, const DenseSwiglu& swiglu) override;
  cudaError_t run(const DenseLaunch& launch, const DenseQkv& qkv) override;
  cudaError_t run(const JoinedRows& data) override;
  cudaError_t run(const HeadRows& data) override;
  cudaError_t run(const ExpertLaunch& launch, const QuantizeData& data) override;
  cudaError_t run(const ExpertLaunch& launch, const ExpertGateUpData& data) override;
  cudaError_t run(const ExpertLaunch& launch, const ExpertDownData& data) override;
  cudaError_t run(const ExpertPrefill&, const PrefillRows&, const PrefillInput&) override;
  cudaError_t run(const ExpertPrefill&) override;
  cudaError_t run(const ExpertPrefill&, const PrefillGateUpData&) override;
  cudaError_t run(const ExpertPrefill&, const PrefillDownData&) override;
  cudaError_t run(const KvRows& rows) override;
  cudaError_t run(const QueryRows& rows) override;
  cudaError_t run(const FlashAttention& launch) override;
  cudaError_t run(const RoundRows& data) override;
  cudaError_t run(const F32Product& data) override;
  cudaError_t run(const program::QkvProjOperands&, const CacheRounding&,
                  const StageLaunch&) override;
#define US_DECLARE_RUN(name) \
  cudaError_t run(const program::name##Operands& op, const StageLaunch& launch) override;
  US_OPCODES(US_DECLARE_RUN)
#undef US_DECLARE_RUN

 private:
  template <class Payload>
  cudaError_t add(PhaseKind kind, const Payload& payload, uint32_t arrivals);
  template <class Payload>
  cudaError_t add_units(PhaseKind kind, const Payload& payload, uint32_t num_units,
                        uint64_t scratch_bytes);
  template <class Epilogue>
  cudaError_t add_dense(PhaseKind kind, const DenseLaunch& launch, const Epilogue& epilogue);
  template <class Op>
  cudaError_t add_stage(PhaseKind kind, const Op& op, const StageLaunch& launch,
                        uint64_t scratch_bytes);
  cudaError_t add_rows(const RowsPhase& rows);
  cudaError_t check_scratch(uint64_t size_bytes);
  cudaError_t refuse(std::string what);
  cudaError_t check_experts(const ExpertLaunch& launch);
  // The phase that has the rows, and to which what is made of them can be added, as is_free(phase)
  // says: an earlier one, or a new one. nullptr: it was refused.
  template <class IsFree>
  RowsPhase* phase_of_rows(const float* rows, uint32_t size, const float* norm_weight,
                           float norm_epsilon, const IsFree& is_free);
  template <class Payload>
  Payload* change(size_t index);
  uint32_t width() const {
    return machine_->programs()[program_].width;
  }
  PhaseWait wait_for(uint32_t phase) const {
    return {phase, phases_[phase].arrivals, 0};
  }

  const Machine* machine_;
  uint32_t program_;
  PhaseCtas ctas_;
  std::vector<Phase> phases_;
  bool has_route_ = false;
  size_t stage_begin_ = 0;
  std::vector<std::pair<size_t, Phase>> changed_;  // since then; as they were, by number
  std::string limit_;
};

}  // namespace ultraspeed::cuda
