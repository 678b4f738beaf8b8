// The graph executor: one kernel a stage, recorded once for each program as a CUDA graph. It needs
// no counters: a stage starts when the one before is done.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "program/arithmetic.h"
#include "program/executor.h"

namespace ultraspeed::cuda {

// The limits of GPU `index`, its memory what is free now but for kSpareBytes (device.h). Errors:
// kNotFound without a GPU or driver, kUnsupported for one that is not of compute capability 9.0;
// both say what is needed and what there is.
Result<program::DeviceLimits> device_limits(int index);

// REQUIRES: activations are not kInt8.
std::unique_ptr<program::Executor> make_graph_executor(
    program::Activations activations = program::Activations::kF32,
    program::KvCacheType kv_cache = program::KvCacheType::kF32);

}  // namespace ultraspeed::cuda
