// How far the next-token distributions of one arithmetic mode are from those of another, or those
// of one model from those of another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ultraspeed::apps {

// The softmax of a position's logits, in binary64 but for its exponentials.
class Distribution {
 public:
  explicit Distribution(std::span<const float> logits);

  double nll(int32_t token) const { return log_sum_ - static_cast<double>(logits_[index(token)]); }
  uint32_t argmax() const { return argmax_; }

  struct Difference {
    double kl = 0;  // sum p (log p - log q) of this p and the other's q; exactly 0 for equal logits
    double nll = 0;  // of `token` under q
    bool has_same_argmax = false;
  };
  Difference compare(std::span<const float> logits, int32_t token) const;

 private:
  static size_t index(int32_t token) { return static_cast<size_t>(token); }

  std::span<const float> logits_;
  std::vector<double> p_;  // with sum 1
  double log_sum_ = 0;
  uint32_t argmax_ = 0;
};

// Of all positions.
struct Statistics {
  size_t num_tokens = 0;
  double kl_mean = 0;
  double kl_999 = 0;  // the least that 99.9 % of the positions do not exceed
  double kl_max = 0;
  double agreement = 0;  // share of positions with the same argmax
  double nll_mean = 0;
  double nll_change = 0;        // mean of nll - exact_nll
  double nll_change_error = 0;  // its standard error, positions taken as independent
};

// REQUIRES: as many of both, at least two.
Statistics statistics_of(std::span<const Distribution::Difference> differences,
                         std::span<const double> exact_nll);

}  // namespace ultraspeed::apps
