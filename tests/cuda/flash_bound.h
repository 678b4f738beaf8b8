// How far attention on tensor cores may be from the same cache contents in binary64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "cuda/ops/flash_attention.h"

namespace ultraspeed::cuda {

// Keys and values of a position of a KV head as the cache has them.
struct Cached {
  std::vector<double> key, value;
};

// A k = 32 product of e4m3 codes cuts off its terms and its sum 13 bits below the leading one
// (wgmma_gpu_test has the model), what it adds to included; bf16 products keep 22 bits or more.
struct FlashRounding {
  double split;    // of a query element or a weight, relative
  double floor;    // and absolute, as a share of the row's largest
  double product;  // of one product, as a share of its largest term and of what it adds to
};
inline FlashRounding flash_rounding(KvFormat format) {
  if (format == KvFormat::kE4m3) {
    return {0x1p-8 + 0x1p-12, 0x1p-10 / 224, 66 * 0x1p-13};
  }
  return {0x1p-17, 0, 34 * 0x1p-22};
}

// |error| as a share of its bound, and relative to the row's largest output.
struct FlashErrors {
  double worst = 0, error2 = 0, count = 0, worst_relative = 0;
  void add(double error, double bound, double largest) {
    error = std::isfinite(error) ? std::fabs(error) : std::numeric_limits<double>::infinity();
    worst = std::max(worst, error / bound);
    worst_relative = std::max(worst_relative, error / largest);
    error2 += error * error / (largest * largest);
    count += 1;
  }
  double rms() const { return std::sqrt(error2 / count); }
};

// The row of one query, in binary64, and what of it may differ (docs/numerics.md section 9). query
// [head_dim]; sink: nullptr for none; got [v_head_dim].
inline void compare_row(std::span<const Cached> seen, const float* query, double scale,
                        const double* sink, KvFormat format, const float* got,
                        FlashErrors& errors) {
  const FlashRounding rounding = flash_rounding(format);
  const auto head_dim = static_cast<uint32_t>(seen.empty() ? 0 : seen[0].key.size());
  const auto v_head_dim = static_cast<uint32_t>(seen.empty() ? 0 : seen[0].value.size());
  double largest_query = 0;
  for (uint32_t d = 0; d < head_dim; ++d) {
    largest_query = std::max(largest_query, std::fabs(double{query[d]}));
  }
  std::vector<double> logits, deltas;
  double most_seen = -INFINITY;
  for (const Cached& row : seen) {
    double logit = 0, magnitude = 0, largest = 0, keys = 0;
    for (uint32_t d = 0; d < head_dim; ++d) {
      const double term = query[d] * row.key[d] * scale;
      logit += term;
      magnitude += std::fabs(term);
      largest = std::max(largest, std::fabs(term));
      keys += std::fabs(row.key[d]) * scale;
    }
    const double products = 2 * kFlashHeadDim / (format == KvFormat::kE4m3 ? 32 : 16);
    logits.push_back(logit);
    deltas.push_back(magnitude * (rounding.split + 0x1p-21) +
                     keys * largest_query * rounding.floor +
                     products * rounding.product * std::max(largest, std::fabs(logit)) +
                     std::fabs(logit) * 0x1p-21 + 0x1p-20);
    most_seen = std::max(most_seen, logit);
  }
  const double most = sink == nullptr ? most_seen : std::max(most_seen, *sink);
  double sum = sink == nullptr ? 0 : std::exp(*sink - most), sum_error = 0;
  std::vector<double> value(v_head_dim), value_error(v_head_dim), term_most(v_head_dim);
  const double floor = rounding.floor * std::exp(most_seen - most);
  for (uint32_t i = 0; i < seen.size(); ++i) {
    const double weight = std::exp(logits[i] - most);
    const double grown = std::expm1(deltas[i]);
    sum += weight;
    sum_error += weight * (grown + 0x1p-16);
    for (uint32_t d = 0; d < v_head_dim; ++d) {
      const double term = weight * seen[i].value[d];
      value[d] += term;
      value_error[d] += std::fabs(term) * (grown + rounding.split + 0x1p-16) +
                        floor * std::fabs(seen[i].value[d]);
      term_most[d] = std::max(term_most[d], std::fabs(term));
    }
  }
  const double tiles = static_cast<double>(seen.size()) / 64 + 2;
  double largest_output = 0;
  for (uint32_t d = 0; d < v_head_dim; ++d) {
    if (sum > 0) value[d] /= sum;
    largest_output = std::max(largest_output, std::fabs(value[d]));
  }
  for (uint32_t d = 0; d < v_head_dim; ++d) {
    const double products = 2 * (format == KvFormat::kE4m3 ? 2 : 4) * tiles;
    const double error = value_error[d] + products * rounding.product * term_most[d] +
                         std::fabs(value[d]) * sum_error;
    const double bound = sum > 0 ? 1.5 * error / sum + 1e-30 : 1e-30;
    errors.add(got[d] - value[d], bound, std::max(largest_output, 1e-30));
  }
}

}  // namespace ultraspeed::cuda
