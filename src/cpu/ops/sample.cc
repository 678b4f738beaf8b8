#include "cpu/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "cpu/kernels/kernels.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/rejection.h"

namespace ultraspeed::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The order of candidates: larger value first, then lower id.
struct ByValue {
  std::span<const float> values;

  bool operator()(uint32_t a, uint32_t b) const {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  }
};

tl::unexpected<Error> bad_logit(std::string_view what, uint32_t position, size_t token_id,
                                float value) {
  return make_error(ErrorCode::kInvalidData,
                    "sampling after position {}: the {} of token {} is {}, expected a finite "
                    "number; a weight of the checkpoint or an operation before is at fault",
                    position, what, token_id, value);
}

constexpr uint32_t kPiece = 1024;  // of a long list of logits, for the vector loops

// The first of the largest; NaN counts as larger than everything.
uint32_t argmax(std::span<const float> values) {
  const auto count = static_cast<uint32_t>(values.size());
  float most = -kInfinity;
  uint32_t piece = 0;
  for (uint32_t begin = 0; begin < count; begin += kPiece) {
    const float of_piece = largest(values.data() + begin, std::min(kPiece, count - begin));
    if (of_piece <= most) continue;
    most = of_piece;
    piece = begin;
    if (std::isnan(most)) break;
  }
  const auto is_found = [&](float value) { return value == most || std::isnan(value); };
  const auto found = std::find_if(values.begin() + piece, values.end(), is_found);
  return static_cast<uint32_t>(found - values.begin());
}

// log_sum such that logit - log_sum is the log-probability.
Result<double> log_sum_exp(std::span<const float> logits, uint32_t position) {
  const uint32_t best = argmax(logits);
  const float most = logits[best];
  if (!(most < kInfinity)) return bad_logit("logit", position, best, most);
  if (std::isinf(most)) return bad_logit("largest logit", position, best, most);
  double sum = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kPiece) {
    const auto piece = logits.subspan(begin, std::min<size_t>(kPiece, logits.size() - begin));
    sum += exp_and_sum(piece.data(), most, static_cast<uint32_t>(piece.size()), nullptr);
  }
  return most + std::log(sum);
}

// The ids of the `count` largest values, in order. A heap of `count` ids: most values are only
// compared with its least.
std::vector<uint32_t> largest_ids(std::span<const float> values, uint32_t count) {
  const ByValue before{values};
  const uint32_t size = static_cast<uint32_t>(values.size());
  std::vector<uint32_t> heap(std::min(count, size));
  std::iota(heap.begin(), heap.end(), 0u);
  std::make_heap(heap.begin(), heap.end(), before);
  for (uint32_t id = static_cast<uint32_t>(heap.size()); !heap.empty() && id < size; ++id) {
    if (!before(id, heap.front())) continue;
    std::pop_heap(heap.begin(), heap.end(), before);
    heap.back() = id;
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  return heap;
}

// Applies the adjustments to a copy of the logits.
Result<std::vector<float>> adjusted_logits(std::span<const float> logits, uint32_t position,
                                           std::span<const program::LogitAdjustment> adjustments) {
  std::vector<float> values(logits.begin(), logits.end());
  for (const auto& adjustment : adjustments) {
    const auto id = static_cast<size_t>(adjustment.token_id);
    if (adjustment.token_id < 0 || id >= values.size()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "sampling after position {}: an adjustment names token {}, expected "
                        "0 to {}",
                        position, adjustment.token_id, values.size() - 1);
    }
    const float logit = values[id];
    const float scaled = logit > 0 ? logit / adjustment.repetition : logit * adjustment.repetition;
    values[id] = scaled + adjustment.bias;
    if (!(values[id] < kInfinity)) return bad_logit("adjusted logit", position, id, values[id]);
  }
  if (values[argmax(values)] == -kInfinity) {
    return bad_logit("largest adjusted logit", position, argmax(values), -kInfinity);
  }
  return values;
}

