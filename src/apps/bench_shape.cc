#include "apps/bench_shape.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <utility>

#include "apps/config_file.h"
#include "apps/loaded_model.h"
#include "model/weights.h"
#include "plan/devices.h"
#include "plan/plan.h"
#include "plan/report.h"
#include "program/verify.h"

namespace ultraspeed::apps {
namespace {

// What of the flags does not fit the model.
Status check_shape(const ShapeOptions& options, const model::ModelConfig& config) {
  if (options.rank >= options.num_ranks) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--rank {}: there are ranks 0 to {}; see --ranks", options.rank,
                      options.num_ranks - 1);
  }
  if (options.rows.value_or(1) > options.width) {
    return make_error(ErrorCode::kInvalidArgument, "--rows {}: more than --width {}", *options.rows,
                      options.width);
  }
  if (!options.live_experts) return {};
  if (config.num_experts == 0) {
    return make_error(ErrorCode::kInvalidArgument, "--live-experts {}: {} has no experts",
                      *options.live_experts, config.file);
  }
  const uint32_t most = std::min(config.num_experts, options.width * config.num_experts_per_token);
  if (*options.live_experts > most) {
    return make_error(ErrorCode::kInvalidArgument,
                      "--live-experts {}: {} columns of {} have at most {}", *options.live_experts,
                      options.width, config.file, most);
  }
  return {};
}

// Errors: there is none, or it does not draft so many rows.
Result<model::DrafterConfig> read_drafter(const ShapeOptions& options, ConfigFile file) {
  if (!options.drafter_of.empty()) {
    US_ASSIGN(file, read_config_file(options.drafter_of));
  }
  if (!file.drafter) {
    return make_error(ErrorCode::kNotFound,
                      "--drafter: there is no dflash/config.json beside {}; configs/mimo-v2.5-pro "
                      "has one",
                      file.config.file);
  }
  const uint32_t rows = options.rows.value_or(options.width);
  if (rows >= 2 && rows <= file.drafter->block_size) return *std::move(file.drafter);
  return make_error(ErrorCode::kInvalidArgument,
                    "--drafter: the drafter of {} drafts blocks of 2 to {} rows, not {}",
                    file.config.file, file.drafter->block_size, rows);
}

}  // namespace

std::string describe_shape(const BenchShape& shape) {
  std::string text = fmt::format("{}, rank {} of {}, {} rows in {} columns", shape.config,
                                 shape.rank, shape.num_ranks, shape.rows, shape.width);
  if (shape.live_experts > 0) text += fmt::format(", {} live experts", shape.live_experts);
  if (shape.dense_dtype != model::DenseDtype::kCheckpoint) {
    text += fmt::format(", {} dense weights", model::dense_dtype_name(shape.dense_dtype));
  }
  return text;
}

void add_shape(const BenchShape& shape, nlohmann::ordered_json* json) {
  (*json)["config"] = shape.config;
  (*json)["ranks"] = shape.num_ranks;
  (*json)["rank"] = shape.rank;
  (*json)["width"] = shape.width;
  (*json)["rows"] = shape.rows;
  (*json)["live_experts"] = shape.live_experts;
  if (shape.dense_dtype != model::DenseDtype::kCheckpoint) {
    (*json)["dense_dtype"] = model::dense_dtype_name(shape.dense_dtype);
  }
}

Result<BenchShape> read_shape(const JsonObject& json) {
  if (json.has("shape_only")) {
    return json.error("shape_only", "measured without part of the arithmetic, by an older version");
  }
  BenchShape shape;
  US_ASSIGN(shape.config, json.text("config"));
  US_ASSIGN(shape.num_ranks, json.small_number("ranks"));
  US_ASSIGN(shape.rank, json.small_number("rank"));
  US_ASSIGN(shape.width, json.small_number("width"));
  US_ASSIGN(shape.rows, json.small_number("rows"));
  US_ASSIGN(shape.live_experts, json.small_number("live_experts"));
  if (json.has("dense_dtype")) {
    US_ASSIGN(shape.dense_dtype,
              read_choice(json, "dense_dtype", model::kAllDenseDtypes, model::dense_dtype_name));
  }
  return shape;
}

