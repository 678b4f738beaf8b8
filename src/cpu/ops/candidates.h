// The tokens that a column may choose, as Sample narrows them down.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "cpu/kernels/kernels.h"
#include "program/logit_shards.h"

namespace ultraspeed::cpu {

using program::kLogitPiece;  // of a long list, for the vector loops

// Values of tokens by ascending id: of all, of a share of the vocabulary, or of some. A place is an
// index of `values`.
struct TokenValues {
  std::span<const float> values;
  uint32_t first_id = 0;
  std::span<const uint32_t> ids = {};  // empty: first_id, first_id + 1, ...

  uint32_t id_of(uint32_t place) const { return ids.empty() ? first_id + place : ids[place]; }
};

// The order of candidates: larger value first, then lower id.
struct ByValue {
  std::span<const float> values;

  bool operator()(uint32_t a, uint32_t b) const {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  }
};

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

// What noise lets win.
struct NoisyChoice {
  double noisy = -std::numeric_limits<double>::infinity();
  uint32_t place = 0;
};

// The tokens that may still be chosen, and exp(x - largest x), their unnormalised probabilities.
class Candidates {
 public:
  // `largest`: of the tokens, or of all where they are a share.
  Candidates(const TokenValues& tokens, double temperature, float largest)
      : tokens_(tokens),
        values_(tokens.values),
        temperature_(temperature),
        largest_(largest),
        places_(values_.size()) {
    std::iota(places_.begin(), places_.end(), 0u);
  }

  bool empty() const { return places_.empty(); }

  void keep_top_k(uint32_t top_k) {
    if (top_k == 0 || top_k >= values_.size()) return;
    places_ = largest_ids(values_, top_k);
    std::sort(places_.begin(), places_.end());
  }

  // The tokens below (1 - top_p) / n of the sum have at most 1 - top_p of it together, so that the
  // others reach top_p; the factor 1/2 covers rounding. Those are sorted piece by piece, as far as
  // needed.
  void keep_top_p(double top_p) {
    if (top_p >= 1) return;
    double sum = 0;
    for (const uint32_t place : places_) sum += weight(place);
    const double least = 0.5 * (1 - top_p) * sum / static_cast<double>(places_.size());
    std::erase_if(places_, [&](uint32_t place) { return weight(place) < least; });
    double reached = 0;
    size_t count = 0;
    size_t sorted = 0;
    while (count < places_.size() && (count == 0 || reached < top_p * sum)) {
      if (count == sorted) sorted = sort_piece(sorted);
      reached += weight(places_[count++]);
    }
    places_.resize(count);
    std::sort(places_.begin(), places_.end());
  }

  void keep_min_p(double min_p) {
    if (min_p <= 0) return;
    std::erase_if(places_, [&](uint32_t place) { return weight(place) < min_p; });
  }

  // f64 of each place, with sum 1.
  std::vector<double> probabilities() const {
    std::vector<double> p(values_.size(), 0);
    double sum = 0;
    for (const uint32_t place : places_) sum += p[place] = weight(place);
    for (const uint32_t place : places_) p[place] /= sum;
    return p;
  }

  // Skips the noise, then its logarithms, where even their bounds could not win. REQUIRES: some.
  NoisyChoice choose(uint64_t seed, uint32_t position) const {
    NoisyChoice best;
    best.place = places_.front();
    uint32_t group = 0;
    PhiloxCounter words = random_group(seed, position, group);
    for (const uint32_t place : places_) {
      const double x = log_weight(place);
      if (x + kMaxGumbel < best.noisy) continue;
      const uint32_t id = tokens_.id_of(place);
      if (id / 4 != group) {
        group = id / 4;
        words = random_group(seed, position, group);
      }
      const uint32_t bits = words[id % 4];
      if (x + gumbel_upper_bound(bits) < best.noisy) continue;
      const double noisy = x + gumbel_from_bits(bits);
      if (noisy > best.noisy) best = {noisy, place};
    }
    return best;
  }

 private:
  // With the first `sorted` places in order, orders three times as many more; returns the new
  // count.
  size_t sort_piece(size_t sorted) {
    const auto begin = places_.begin() + static_cast<ptrdiff_t>(sorted);
    const size_t end_index = std::min(places_.size(), std::max<size_t>(64, 4 * sorted));
    const auto end = places_.begin() + static_cast<ptrdiff_t>(end_index);
    std::nth_element(begin, end, places_.end(), ByValue{values_});
    std::sort(begin, end, ByValue{values_});
    return end_index;
  }

  double log_weight(uint32_t place) const { return (values_[place] - largest_) / temperature_; }
  double weight(uint32_t place) const { return std::exp(log_weight(place)); }

  TokenValues tokens_;             // adjusted logits
  std::span<const float> values_;  // of them
  double temperature_;
  double largest_;
  std::vector<uint32_t> places_;  // ascending
};

// What top_k, top_p and min_p keep of tokens with the largest values. REQUIRES: a temperature above
// 0.
inline Candidates kept_candidates(const TokenValues& tokens,
                                  const program::ColumnSampling& sampling) {
  US_CHECK(sampling.temperature > 0 && std::isfinite(sampling.temperature), "temperature {}",
           sampling.temperature);
  US_CHECK(sampling.top_p > 0, "top_p {}", sampling.top_p);
  US_CHECK(sampling.min_p >= 0 && sampling.min_p < 1, "min_p {}", sampling.min_p);
  Candidates candidates(tokens, sampling.temperature, tokens.values[argmax(tokens.values)]);
  candidates.keep_top_k(sampling.top_k);
  candidates.keep_top_p(sampling.top_p);
  candidates.keep_min_p(sampling.min_p);
  return candidates;
}

}  // namespace ultraspeed::cpu