// The tokens that may still be chosen, and exp(x - largest x), their unnormalised probabilities.
class Candidates {
 public:
  Candidates(std::span<const float> values, double temperature)
      : values_(values),
        temperature_(temperature),
        largest_(values[argmax(values)]),
        ids_(values.size()) {
    std::iota(ids_.begin(), ids_.end(), 0u);
  }

  void keep_top_k(uint32_t top_k) {
    if (top_k == 0 || top_k >= values_.size()) return;
    ids_ = largest_ids(values_, top_k);
    std::sort(ids_.begin(), ids_.end());
  }

  // The tokens below (1 - top_p) / n of the sum have at most 1 - top_p of it together, so that the
  // others reach top_p; the factor 1/2 covers rounding. Those are sorted piece by piece, as far as
  // needed.
  void keep_top_p(double top_p) {
    if (top_p >= 1) return;
    double sum = 0;
    for (const uint32_t id : ids_) sum += weight(id);
    const double least = 0.5 * (1 - top_p) * sum / static_cast<double>(ids_.size());
    std::erase_if(ids_, [&](uint32_t id) { return weight(id) < least; });
    double reached = 0;
    size_t count = 0;
    size_t sorted = 0;
    while (count < ids_.size() && (count == 0 || reached < top_p * sum)) {
      if (count == sorted) sorted = sort_piece(sorted);
      reached += weight(ids_[count++]);
    }
    ids_.resize(count);
    std::sort(ids_.begin(), ids_.end());
  }

  void keep_min_p(double min_p) {
    if (min_p <= 0) return;
    std::erase_if(ids_, [&](uint32_t id) { return weight(id) < min_p; });
  }

  // f64 [vocab_size], with sum 1.
  std::vector<double> probabilities() const {
    std::vector<double> p(values_.size(), 0);
    double sum = 0;
    for (const uint32_t id : ids_) sum += p[id] = weight(id);
    for (const uint32_t id : ids_) p[id] /= sum;
    return p;
  }

  // Skips the noise, then its logarithms, where even their bounds could not win.
  uint32_t choose(uint64_t seed, uint32_t position) const {
    double best = -std::numeric_limits<double>::infinity();
    uint32_t best_id = ids_.front();
    uint32_t group = 0;
    PhiloxCounter words = random_group(seed, position, group);
    for (const uint32_t id : ids_) {
      const double x = log_weight(id);
      if (x + kMaxGumbel < best) continue;
      if (id / 4 != group) {
        group = id / 4;
        words = random_group(seed, position, group);
      }
      const uint32_t bits = words[id % 4];
      if (x + gumbel_upper_bound(bits) < best) continue;
      const double noisy = x + gumbel_from_bits(bits);
      if (noisy > best) {
        best = noisy;
        best_id = id;
      }
    }
    return best_id;
  }

 private:
  // With the first `sorted` ids in order, orders three times as many more; returns the new count.
  size_t sort_piece(size_t sorted) {
    const auto begin = ids_.begin() + static_cast<ptrdiff_t>(sorted);
    const size_t end_index = std::min(ids_.size(), std::max<size_t>(64, 4 * sorted));
    const auto end = ids_.begin() + static_cast<ptrdiff_t>(end_index);
    std::nth_element(begin, end, ids_.end(), ByValue{values_});
    std::sort(begin, end, ByValue{values_});
    return end_index;
  }

  double log_weight(uint32_t id) const { return (values_[id] - largest_) / temperature_; }
  double weight(uint32_t id) const { return std::exp(log_weight(id)); }

  std::span<const float> values_;  // adjusted logits [vocab_size]
  double temperature_;
  double largest_;
  std::vector<uint32_t> ids_;  // ascending
};

// REQUIRES: a temperature above 0.
Candidates make_candidates(std::span<const float> values, const program::ColumnSampling& sampling) {
  US_CHECK(sampling.temperature > 0 && sampling.temperature < kInfinity, "temperature {}",
           sampling.temperature);
  US_CHECK(sampling.top_p > 0, "top_p {}", sampling.top_p);
  US_CHECK(sampling.min_p >= 0 && sampling.min_p < 1, "min_p {}", sampling.min_p);
  Candidates candidates(values, sampling.temperature);
  candidates.keep_top_k(sampling.top_k);
  candidates.keep_top_p(sampling.top_p);
  candidates.keep_min_p(sampling.min_p);
  return candidates;
}