void add_shape_options(CLI::App& command, const std::vector<uint32_t>& widths,
                       ShapeOptions* options) {
  command.add_option("--config", options->config, "A config.json or its folder")
      ->required()
      ->type_name("PATH");
  add_ranks_option(command, &options->num_ranks);
  command.get_option("--ranks")->capture_default_str();
  command
      .add_option("--rank", options->rank,
                  "Whose shard; all have the same shapes, and other K-chunks")
      ->capture_default_str();
  command.add_option("--width", options->width, "Columns of a step")
      ->check(CLI::IsMember(widths))
      ->capture_default_str();
  command.add_option("--rows", options->rows, "Columns that carry tokens (default: all)")
      ->check(CLI::Range(1U, plan::kMaxWidth));
  command
      .add_option("--live-experts", options->live_experts,
                  "Experts that a step chooses (default: what random routing of the rows expects)")
      ->check(CLI::Range(1U, 1U << 16));
  add_dense_dtype_option(command, &options->dense_dtype);
}

void add_drafter_flag(CLI::App& command, ShapeOptions* options) {
  command.add_flag("--drafter", options->has_drafter,
                   "A whole cycle: the DFlash drafter of dflash/ beside the configuration drafts "
                   "all rows but the first, then they are verified");
}

Result<PlannedShape> plan_shape(const ShapeOptions& options) {
  US_ASSIGN(const ConfigFile file, read_config_file(options.config));
  const model::ModelConfig& config = file.config;
  US_TRY(check_shape(options, config));
  std::optional<model::DrafterConfig> drafter;
  if (options.has_drafter) {
    US_ASSIGN(drafter, read_drafter(options, file));
  }
  PlannedShape planned;
  planned.shape = {options.config,
                   options.num_ranks,
                   options.rank,
                   options.width,
                   options.rows.value_or(options.width),
                   0,
                   options.dense_dtype};
  if (config.num_experts > 0) {
    const double expected = plan::expected_live_experts(
        config.num_experts, config.num_experts_per_token, planned.shape.rows);
    planned.shape.live_experts =
        options.live_experts.value_or(static_cast<uint32_t>(std::lround(expected)));
  }
  US_ASSIGN(const plan::Device device, plan::find_device("h100"));
  const model::ModelConfig drafter_stack = drafter ? drafter->stack() : config;
  const auto shape_of = [&](const model::WeightSource& source) -> Result<model::WeightShape> {
    if (source.stack == model::Stack::kDflash) {
      return model::expected_shape(drafter_stack, source);
    }
    US_ASSIGN(const model::WeightShape stored, model::expected_shape(config, source));
    return model::loaded_shape(config, source, stored, options.dense_dtype);
  };
  planned.max_context = std::min(plan::kDefaultContext, config.max_position_embeddings);
  plan::PlanOptions how;
  how.width = options.width;
  how.num_ranks = options.num_ranks;
  how.max_context = planned.max_context;
  how.drafter = drafter ? &*drafter : nullptr;
  how.is_drafting = drafter.has_value();
  US_ASSIGN(plan::Plan plan, plan::make_plan(config, shape_of, device.limits, how));
  planned.program = std::move(plan.program);
  return planned;
}

Status check_positions(const PlannedShape& planned, uint32_t positions) {
  const uint32_t rows = planned.shape.rows;
  if (uint64_t{positions} + rows <= planned.max_context) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--positions {}: with {} rows at most {} are possible, as {} is planned for {} "
                    "positions",
                    positions, rows, planned.max_context - rows, planned.shape.config,
                    planned.max_context);
}

Result<cuda::StepBench> measure_shape(PlannedShape planned, cuda::StepBenchOptions how) {
  US_TRY(check_positions(planned, how.positions));
  US_TRY(program::verify(planned.program));
  how.rank = planned.shape.rank;
  how.rows = planned.shape.rows;
  how.live_experts = planned.shape.live_experts;
#ifdef US_HAS_CUDA
  return cuda::measure_step(std::move(planned.program), how);
#else
  return no_gpu_code();
#endif
}

tl::unexpected<Error> no_gpu_code() {
  return make_error(ErrorCode::kUnsupported,
                    "this program has no GPU code, as it was built without CUDA; install CUDA 13 "
                    "and build again");
}

}  // namespace ultraspeed::apps
