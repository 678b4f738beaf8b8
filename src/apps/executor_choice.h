// Which executor runs a model: --executor, and what auto means on this machine. The one place that
// knows both of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/dense_dtype.h"
#include "plan/plan.h"
#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/trace.h"

namespace ultraspeed::apps {

enum class ExecutorKind {
  kAuto,  // a GPU for models that a processor's caches cannot hold, else the processor
  kCpu,
  kGraph,       // one GPU, a kernel a stage
  kPersistent,  // one GPU, a kernel that stays; in f32
};

struct ExecutorOptions {
  ExecutorKind kind = ExecutorKind::kAuto;
  uint32_t threads = 0;  // of the processor, all ranks; 0: one per processor
  bool pin_threads = false;
  uint32_t ranks = 1;
  plan::AllReduce all_reduce = plan::AllReduce::kTwoShot;
  std::optional<program::Activations> activations = {};  // nullopt: modes_on() says
  std::optional<program::KvCacheType> kv_cache = {};     // likewise
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;
  program::TraceSink trace = {};  // of the processor's and the persistent executor; may be empty
};

inline constexpr std::string_view kProcessor = "cpu";  // DeviceLimits::name of the CPU executor

// What is rounded, and how.
struct ArithmeticModes {
  program::Activations activations = program::Activations::kF32;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;
};

// What the options mean on a device (DeviceLimits::name), for a model of so many bytes. Where they
// say nothing f32, but on a GPU w4a8 and a bf16 cache for models that a processor's caches cannot
// hold: its kernels for f32 are there to be right, and many times slower.
ArithmeticModes modes_on(const ExecutorOptions& options, std::string_view device,
                         uint64_t model_bytes);

// "f32 activations", "w4a8 activations, fp8 KV cache, fp8 dense weights".
std::string mode_text(const ArithmeticModes& modes);

// An executor and what it runs on.
struct ChosenExecutor {
  std::unique_ptr<program::Executor> executor;
  program::DeviceLimits limits;
  ArithmeticModes modes;
};

// The threads where --threads is not given: one per processor.
uint32_t default_threads();

// The processor's limits for these threads and ranks.
program::DeviceLimits processor_limits(const ExecutorOptions& options);

// For a model of so many bytes. Where auto wants a GPU and there is none, a line on standard error
// says why the processor is used.
// Errors: kInvalidArgument for an arithmetic mode that the executor does not have; of those on a
// GPU, kNotFound or kUnsupported without a GPU that can, with what is needed and what there is.
Result<ChosenExecutor> choose_executor(const ExecutorOptions& options, uint64_t model_bytes);

// What auto chooses when the GPU that it chose has too little memory, or no kernel for the model.
// Nothing if `device` was the processor, or was asked for.
std::optional<ExecutorOptions> next_choice(const ExecutorOptions& options, std::string_view device,
                                           const Error& error);

}  // namespace ultraspeed::apps
