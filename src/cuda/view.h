// What kernels see of the machine and of a step: plain structs of device pointers, filled by the
// host (machine.cc, step_image.cc) and read by ops/. The twin of cpu/machine.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "program/operand_ids.h"
#include "program/program.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxRanks = 8;

// Matrices [rows, cols] of a weight, alike, one behind the other in packed form
// (docs/weights_format.md).
struct Weight {
  const std::byte* data = nullptr;
  uint64_t matrix_bytes = 0;
  uint32_t rows = 0, cols = 0;
  tensor::WeightFormat format = tensor::WeightFormat::kF32;
};

struct Cache {
  float* keys = nullptr;        // [positions, num_kv_heads, head_dim]
  float* values = nullptr;      // [positions, num_kv_heads, v_head_dim]
  uint32_t ring_positions = 0;  // 0: paged
};

struct RankView {
  float* arena = nullptr;           // activations
  const Weight* weights = nullptr;  // [WeightId]
  const Cache* caches = nullptr;    // [CacheId]
};

// The same for all steps and programs. A kernel parameter.
struct MachineView {
  RankView ranks[kMaxRanks];
  uint32_t num_ranks = 1;
  uint32_t hidden_size = 0;
  uint32_t kv_page_positions = 0;
  uint32_t peer_delay_ns = 0;  // MachineOptions
};

using program::kNoId;

// A column of the step (program/step.h).
struct StepColumn {
  int32_t token_id = 0;
  uint32_t position = 0;
  uint32_t sequence = 0;
  uint32_t first_column = 0, end_column = 0;  // of its sequence in this step
  uint32_t first_page = 0;                    // of its sequence in StepView::pages
  uint8_t is_drafted = 0;
  uint8_t wants_logits = 0;
  // ColumnSampling:
  uint8_t draws_draft = 0;
  float temperature = 0;
  uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  uint64_t seed = 0;
  int32_t proposed_token_id = -1;
  int32_t forced_token_id = -1;
  uint32_t num_logprobs = 0;
  uint32_t first_logprob = 0;     // in StepView::logprobs
  uint32_t first_adjustment = 0;  // in StepView::adjustments
  uint32_t num_adjustments = 0;
  uint32_t first_mask_word = kNoId;  // in StepView::mask_words; kNoId: all tokens are allowed
  uint32_t first_next_token = 0;     // in StepView::next_tokens
  // In StepView::proposed_logits: what the proposed token was drawn from; kNoId: without chance.
  uint32_t first_proposed_logit = kNoId;
  // Of a sequence's first logits column, in StepView::drawn_logits: room for what MTP heads draw
  // from; kNoId: none.
  uint32_t first_drawn_logit = kNoId;
};

// LogitAdjustment; repetition first, then bias.
struct StepAdjustment {
  int32_t token_id = 0;
  float repetition = 1;
  float bias = 0;
};

struct Logprob {
  int32_t token_id = 0;
  float logprob = 0;
};

// Why Sample could not choose (program/step.h; the host makes the message).
enum class SampleError : uint32_t {
  kNone,
  kLogit,            // of token error_token: NaN or +infinity
  kNoLogit,          // all are -infinity
  kAdjustedLogit,    // NaN or +infinity after an adjustment
  kNoAdjustedLogit,  // all are -infinity after adjustments and mask
  kNothingAllowed,   // the mask allows no token
  kDraftLogit,       // of token error_token, the drafter's largest: not finite
};

// What a step gives back for a column.
struct ColumnResult {
  int32_t token_id = -1;
  float logprob = 0;
  float logit = 0;
  uint32_t accepted = 0;
  int32_t drafted_id = -1;
  uint32_t num_proposed = 0;
  int32_t proposed_ids[program::kMaxMtpHeads] = {};  // of a sequence's first logits column
  SampleError error = SampleError::kNone;
  uint32_t error_token = 0;
  float error_value = 0;
};

// The step in device memory. Pointers are device pointers into the same image.
struct StepView {
  uint32_t num_columns = 0;
  const StepColumn* columns = nullptr;  // [num_columns]
  const uint32_t* pages = nullptr;      // KV pages of all sequences
  const StepAdjustment* adjustments = nullptr;
  const uint64_t* mask_words = nullptr;
  const int32_t* next_tokens = nullptr;
  const float* proposed_logits = nullptr;
  ColumnResult* results = nullptr;  // [num_columns]
  Logprob* logprobs = nullptr;      // of all columns
  float* drawn_logits = nullptr;    // [MTP heads, vocab_size] each
};

// Where a step lies, and what of it goes which way.
struct StepTransfer {
  std::byte* host = nullptr;    // pinned: the image
  std::byte* device = nullptr;  // the same
  const StepView* host_view = nullptr;
  StepView* device_view = nullptr;
  // Multiples of 16:
  uint64_t upload_end = 0;              // bytes [0, upload_end) go to the device
  uint64_t results_begin = 0, end = 0;  // bytes [results_begin, end) come back
};

}  // namespace ultraspeed::cuda
