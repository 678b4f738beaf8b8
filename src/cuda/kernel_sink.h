// Where the kernels of a program's stages go: to a stream, which a graph records, or to the phases
// of the resident kernels. What runs which kernels with which data is the same for both
// (stage_launcher.h).
#pragma once

#include <cuda_runtime.h>

#include "cuda/ops/dense.h"
#include "cuda/ops/dense_columns.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/ops/f32_product.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/ops/joined_rows.h"
#include "cuda/ops/round_cache.h"
#include "cuda/ops/round_rows.h"
#include "cuda/ops/stage.h"

namespace ultraspeed::cuda {

// run() takes what the launch_...() of the same parameters takes, in their order.
class KernelSink {
 public:
  virtual ~KernelSink() = default;

  virtual cudaError_t run(const DenseColumnsLaunch& launch) = 0;
  virtual cudaError_t run(const DensePrepare& data) = 0;
  virtual cudaError_t run(const DenseLaunch& launch, const DenseStore& store) = 0;
  virtual cudaError_t run(const DenseLaunch& launch, const DensePartials& partials) = 0;
  virtual cudaError_t run(const DenseLaunch& launch, const DenseSwiglu& swiglu) = 0;
  virtual cudaError_t run(const DenseLaunch& launch, const DenseQkv& qkv) = 0;
  virtual cudaError_t run(const JoinedRows& data) = 0;
  virtual cudaError_t run(const HeadRows& data) = 0;

  virtual cudaError_t run(const ExpertLaunch& launch, const QuantizeData& data) = 0;
  virtual cudaError_t run(const ExpertLaunch& launch, const ExpertGateUpData& data) = 0;
  virtual cudaError_t run(const ExpertLaunch& launch, const ExpertDownData& data) = 0;

  virtual cudaError_t run(const ExpertPrefill& launch, const PrefillRows& rows,
                          const PrefillInput& output) = 0;
  virtual cudaError_t run(const ExpertPrefill& launch) = 0;
  virtual cudaError_t run(const ExpertPrefill& launch, const PrefillGateUpData& data) = 0;
  virtual cudaError_t run(const ExpertPrefill& launch, const PrefillDownData& data) = 0;

  virtual cudaError_t run(const KvRows& rows) = 0;
  virtual cudaError_t run(const QueryRows& rows) = 0;
  virtual cudaError_t run(const FlashAttention& launch) = 0;

  virtual cudaError_t run(const RoundRows& data) = 0;
  virtual cudaError_t run(const F32Product& data) = 0;
  virtual cudaError_t run(const program::QkvProjOperands& op, const CacheRounding& rounding,
                          const StageLaunch& launch) = 0;

  // General operations.
#define US_DECLARE_RUN(name) \
  virtual cudaError_t run(const program::name##Operands& op, const StageLaunch& launch) = 0;
  US_OPCODES(US_DECLARE_RUN)
#undef US_DECLARE_RUN
};

}  // namespace ultraspeed::cuda