// The proposed token, or what replaces it.
uint32_t verify_proposed(const Candidates& candidates, uint32_t position,
                         const program::ColumnSampling& sampling) {
  const auto proposed = static_cast<uint32_t>(sampling.proposed_token_id);
  const std::vector<double> p = candidates.probabilities();
  std::vector<double> q(p.size(), 0);
  q[proposed] = 1;
  const uint64_t accept_seed = seed_for(sampling.seed, RandomPurpose::kAcceptDraft);
  const uint64_t recover_seed = seed_for(sampling.seed, RandomPurpose::kRecoverToken);
  const auto noise = [&](uint32_t id) {
    return gumbel_from_bits(random_bits(recover_seed, position, id));
  };
  return accept_or_recover(p, q, proposed, random_uniform(accept_seed, position, 0), noise)
      .token_id;
}

uint32_t choose(std::span<const float> values, uint32_t position,
                const program::ColumnSampling& sampling) {
  if (sampling.temperature == 0) return argmax(values);
  const Candidates candidates = make_candidates(values, sampling);
  if (sampling.proposed_token_id >= 0) return verify_proposed(candidates, position, sampling);
  return candidates.choose(sampling.seed, position);
}

// Errors unless `token_id` is one of the vocabulary, or none.
Status check_token(std::string_view what, int32_t token_id, size_t vocab_size, uint32_t position) {
  if (token_id < 0 || static_cast<size_t>(token_id) < vocab_size) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "sampling after position {}: the {} token is {}, expected 0 to {}", position,
                    what, token_id, vocab_size - 1);
}

Result<uint32_t> chosen_token(std::span<const float> logits, uint32_t position,
                              const program::ColumnSampling& sampling) {
  US_TRY(check_token("forced", sampling.forced_token_id, logits.size(), position));
  US_TRY(check_token("proposed", sampling.proposed_token_id, logits.size(), position));
  if (sampling.forced_token_id >= 0) return static_cast<uint32_t>(sampling.forced_token_id);
  if (sampling.adjustments.empty()) return choose(logits, position, sampling);
  US_ASSIGN(const std::vector<float> values,
            adjusted_logits(logits, position, sampling.adjustments));
  return choose(values, position, sampling);
}

}  // namespace

Result<std::vector<double>> sampling_probabilities(std::span<const float> logits, uint32_t position,
                                                   const program::ColumnSampling& sampling) {
  US_ASSIGN(const std::vector<float> values,
            adjusted_logits(logits, position, sampling.adjustments));
  return make_candidates(values, sampling).probabilities();
}

Result<program::ColumnOutput> sample_column(std::span<const float> logits, uint32_t position,
                                            const program::ColumnSampling& sampling) {
  US_CHECK(!logits.empty());
  US_ASSIGN(const double log_sum, log_sum_exp(logits, position));
  US_ASSIGN(const uint32_t token_id, chosen_token(logits, position, sampling));
  const auto logprob = [&](uint32_t id) { return static_cast<float>(logits[id] - log_sum); };

  program::ColumnOutput output;
  output.token_id = static_cast<int32_t>(token_id);
  output.logprob = logprob(token_id);
  output.logit = logits[token_id];
  for (const uint32_t id : largest_ids(logits, sampling.num_logprobs)) {
    output.top_logprobs.emplace_back(static_cast<int32_t>(id), logprob(id));
  }
  return output;
}

Status run_op(const OpContext& context, const program::SampleOperands& op, uint32_t) {
  const float* logits = context.buffer(op.logits);
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !context.input.columns[t].wants_logits) continue;
    const program::Column& column = context.input.columns[t];
    US_ASSIGN(context.output->columns[t],
              sample_column({logits + uint64_t{t} * op.vocab_size, op.vocab_size}, column.position,
                            column.sampling));
    context.words(op.sampled)[t] = static_cast<uint32_t>(context.output->columns[t].token_id);
  }
  return {};
}

}  // namespace ultraspeed::cpu
