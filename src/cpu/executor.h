// The CPU executor: one persistent thread for each worker of each rank, which walks its task list
// every step and waits on counters, as the CTAs of the GPU executor do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "program/arithmetic.h"
#include "program/executor.h"
#include "program/trace.h"

namespace ultraspeed::cpu {

using program::Activations;
using program::KvCacheType;

struct CpuOptions {
  // A wait that lasts longer is a fault: the step fails with a record of who waited for what, and
  // whom they waited for.
  uint32_t wait_deadline_ms = 60'000;
  // So is one of this length while nobody works, no thread on any rank: one has stopped or died, or
  // all wait for each other.
  uint32_t silence_deadline_ms = 1'200;
  Activations activations = Activations::kF32;
  // A drafter's products in f32: in int8, and FP8 weights that it shares with the target twice in
  // memory. Other drafts may be accepted, no text changes by it.
  bool int8_drafts = false;
  KvCacheType kv_cache = KvCacheType::kF32;
  // Every thread stays on a processor of its own. The one that calls run() is not ours to bind: a
  // processor is left for it. For machines that run nothing else; load() refuses more threads than
  // processors.
  bool pin_threads = false;
  program::TraceSink trace = {};  // empty: nothing is timed
  // For tests: called by each worker before each of its tasks; may take its time. false: the worker
  // is gone, it does nothing more.
  std::function<bool(uint32_t rank, uint32_t worker, size_t task)> before_task = {};
};

std::unique_ptr<program::Executor> make_cpu_executor(const CpuOptions& options);

// The limits of this machine: `num_workers` threads, or one per processor for 0.
program::DeviceLimits cpu_limits(uint32_t num_workers);

// Runs every step on one thread in a random legal order of tasks and units, with arenas poisoned by
// NaN, and must give the same results. For tests and `inspect`.
std::unique_ptr<program::Executor> make_shuffled_executor(
    uint64_t seed, Activations activations = Activations::kF32,
    KvCacheType kv_cache = KvCacheType::kF32);

}  // namespace ultraspeed::cpu
