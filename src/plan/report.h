// What a planned program costs: memory of a GPU, bytes of a step, hand-offs, and the tokens per
// second that follow. Bytes are added up over the program's own tasks, not from a second formula;
// docs/decode_bound.md explains the model and compares it with published figures.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "plan/devices.h"

namespace ultraspeed::plan {

enum class KvFormat : uint8_t { kBf16, kFp8 };

// What o_proj, lm_head and the router are stored as: as in the checkpoint, or re-quantised to FP8
// when loaded. Changes bytes only; no executor does it.
enum class DenseFormat : uint8_t { kCheckpoint, kFp8 };

struct ReportOptions {
  uint32_t num_ranks = 8;
  uint32_t width = 8;    // columns of a step, all of one sequence
  uint32_t context = 0;  // positions in the KV cache; 0: kDefaultContext, or the model's if less
  KvFormat kv_format = KvFormat::kBf16;
  DenseFormat dense_format = DenseFormat::kCheckpoint;
};

inline constexpr uint32_t kDefaultContext = 131072;

// Weights by what they are for.
enum class WeightGroup : uint8_t {
  kQkv,
  kOProj,
  kRouter,  // with its bias
  kExperts,
  kDense,  // feed-forward of dense layers
  kHead,
  kEmbedding,
  kNorms,  // with the attention sinks
};
inline constexpr size_t kNumWeightGroups = 8;
std::string_view weight_group_name(WeightGroup group);

// Of the GPU of rank 0, which has a share of everything.
struct GroupBytes {
  uint64_t stored = 0;  // packed
  uint64_t scales = 0;  // of `stored`: the quantisation scales
  uint64_t read = 0;    // in one step; experts: for one live expert in every expert layer
};

// Of the GPU of rank 0, which has a share of everything.
struct MemoryBytes {
  uint64_t weights = 0;        // all groups
  uint64_t block_padding = 0;  // of the packed arena: tiles fill whole blocks
  uint64_t activations = 0;    // arena
  uint64_t task_lists = 0;     // tasks, counters, flags
  uint64_t kv_pages = 0;       // full-attention layers, one sequence at the context
  uint64_t kv_rings = 0;       // sliding layers, one sequence
  uint64_t drafter_weights = 0;
  uint64_t drafter_kv = 0;
  uint64_t reserved = 0;  // CUDA context, communication buffers

  uint64_t total() const {
    return weights + block_padding + activations + task_lists + kv_pages + kv_rings +
           drafter_weights + drafter_kv + reserved;
  }
};

// Read in one cycle: draft a block, verify it in one step.
struct CycleBytes {
  uint64_t non_expert = 0;       // all weights but the experts'
  uint64_t per_live_expert = 0;  // one more live expert in every expert layer
  uint64_t kv = 0;
  uint64_t drafter = 0;       // its weights and context
  uint64_t drafter_head = 0;  // lm_head once more, for the draft

  // The verify step alone, without KV.
  double weights_at(double live_experts) const {
    return static_cast<double>(non_expert) + live_experts * static_cast<double>(per_live_expert);
  }
  double at(double live_experts) const {
    return weights_at(live_experts) + static_cast<double>(kv + drafter + drafter_head);
  }
};

struct ProgramCounts {
  uint64_t num_tasks = 0;  // of all ranks, as the next two
  uint64_t num_waits = 0;  // dependencies
  uint64_t num_cross_rank_signals = 0;
  uint32_t num_counters = 0;  // of one rank
  uint32_t num_flags = 0;     // of one rank
  uint32_t num_stages = 0;
  uint32_t critical_path_hops = 0;       // waits on the longest chain, as verify() proves them
  std::vector<uint32_t> hops_per_layer;  // [num_layers]: what each layer adds to it
  uint32_t drafter_hops = 0;             // estimate: only the target is lowered for a report
  double plan_seconds = 0, verify_seconds = 0;
};

struct PlanReport {
  ReportOptions options;  // with the context that was used
  Device device;
  model::ModelConfig config;
  model::ParameterCount parameters;
  bool has_drafter = false;
  uint32_t num_expert_layers = 0;
  uint32_t max_live_experts = 0;     // of a layer, in one step
  double expected_live_experts = 0;  // if tokens were routed independently and evenly
  ProgramCounts program;
  std::array<GroupBytes, kNumWeightGroups> groups;  // [WeightGroup]
  MemoryBytes memory;
  CycleBytes cycle;  // of rank 0: no rank reads more
  CycleBytes node;   // of all ranks; some may have no share of a weight

  const GroupBytes& group(WeightGroup id) const { return groups[static_cast<size_t>(id)]; }
  bool has_experts() const { return num_expert_layers > 0; }
  // The step's weights on all GPUs at the expected live experts, KV apart.
  double step_weight_bytes() const { return node.weights_at(expected_live_experts); }
  bool fits() const { return memory.total() <= device.limits.memory_bytes; }
};

// Plans, verifies and measures. `drafter` may be null. Errors: kInvalidArgument for options out of
// range, kUnsupported for a model that the ranks do not divide or a drafter of another model.
Result<PlanReport> make_report(const model::ModelConfig& config,
                               const model::DrafterConfig* drafter, const Device& device,
                               const ReportOptions& options);

// `context`, or the most that is usual where it is 0. Errors: kInvalidArgument for more positions
// than the model has.
Result<uint32_t> context_or_default(const model::ModelConfig& config, uint32_t context);

// E * (1 - (1 - k / E)^width): distinct experts of `width` tokens that choose k of E at random.
double expected_live_experts(uint32_t num_experts, uint32_t num_per_token, uint32_t width);

// The cases worth a row: 30, 40, 50, 60 as far as a step can reach them, and the expectation.
std::vector<double> live_expert_cases(const PlanReport& report);

// Cycle time = bytes / streaming bandwidth + us_per_hop for every hop of step and drafter.
double cycle_seconds(const PlanReport& report, double live_experts, double us_per_hop);

// Published accepted lengths (tokens a cycle) of the block-8 drafter: agent, mathematics, coding.
inline constexpr std::array<double, 3> kAcceptedLengths = {4.29, 5.56, 6.30};

// The three models: the floor, and a grid-wide hand-off's measured cost under load, lowest and
// highest (docs/decode_bound.md section 4).
inline constexpr std::array<double, 3> kUsPerHop = {0.0, 1.3, 2.6};

}  // namespace ultraspeed::plan
