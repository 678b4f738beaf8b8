#include "train/losses.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/check.h"

namespace ultraspeed::train {
namespace {

torch::Tensor logits_of(const torch::Tensor& hidden, const torch::Tensor& head) {
  const torch::Tensor logits = torch::matmul(hidden.to(head.scalar_type()), head.t());
  return head.scalar_type() == torch::kFloat64 ? logits : logits.to(torch::kFloat32);
}

torch::Tensor pick(const torch::Tensor& values, const torch::Tensor& labels) {
  return values.gather(-1, labels.unsqueeze(-1)).squeeze(-1);
}

LossInput chunk_of(const LossInput& input, int64_t begin, int64_t count) {
  LossInput chunk = input;
  chunk.hidden = input.hidden.narrow(0, begin, count);
  chunk.labels = input.labels.narrow(0, begin, count);
  chunk.is_valid = input.is_valid.narrow(0, begin, count);
  if (input.teacher.defined()) chunk.teacher = input.teacher.narrow(0, begin, count);
  if (input.selector != nullptr) chunk.anchor_ids = input.anchor_ids.narrow(0, begin, count);
  return chunk;
}

void append(const torch::Tensor& part, torch::Tensor* whole) {
  *whole = whole->defined() ? torch::cat({*whole, part}) : part;
}

// The loss of each mask's choice, [blocks, masks], and what comes of it.
torch::Tensor selection_losses(const LossInput& chunk, const torch::Tensor& logits,
                               MaskOutcome* outcome, torch::Tensor* is_candidate) {
  const Candidates candidates = candidates_of(logits, chunk.selector->num_candidates);
  const int64_t masks = chunk.labels.size(1);
  const torch::Tensor previous =
      torch::cat({chunk.anchor_ids.unsqueeze(1), chunk.labels.narrow(1, 0, masks - 1)}, 1);
  const torch::Tensor scores = score(*chunk.selector, candidates, previous, chunk.hidden);
  const torch::Tensor is_label = candidates.ids == chunk.labels.unsqueeze(-1);
  const torch::Tensor log_q = scores.log_softmax(-1).masked_fill(is_label.logical_not(), 0).sum(-1);
  *is_candidate = is_label.any(-1);
  outcome->log_q = log_q.detach().masked_fill(is_candidate->logical_not(),
                                              -std::numeric_limits<double>::infinity());
  const torch::Tensor best = scores.detach().argmax(-1, true);
  outcome->is_right = is_label.gather(-1, best).squeeze(-1);
  return -log_q;
}

// The loss of some blocks, and what it adds to `output`.
torch::Tensor chunk_loss(const LossInput& chunk, const LossOptions& options, LossOutput* output) {
  const torch::Tensor logits = logits_of(chunk.hidden, chunk.head);
  torch::Tensor teacher_logits;
  if (options.needs_teacher()) {
    const torch::NoGradGuard no_grad;
    teacher_logits = logits_of(chunk.teacher, chunk.head);
  }
  torch::Tensor losses = mask_losses(logits, teacher_logits, chunk.labels, options);
  const torch::Tensor detached = logits.detach();
  MaskOutcome outcome = {pick(detached, chunk.labels) - detached.logsumexp(-1),
                         detached.argmax(-1) == chunk.labels, chunk.is_valid};
  torch::Tensor is_candidate = outcome.is_right;
  append(outcome.is_right, &output->is_likeliest);
  if (chunk.selector != nullptr) {
    losses = losses + selection_losses(chunk, logits, &outcome, &is_candidate) * options.selection;
  }
  append(is_candidate, &output->is_candidate);
  append(outcome.is_right, &output->is_right);
  const torch::Tensor weights = mask_weights(outcome, options);
  const torch::Tensor divisor = options.weighting == Weighting::kDpace
                                    ? (chunk.is_valid.sum(-1) > 0).to(torch::kFloat64).sum()
                                    : weights.sum(torch::kFloat64);
  output->divisor += divisor.item<double>();
  return (losses * weights).sum();
}

void check_input(const LossInput& input, const LossOptions& options) {
  US_CHECK(options.chunk_blocks > 0, "chunks of {} blocks", options.chunk_blocks);
  US_CHECK(!options.needs_teacher() || input.teacher.defined(), "a loss that needs a teacher");
  US_CHECK(input.hidden.dim() == 3 && input.labels.dim() == 2, "{} and {} dimensions",
           input.hidden.dim(), input.labels.dim());
}

}  // namespace

torch::Tensor mask_weights(const MaskOutcome& outcome, const LossOptions& options) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor valid = outcome.is_valid.to(outcome.log_q.scalar_type());
  switch (options.weighting) {
    case Weighting::kDecay: {
      const torch::Tensor place = torch::arange(valid.size(-1), valid.options());
      return valid * torch::exp(place / -options.gamma);
    }
    case Weighting::kDpace: {
      const torch::Tensor smoothed =
          outcome.log_q.exp() * (1 - options.dpace_alpha) + options.dpace_alpha;
      const torch::Tensor reached = (smoothed * valid).cumprod(-1);
      return valid * reached.flip({-1}).cumsum(-1).flip({-1});
    }
    case Weighting::kAuf: {
      const torch::Tensor right = outcome.is_right.to(valid.scalar_type()).cumprod(-1);
      const torch::Tensor before = torch::cat(
          {torch::ones_like(right.narrow(-1, 0, 1)), right.narrow(-1, 0, right.size(-1) - 1)}, -1);
      return valid * before;
    }
  }
  US_CHECK(false, "weighting {}", static_cast<int>(options.weighting));
  return {};
}

