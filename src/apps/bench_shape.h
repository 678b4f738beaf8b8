// What of a model `bench kernels` and `bench step` measure: a shard of a configuration and how many
// columns and experts of it a step has. Its flags, its program, and its members in JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/json_object.h"
#include "base/result.h"
#include "cuda/bench/step_bench.h"
#include "model/dense_dtype.h"
#include "program/program.h"

namespace CLI {
class App;
}

namespace ultraspeed::apps {

struct BenchShape {
  std::string config;
  uint32_t num_ranks = 1, rank = 0;
  uint32_t width = 8, rows = 8;
  uint32_t live_experts = 0;  // 0: the model has none
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;
};

// The configuration and what of it: one line.
std::string describe_shape(const BenchShape& shape);

// config, ranks, rank, width, rows, live_experts and, where it says something, dense_dtype; and
// reading them back. Errors: kInvalidData.
void add_shape(const BenchShape& shape, nlohmann::ordered_json* json);
Result<BenchShape> read_shape(const JsonObject& json);

// The flags: what is not given follows from the model.
struct ShapeOptions {
  std::string config;
  uint32_t num_ranks = 8;
  uint32_t rank = 0;
  uint32_t width = 8;
  std::optional<uint32_t> rows, live_experts;
  bool has_drafter = false;  // draft, then verify
  std::string drafter_of;    // the configuration with dflash/ beside it; "": the same
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;
};
// widths: of a step, that there are kernels for.
void add_shape_options(CLI::App& command, const std::vector<uint32_t>& widths,
                       ShapeOptions* options);

// --drafter, for commands that measure steps.
void add_drafter_flag(CLI::App& command, ShapeOptions* options);

struct PlannedShape {
  BenchShape shape;
  program::Program program;  // of all ranks, for sequences of max_context positions
  uint32_t max_context = 0;
};
// As `plan` lowers it for any GPU: how work is cut does not change the shapes of weights. Errors:
// kInvalidArgument for flags that do not fit the model; of the configuration and of planning.
Result<PlannedShape> plan_shape(const ShapeOptions& options);

// Errors: kInvalidArgument for more positions before the step than it is planned for.
Status check_positions(const PlannedShape& planned, uint32_t positions);

// cuda::measure_step() of the rank, rows and live experts of a planned shape, whatever `how` says
// of them. Errors: those of check_positions(); of the program, if it cannot be proven;
// no_gpu_code().
Result<cuda::StepBench> measure_shape(PlannedShape planned, cuda::StepBenchOptions how);

// kUnsupported: what a program without GPU code says of them.
tl::unexpected<Error> no_gpu_code();

}  // namespace ultraspeed::apps
