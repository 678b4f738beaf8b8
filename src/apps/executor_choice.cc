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

ChosenExecutor cpu_executor(const ExecutorOptions& options, uint64_t model_bytes) {
  const ArithmeticModes modes = modes_on(options, kProcessor, model_bytes);
  return {cpu::make_cpu_executor({.activations = modes.activations,
                                  .int8_drafts = true,
                                  .kv_cache = modes.kv_cache,
                                  .pin_threads = options.pin_threads,
                                  .trace = options.trace}),
          processor_limits(options), modes};
}

#ifdef US_HAS_CUDA
constexpr bool kHasGpuCode = true;

Result<ChosenExecutor> gpu_executor(const ExecutorOptions& options, uint64_t model_bytes) {
  US_ASSIGN(program::DeviceLimits limits, cuda::device_limits(0));
  // All ranks share it.
  limits.num_workers = std::max(limits.num_workers / options.ranks, 1U);
  limits.memory_bytes /= options.ranks;
  const ArithmeticModes modes = modes_on(options, limits.name, model_bytes);
  auto executor = options.kind == ExecutorKind::kPersistent
                      ? cuda::make_persistent_executor({.activations = modes.activations,
                                                        .kv_cache = modes.kv_cache,
                                                        .trace = options.trace})
                      : cuda::make_graph_executor(modes.activations, modes.kv_cache);
  return ChosenExecutor{std::move(executor), std::move(limits), modes};
}
#else
constexpr bool kHasGpuCode = false;

Result<ChosenExecutor> gpu_executor(const ExecutorOptions&, uint64_t) {
  return make_error(ErrorCode::kUnsupported,
                    "this program was built without CUDA; install CUDA 13 and build again, or use "
                    "--executor cpu");
}
#endif

// Of an executor on a GPU that was asked for.
Status check_gpu_modes(const ExecutorOptions& options) {
  if (options.activations == program::Activations::kInt8) {
    return make_error(ErrorCode::kInvalidArgument,
                      "on a GPU there are f32, w4a16 and w4a8 activations; --activations {} needs "
                      "--executor cpu",
                      program::activations_name(*options.activations));
  }
  if (options.kind != ExecutorKind::kPersistent || !options.activations) return {};
  if (*options.activations == program::Activations::kW4a16) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--executor persistent has f32 and w4a8 activations; --activations {} needs "
                      "--executor graph",
                      program::activations_name(*options.activations));
  }
  return {};
}

// Of a mode as it is with all defaults.
Status check_persistent_modes(const ArithmeticModes& modes) {
  if (modes.activations != program::Activations::kF32 ||
      modes.kv_cache == program::KvCacheType::kF32) {
    return {};
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "--executor persistent has an f32 KV cache with f32 activations; --kv-cache {} "
                    "needs --activations w4a8, or --executor graph",
                    program::kv_cache_type_name(modes.kv_cache));
}

}  // namespace

ArithmeticModes modes_on(const ExecutorOptions& options, std::string_view device,
                         uint64_t model_bytes) {
  using program::Activations;
  using program::KvCacheType;
  const bool is_rounded = device != kProcessor && model_bytes > kCachedBytes;
  const Activations activations =
      options.activations.value_or(is_rounded ? Activations::kW4a8 : Activations::kF32);
  // With f32 activations the persistent executor has no other cache than f32.
  const bool rounds_cache =
      is_rounded && (options.kind != ExecutorKind::kPersistent || activations != Activations::kF32);
  return {activations,
          options.kv_cache.value_or(rounds_cache ? KvCacheType::kBf16 : KvCacheType::kF32),
          options.dense_dtype};
}

std::string mode_text(const ArithmeticModes& modes) {
  std::string text = fmt::format("{} activations", program::activations_name(modes.activations));
  if (modes.kv_cache != program::KvCacheType::kF32) {
    text += fmt::format(", {} KV cache", program::kv_cache_type_name(modes.kv_cache));
  }
  if (modes.dense_dtype != model::DenseDtype::kCheckpoint) {
    text += fmt::format(", {} dense weights", model::dense_dtype_name(modes.dense_dtype));
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
  if (options.kind == ExecutorKind::kGraph || options.kind == ExecutorKind::kPersistent) {
    US_TRY(check_gpu_modes(options));
    if (options.kind == ExecutorKind::kPersistent) {
      US_TRY(check_persistent_modes(modes_on(options, "", model_bytes)));
    }
    return gpu_executor(options, model_bytes);
  }
  const bool wants_gpu = options.kind == ExecutorKind::kAuto && model_bytes > kCachedBytes;
  if (!wants_gpu || !kHasGpuCode || !check_gpu_modes(options)) {
    return cpu_executor(options, model_bytes);
  }
  auto gpu = gpu_executor(options, model_bytes);
  if (gpu) return gpu;
  warn(gpu.error().message + "; running on the processor");
  return cpu_executor(options, model_bytes);
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
