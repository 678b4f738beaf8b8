// The executors on a GPU. The graph executor has one kernel a stage, recorded once for each program
// as a CUDA graph. It needs no counters: a stage starts when the one before is done. The persistent
// executor has kernels that stay: in f32 one, whose CTAs are the program's workers, in w4a8 three,
// which share phases of the same tiles that graphs have.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/trace.h"

namespace ultraspeed::cuda {

// The limits of GPU `index`, its memory what is free now but for kSpareBytes (device.h). Errors:
// kNotFound without a GPU or driver, kUnsupported for one that is not of compute capability 9.0;
// both say what is needed and what there is.
Result<program::DeviceLimits> device_limits(int index);

// REQUIRES: activations are not kInt8.
std::unique_ptr<program::Executor> make_graph_executor(
    program::Activations activations = program::Activations::kF32,
    program::KvCacheType kv_cache = program::KvCacheType::kF32);

struct PersistentOptions {
  program::Activations activations = program::Activations::kF32;  // or kW4a8
  program::KvCacheType kv_cache = program::KvCacheType::kF32;     // of kW4a8 any
  uint32_t wait_deadline_ms = 60'000;  // of a wait for others, who may wait themselves
  program::TraceSink trace = {};  // of kF32; empty: nothing is timed. Steps no executor on a GPU
};

// Its kernels leave when another executor of the process has a step or is loaded or destroyed
// (device_turn.h). In kW4a8 what has no phases runs as a graph; StepOutput says which it was.
// REQUIRES: between its steps nothing else of the process waits for the device.
std::unique_ptr<program::Executor> make_persistent_executor(const PersistentOptions& options = {});

}  // namespace ultraspeed::cuda
