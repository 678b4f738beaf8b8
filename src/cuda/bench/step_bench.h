// Measures a whole decode step of one rank on this GPU, through the graph executor's own launches:
// what `ultraspeed bench step` prints. For the host: no types of CUDA.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cuda/bench/measured_gpu.h"
#include "cuda/bench/phase_figures.h"
#include "program/arithmetic.h"
#include "program/program.h"

namespace ultraspeed::cuda {

struct StepBenchOptions {
  uint32_t rank = 0;
  uint32_t rows = 8;          // columns that carry tokens, at most Program::width
  uint32_t live_experts = 0;  // of a layer of experts; 0: the program has none
  // Experts are those that each step's own routers choose, and every layer has memory of its own.
  bool has_own_routes = false;
  uint32_t positions = 1024;   // in the KV caches before the step
  uint32_t peer_delay_ns = 0;  // MachineOptions
  program::Activations activations = program::Activations::kW4a8;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
  bool has_resident = false;                       // measures the resident kernels of tiles, too
  bool has_stages = true;                          // measures each kind of stage by itself
  std::function<void(std::string_view)> progress;  // told what is going on; may be empty
};

// Stages that are alike but for the layer, launched by themselves: each once in a graph, in the
// order of the step, or more often where they read little.
struct StageSamples {
  std::string name;   // "qkv_proj"
  std::string shape;  // "1856 x 6144"; may be empty
  program::Opcode opcode = program::Opcode::kEmbed;
  uint32_t count = 0;         // in a step
  uint64_t bytes = 0;         // of weights and KV caches that one reads
  uint32_t num_launches = 0;  // in a graph
  std::vector<double> us;     // [5 to 31], of one: a graph's time / num_launches
  // Why it runs as a general loop where the mode has kernels for such stages; "": it does not.
  std::string general_reason = {};
};

struct StepBench : MeasuredGpu {
  std::string data;             // what lies in memory
  std::vector<uint32_t> live;   // experts of each layer, where they have their own routes
  std::vector<double> step_us;  // [5 to 31]
  // [5 to 31], of the stages that draft, by themselves; empty without a drafter.
  std::vector<double> draft_us;
  std::vector<StageSamples> stages;  // none without has_stages
  std::optional<PhaseBench> resident;

  // Of `live`; 0 of none.
  double mean_live() const {
    const uint64_t sum = std::accumulate(live.begin(), live.end(), uint64_t{0});
    return live.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(live.size());
  }
};

// On GPU 0, with synthetic weights and caches made there. Errors: those of device_limits();
// kUnsupported for a stage that the kernels have no room for; kOutOfMemory, with what is needed and
// what is free, before anything is allocated; kInternal if the step's results are no numbers.
// Of a program with a drafter the columns are one draft block.
// REQUIRES: the program is verified, without MTP heads; options.rank < its ranks, rows in 1 ..
// width, positions + rows within its context, live experts 1 .. the slots of its route tables where
// it has experts; activations are not kInt8.
Result<StepBench> measure_step(program::Program program, const StepBenchOptions& options);

}  // namespace ultraspeed::cuda
