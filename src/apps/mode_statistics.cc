#include "apps/mode_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "cpu/kernels/kernels.h"

namespace ultraspeed::apps {
namespace {

uint32_t argmax_of(std::span<const float> values) {
  return static_cast<uint32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

Distribution::Distribution(std::span<const float> logits)
    : logits_(logits), p_(logits.size()), argmax_(argmax_of(logits)) {
  const float most = logits[argmax_];
  std::vector<float> exponentials(logits.size());
  cpu::exp_and_sum(logits.data(), most, static_cast<uint32_t>(logits.size()), exponentials.data());
  double sum = 0;
  for (const float value : exponentials) sum += static_cast<double>(value);
  for (size_t i = 0; i < p_.size(); ++i) p_[i] = static_cast<double>(exponentials[i]) / sum;
  log_sum_ = static_cast<double>(most) + std::log(sum);
}

// With d = the other's logits - these, log q = log p + d - log sum p exp(d).
Distribution::Difference Distribution::compare(std::span<const float> logits, int32_t token) const {
  US_CHECK(logits.size() == logits_.size());
  double mean = 0, scaled = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double d = static_cast<double>(logits[i]) - static_cast<double>(logits_[i]);
    mean += p_[i] * d;
    scaled += p_[i] * std::expm1(d);
  }
  const double log_ratio = std::log1p(scaled);
  return {.kl = std::max(log_ratio - mean, 0.0),
          .nll = log_sum_ + log_ratio - static_cast<double>(logits[index(token)]),
          .has_same_argmax = argmax_of(logits) == argmax_};
}

Statistics statistics_of(std::span<const Distribution::Difference> differences,
                         std::span<const double> exact_nll) {
  US_CHECK(differences.size() == exact_nll.size() && differences.size() >= 2, "{} and {}",
           differences.size(), exact_nll.size());
  Statistics result{.num_tokens = differences.size()};
  const auto count = static_cast<double>(differences.size());
  std::vector<double> kl;
  kl.reserve(differences.size());
  double squares = 0;
  for (size_t i = 0; i < differences.size(); ++i) {
    const Distribution::Difference& difference = differences[i];
    kl.push_back(difference.kl);
    result.kl_mean += difference.kl / count;
    result.agreement += difference.has_same_argmax ? 1 / count : 0;
    result.nll_mean += difference.nll / count;
    result.nll_change += (difference.nll - exact_nll[i]) / count;
    squares += (difference.nll - exact_nll[i]) * (difference.nll - exact_nll[i]);
  }
  const double variance = (squares - count * result.nll_change * result.nll_change) / (count - 1);
  result.nll_change_error = std::sqrt(std::max(variance, 0.0) / count);
  std::sort(kl.begin(), kl.end());
  result.kl_999 = kl[static_cast<size_t>(std::ceil(0.999 * count)) - 1];
  result.kl_max = kl.back();
  return result;
}

}  // namespace ultraspeed::apps