torch::Tensor mask_losses(const torch::Tensor& logits, const torch::Tensor& teacher_logits,
                          const torch::Tensor& labels, const LossOptions& options) {
  if (!options.needs_teacher()) {
    return (logits.logsumexp(-1) - pick(logits, labels)) * options.cross_entropy;
  }
  const torch::Tensor log_q = logits.log_softmax(-1);
  torch::Tensor losses = pick(log_q, labels) * -options.cross_entropy;
  const torch::Tensor log_p = teacher_logits.log_softmax(-1), p = log_p.exp();
  if (options.total_variation != 0) {
    losses = losses + (p - log_q.exp()).abs().sum(-1) * (0.5 * options.total_variation);
  }
  if (options.kl_divergence != 0) {
    losses = losses + (p * (log_p - log_q)).sum(-1) * options.kl_divergence;
  }
  return losses;
}

LossOutput evaluate_blocks(const LossInput& input, const LossOptions& options) {
  check_input(input, options);
  const torch::NoGradGuard no_grad;
  LossOutput output;
  for (int64_t at = 0; at < input.hidden.size(0); at += options.chunk_blocks) {
    const int64_t count = std::min(options.chunk_blocks, input.hidden.size(0) - at);
    output.weighted_sum += chunk_loss(chunk_of(input, at, count), options, &output).item<double>();
  }
  return output;
}

LossOutput differentiate_blocks(const LossInput& input, const LossOptions& options,
                                torch::Tensor* gradient) {
  check_input(input, options);
  LossOutput output;
  std::vector<torch::Tensor> gradients;
  for (int64_t at = 0; at < input.hidden.size(0); at += options.chunk_blocks) {
    const int64_t count = std::min(options.chunk_blocks, input.hidden.size(0) - at);
    LossInput chunk = chunk_of(input, at, count);
    chunk.hidden = chunk.hidden.detach().requires_grad_(true);
    const torch::Tensor loss = chunk_loss(chunk, options, &output);
    loss.backward();
    output.weighted_sum += loss.item<double>();
    gradients.push_back(chunk.hidden.grad());
  }
  *gradient = torch::cat(gradients);
  return output;
}

}  // namespace ultraspeed::train
