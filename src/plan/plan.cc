#include "plan/plan.h"

#include <utility>

#include "plan/draft.h"

namespace ultraspeed::plan {
namespace {

Status check_options(const program::DeviceLimits& limits, const PlanOptions& options) {
  if (options.width == 0 || options.width > kMaxWidth) {
    return make_error(ErrorCode::kInvalidArgument, "width {} is not in 1..{}", options.width,
                      kMaxWidth);
  }
  const uint32_t ranks = options.num_ranks;
  if (ranks == 0 || program::kReductionChunks % ranks != 0) {
    return make_error(ErrorCode::kInvalidArgument, "{} ranks: expected 1, 2, 4 or 8", ranks);
  }
  if (limits.num_workers == 0 || limits.num_workers > 1024) {
    return make_error(ErrorCode::kInvalidArgument, "{} workers a rank: expected 1 to 1024",
                      limits.num_workers);
  }
  if (options.is_drafting && options.drafter == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "a program cannot draft without a drafter");
  }
  if (options.mtp != nullptr && options.drafter != nullptr) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a program has either a drafter or MTP heads, not both");
  }
  return {};
}

Status check_captured(const model::ModelConfig& config, const PlanOptions& options) {
  uint32_t least = 0;
  for (const uint32_t layer : options.captured_layers) {
    if (layer < least || layer >= config.num_layers()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "captured layer {}: expected ascending numbers below {}, the layers of {}",
                        layer, config.num_layers(), config.file);
    }
    least = layer + 1;
  }
  return {};
}

}  // namespace

Result<Plan> make_plan(const model::ModelConfig& config, const ShapeLookup& shape_of,
                       const program::DeviceLimits& limits, const PlanOptions& options) {
  US_TRY(check_options(limits, options));
  US_TRY(check_captured(config, options));
  Draft draft;
  US_TRY(lower(config, shape_of, limits, options, &draft));
  build_lists(&draft);
  insert_counters(&draft);
  layout_weight_blocks(&draft);
  plan_memory(&draft);
  return Plan{std::move(draft.program), std::move(draft.sources)};
}

}  // namespace ultraspeed::plan
