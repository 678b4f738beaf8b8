#include "apps/executor_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/terminal.h"
#include "cpu/executor.h"
#ifdef US_HAS_CUDA
#include "cuda/executor.h"
#endif

namespace ultraspeed::apps {
namespace {

// A processor reads weights of this size from its caches, with no launch between two operations:
// docs/performance.md, "Decode on a GPU".
constexpr uint64_t kCachedBytes = uint64_t{256} << 20;

ChosenExecutor cpu_executor(const ExecutorOptions& options) {
  return {cpu::make_cpu_executor({.activations = options.activations,
                                  .kv_cache = options.kv_cache,
                                  .pin_threads = options.pin_threads}),
          processor_limits(options)};
}

#ifdef US_HAS_CUDA
constexpr bool kHasGpuCode = true;

Result<ChosenExecutor> gpu_executor(const ExecutorOptions& options) {
  US_ASSIGN(program::DeviceLimits limits, cuda::device_limits(0));
  // All ranks share it.
  limits.num_workers = std::max(limits.num_workers / options.ranks, 1U);
  limits.memory_bytes /= options.ranks;
  return ChosenExecutor{cuda::make_graph_executor(options.activations, options.kv_cache),
                        std::move(limits)};
}
#else
constexpr bool kHasGpuCode = false;

Result<ChosenExecutor> gpu_executor(const ExecutorOptions&) {
  return make_error(ErrorCode::kUnsupported,
                    "this program was built without CUDA; install CUDA 13 and build again, or use "
                    "--executor cpu");
}
#endif

}  // namespace

std::string mode_text(program::Activations activations, program::KvCacheType kv_cache,
                      model::DenseDtype dense_dtype) {
  std::string text = fmt::format("{} activations", program::activations_name(activations));
  if (kv_cache != program::KvCacheType::kF32) {
    text += fmt::format(", {} KV cache", program::kv_cache_type_name(kv_cache));
  }
  if (dense_dtype != model::DenseDtype::kCheckpoint) {
    text += fmt::format(", {} dense weights", model::dense_dtype_name(dense_dtype));
  }
  return text;
}

uint32_t default_threads() {
  return cpu::cpu_limits(0).num_workers;
}

program::DeviceLimits processor_limits(const ExecutorOptions& options) {
  const uint32_t threads = options.threads != 0 ? options.threads : default_threads();
  return cpu::cpu_limits(std::max(threads / options.ranks, 1U));
}

Result<ChosenExecutor> choose_executor(const ExecutorOptions& options, uint64_t model_bytes) {
  const bool gpu_has_mode = options.activations != program::Activations::kInt8;
  if (options.kind == ExecutorKind::kGraph) {
    if (gpu_has_mode) return gpu_executor(options);
    return make_error(ErrorCode::kInvalidArgument,
                      "--executor graph has f32, w4a16 and w4a8 activations; --activations {} "
                      "needs --executor cpu",
                      program::activations_name(options.activations));
  }
  const bool wants_gpu = options.kind == ExecutorKind::kAuto && model_bytes > kCachedBytes;
  if (!wants_gpu || !kHasGpuCode || !gpu_has_mode) return cpu_executor(options);
  auto gpu = gpu_executor(options);
  if (gpu) return gpu;
  warn(gpu.error().message + "; running on the processor");
  return cpu_executor(options);
}

std::optional<ExecutorOptions> next_choice(const ExecutorOptions& options, std::string_view device,
                                           const Error& error) {
  if (options.kind != ExecutorKind::kAuto || device == kProcessor) return {};
  if (error.code != ErrorCode::kOutOfMemory && error.code != ErrorCode::kUnsupported) return {};
  warn(error.message + "; running on the processor");
  ExecutorOptions next = options;
  next.kind = ExecutorKind::kCpu;
  return next;
}

}  // namespace ultraspeed::apps
