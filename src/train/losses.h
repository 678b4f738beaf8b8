// What a drafter is trained to do: for each mask, a loss against the text's token and the target's
// own distribution, weighted by how much the place matters in a block that is accepted up to its
// first wrong draft. Logits, the large thing here, exist for some blocks at a time.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>

#include "train/selector.h"

namespace ultraspeed::train {

// The weight of mask k = 1, 2, ... of a block; q_k is the drafter's probability of its label.
enum class Weighting : uint8_t {
  kDecay,  // exp(-(k - 1) / gamma)
  kDpace,  // sum over m >= k of the product over i <= m of (1 - alpha) q_i + alpha (D-PACE)
  kAuf,    // 1 up to and including the first mask whose likeliest token is wrong, then 0 (AUF)
};

struct LossOptions {
  Weighting weighting = Weighting::kDpace;
  double gamma = 4;
  double dpace_alpha = 0.5;
  // A mask's loss: these times -log q(label), the total variation distance of p and q, and
  // KL(p || q); p is the target's distribution. Without teacher only the first may be set.
  double cross_entropy = 1;
  double total_variation = 0;
  double kl_divergence = 0;
  // Times -log of the label's share among the candidates that the selector scores after the text's
  // own token; 0 where the label is none of them.
  double selection = 1;
  int64_t chunk_blocks = 256;  // whose logits exist at once

  bool needs_teacher() const { return total_variation != 0 || kl_divergence != 0; }
};

// Each mask's weight, [blocks, masks] as all the rest; without gradients. `is_valid`: 0 or 1, the
// masks with a label.
struct MaskOutcome {
  torch::Tensor log_q;     // of the label
  torch::Tensor is_right;  // bool: the label is the likeliest token
  torch::Tensor is_valid;  // f32
};
torch::Tensor mask_weights(const MaskOutcome& outcome, const LossOptions& options);

// Each mask's own loss. `teacher_logits`: as `logits`, [..., vocab_size]; undefined without
// teacher.
torch::Tensor mask_losses(const torch::Tensor& logits, const torch::Tensor& teacher_logits,
                          const torch::Tensor& labels, const LossOptions& options);

struct LossInput {
  torch::Tensor hidden;    // [blocks, masks, hidden_size]: rows 1, 2, ... of the net's output
  torch::Tensor labels;    // i64 [blocks, masks]
  torch::Tensor is_valid;  // f32 [blocks, masks]
  torch::Tensor head;      // [vocab_size, hidden_size], in the type of its products
  torch::Tensor teacher;   // what the head reads in the target, [blocks, masks, hidden_size]
  const Selector* selector = nullptr;
  torch::Tensor anchor_ids;  // i64 [blocks], for the selector
};

struct LossOutput {
  double weighted_sum = 0;  // of the masks' losses
  // What the sum is divided by: the sum of weights, but with kDpace the number of blocks with a
  // valid mask.
  double divisor = 0;
  // bool [blocks, masks]: the label is the likeliest token; one of the candidates; and what is
  // drafted where the drafts before it are right: the selector's choice, or the likeliest token.
  torch::Tensor is_likeliest, is_candidate, is_right;

  double loss() const { return divisor == 0 ? 0 : weighted_sum / divisor; }
};

// With a selector weights are those of its choices, for these draft.
LossOutput evaluate_blocks(const LossInput& input, const LossOptions& options);

// The same, and the gradient of weighted_sum (not yet divided) by `hidden`, of its shape: for
// hidden.backward(), which then goes through the net once for all chunks. Those of the selector's
// own parameters are added to their grad().
LossOutput differentiate_blocks(const LossInput& input, const LossOptions& options,
                                torch::Tensor* gradient);

}  // namespace ultraspeed::train
