// From a model and a device to a program: lowering to stages and tiles, then named passes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"
#include "program/executor.h"
#include "program/program.h"

namespace ultraspeed::plan {

// How the partial sums of products whose columns the ranks share become a residual on each.
enum class AllReduce : uint8_t {
  kTwoShot,  // to the rank that owns the rows, which sends the sums to all: the fewest bytes
  kOneShot,  // to all, which add them up for themselves: one hand-off between ranks, not two. Only
             // of products in which every rank has a share; others in two shots
};
inline constexpr std::array kAllAllReduces = {AllReduce::kTwoShot, AllReduce::kOneShot};

constexpr std::string_view all_reduce_name(AllReduce all_reduce) {
  return all_reduce == AllReduce::kOneShot ? "one-shot" : "two-shot";
}

// Where the logits are that the target's tokens are chosen from.
enum class LogitsPlace : uint8_t {
  kRankZero,  // every rank sends its share there
  kShares,    // each rank's share stays on it, and they tell each other what is needed of it
};

struct PlanOptions {
  std::string name = "decode";
  uint32_t width = 8;      // columns; at most kMaxWidth
  uint32_t num_ranks = 1;  // tensor parallel: 1, 2, 4 or 8
  AllReduce all_reduce = AllReduce::kTwoShot;
  LogitsPlace logits = LogitsPlace::kRankZero;  // with one rank there is no other place
  uint32_t max_context = 0;  // positions of a sequence; 0: the model's max_position_embeddings
  // A DFlash drafter (lower_draft.cc), which outlives the call; nullptr: none. All programs of one
  // engine are planned with the same, so that they share weights and caches.
  const model::DrafterConfig* drafter = nullptr;
  bool is_drafting = false;  // draft, then verify; false: extend the drafter's context alone
  // Layers of the target, ascending, whose residuals the step leaves for the host
  // (Program::captured), and behind them that of the last layer, before the final norm. Empty:
  // none.
  std::vector<uint32_t> captured_layers = {};
  // Likewise the residuals that layers of experts read, before their norm; `captured` has all of
  // them in the order of the step.
  bool captures_expert_inputs = false;
  // The target's MTP heads (model::ModelConfig::mtp_stack, lower_mtp.cc), which outlive the call;
  // nullptr: none. The same for all programs of one engine, and not together with a drafter.
  const model::ModelConfig* mtp = nullptr;
};

// Rings of sliding layers have room for the window and one chunk of this many new positions.
inline constexpr uint32_t kMaxWidth = 512;

// Positions of one page of the paged KV caches, and of one chunk of the attention's reduction.
inline constexpr uint32_t kKvPagePositions = 64;
inline constexpr uint32_t kAttentionChunkPositions = 512;

// The shape and format of a weight: a checkpoint's own (WeightLoader::shape) or what config.json
// lets expect (model::expected_shape).
using ShapeLookup = std::function<Result<model::WeightShape>(const model::WeightSource&)>;

struct Plan {
  program::Program program;
  // [Program::weights]: where each comes from, on rank 0, of an expert weight the first matrix.
  std::vector<model::WeightSource> sources;
};

// Where another rank's comes from. REQUIRES: it has a share of the weight (program::has_share()).
inline model::WeightSource source_on(uint32_t rank, uint32_t num_ranks,
                                     const model::WeightSource& on_first) {
  model::WeightSource source = on_first;
  source.shard = rank * source.num_shards / num_ranks;
  return source;
}

// Lowers the whole step, embedding to accepted tokens. The result satisfies program::verify().
// `shape_of` gets sources of the drafter's and the heads' stacks too, if there are any.
// Errors: kInvalidArgument for options out of range, kUnsupported for a split the model does not
// admit or a drafter of another model; whatever `shape_of` returns.
Result<Plan> make_plan(const model::ModelConfig& config, const ShapeLookup& shape_of,
                       const program::DeviceLimits& limits, const PlanOptions& options);

}  // namespace ultraspeed::plan
