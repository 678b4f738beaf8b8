// What every stage of a step moves, from the program itself: bytes of weights, keys and values that
// it reads and bytes that cross ranks, of the rank that moves most. What timing.h needs to say how
// long a step takes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/dense_dtype.h"
#include "plan/plan.h"
#include "plan/report.h"

namespace ultraspeed::plan {

// What of a step a stage's time is shown as.
enum class StepPart : uint8_t {
  kWeights,    // reading the weights of the layers
  kHandOffs,   // what their stages take beyond that
  kAllReduce,  // sums over ranks: links, and adding up
  kAttention,  // with its keys and values
  kEnds,       // embedding, output head, choice of tokens
  kDrafter,    // all that drafts, and its context
};
inline constexpr size_t kNumStepParts = 6;
std::string_view step_part_name(StepPart part);

struct StageWork {
  program::Opcode opcode = program::Opcode::kEmbed;
  StepPart part = StepPart::kWeights;  // kWeights: what is beyond its bytes is kHandOffs
  double weights = 0;                  // bytes, but for experts
  double per_live_expert = 0;          // bytes
  bool is_mxfp4_gate_up = false;       // they are gate and up of MXFP4
  double kv = 0;                       // bytes
  bool crosses_ranks = false;          // another rank waits for what it sends
  double link = 0;                     // bytes that a rank sends or receives, whichever is more
  // What is added to them where a step's parameters ask for it: at most, if all columns do.
  double on_demand_link = 0;

  bool is_sum() const {
    return opcode == program::Opcode::kOutProj || opcode == program::Opcode::kExpertDown;
  }
};

struct StepOptions {
  uint32_t num_ranks = 8;
  uint32_t width = 8;
  uint32_t context = 0;  // as ReportOptions
  KvFormat kv_format = KvFormat::kBf16;
  model::DenseDtype dense_dtype = model::DenseDtype::kCheckpoint;
  AllReduce all_reduce = AllReduce::kTwoShot;
  LogitsPlace logits = LogitsPlace::kRankZero;
};

struct StepWork {
  StepOptions options;  // with the context that was used
  bool has_drafter = false;
  double expected_live_experts = 0;  // report.h; 0: the model has none
  uint32_t max_live_experts = 0;
  std::vector<StageWork> stages;
  uint64_t memory_bytes = 0;  // of rank 0's GPU, as MemoryBytes adds it up

  // Read by the rank that reads most.
  double bytes_at(double live_experts) const;
};

// Plans a step; with a drafter a whole cycle: draft, verify, extend its context. `drafter` may be
// null. Errors: those of make_report().
Result<StepWork> plan_step(const model::ModelConfig& config, const model::DrafterConfig* drafter,
                           const Device& device, const StepOptions& options);

}  // namespace ultraspeed::plan
