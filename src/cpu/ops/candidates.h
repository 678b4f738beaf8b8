// The tokens that a column may choose, as Sample narrows them down.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "base/philox.h"
#include "cpu/kernels/kernels.h"

namespace ultraspeed::cpu {

// The order of candidates: larger value first, then lower id.
struct ByValue {
  std::span<const float> values;

  bool operator()(uint32_t a, uint32_t b) const {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  }
};

inline constexpr uint32_t kLogitPiece = 1024;  // of a long list, for the vector loops

// The first of the largest; NaN counts as larger than everything.
inline uint32_t argmax(std::span<const float> values) {
  const auto count = static_cast<uint32_t>(values.size());
  float most = -std::numeric_limits<float>::infinity();
  uint32_t piece = 0;
  for (uint32_t begin = 0; begin < count; begin += kLogitPiece) {
    const float of_piece = largest(values.data() + begin, std::min(kLogitPiece, count - begin));
    if (of_piece <= most) continue;
    most = of_piece;
    piece = begin;
    if (std::isnan(most)) break;
  }
  const auto is_found = [&](float value) { return value == most || std::isnan(value); };
  const auto found = std::find_if(values.begin() + piece, values.end(), is_found);
  return static_cast<uint32_t>(found - values.begin());
}

// The ids of the `count` largest values, in order. A heap of `count` ids: most values are only
// compared with its least.
inline std::vector<uint32_t> largest_ids(std::span<const float> values, uint32_t count) {
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

}  // namespace ultraspeed::cpu
