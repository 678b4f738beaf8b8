// Launches kernels on a stream.
#pragma once

#include "cuda/kernel_sink.h"

namespace ultraspeed::cuda {

class StreamSink final : public KernelSink {
 public:
  explicit StreamSink(cudaStream_t stream) : stream_(stream) {}

  cudaError_t run(const DenseColumnsLaunch& launch) override {
    return launch_dense_columns(launch, stream_);
  }
  cudaError_t run(const DensePrepare& data) override { return launch_dense_prepare(data, stream_); }
  cudaError_t run(const DenseLaunch& launch, const DenseStore& store) override {
    return launch_dense(launch, store, stream_);
  }
  cudaError_t run(const DenseLaunch& launch, const DensePartials& partials) override {
    return launch_dense(launch, partials, stream_);
  }
  cudaError_t run(const DenseLaunch& launch, const DenseSwiglu& swiglu) override {
    return launch_dense(launch, swiglu, stream_);
  }
  cudaError_t run(const DenseLaunch& launch, const DenseQkv& qkv) override {
    return launch_dense(launch, qkv, stream_);
  }
  cudaError_t run(const JoinedRows& data) override { return launch_joined_rows(data, stream_); }
  cudaError_t run(const HeadRows& data) override { return launch_head_rows(data, stream_); }
  cudaError_t run(const ExpertLaunch& launch, const QuantizeData& data) override {
    return launch_quantize(launch, data, stream_);
  }
  cudaError_t run(const ExpertLaunch& launch, const ExpertGateUpData& data) override {
    return launch_expert_gate_up(launch, data, stream_);
  }
  cudaError_t run(const ExpertLaunch& launch, const ExpertDownData& data) override {
    return launch_expert_down(launch, data, stream_);
  }
  cudaError_t run(const ExpertPrefill& launch, const PrefillRows& rows,
                  const PrefillInput& output) override {
    return launch_prefill_quantize(launch, rows, output, stream_);
  }
  cudaError_t run(const ExpertPrefill& launch) override {
    return launch_expert_tiles(launch, stream_);
  }
  cudaError_t run(const ExpertPrefill& launch, const PrefillGateUpData& data) override {
    return launch_prefill_gate_up(launch, data, stream_);
  }
  cudaError_t run(const ExpertPrefill& launch, const PrefillDownData& data) override {
    return launch_prefill_down(launch, data, stream_);
  }
  cudaError_t run(const KvRows& rows) override { return launch_store_kv(rows, stream_); }
  cudaError_t run(const QueryRows& rows) override { return launch_store_queries(rows, stream_); }
  cudaError_t run(const FlashAttention& launch) override {
    return launch_flash_attention(launch, stream_);
  }
  cudaError_t run(const RoundRows& data) override { return launch_round_rows(data, stream_); }
  cudaError_t run(const F32Product& data) override { return launch_f32_product(data, stream_); }
  cudaError_t run(const program::QkvProjOperands& op, const CacheRounding& rounding,
                  const StageLaunch& launch) override {
    return launch_round_cache(op, rounding, on_stream(launch));
  }
#define US_RUN(name)                                                                       \
  cudaError_t run(const program::name##Operands& op, const StageLaunch& launch) override { \
    return launch_stage(op, on_stream(launch));                                            \
  }
  US_OPCODES(US_RUN)
#undef US_RUN

 private:
  StageLaunch on_stream(StageLaunch launch) const {
    launch.stream = stream_;
    return launch;
  }

  cudaStream_t stream_;
};

}  // namespace ultraspeed::cuda
