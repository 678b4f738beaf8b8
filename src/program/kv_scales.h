// The scales of an fp8 KV cache, from the weights alone (docs/numerics.md section 2). Inputs of
// QkvProj are normalised, each element has about the size of its norm's weight: so a row r of the
// matrix gives elements with mean square sum over c of (w[r, c] * norm[c])^2, and with a bias its
// square more.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "program/program.h"
#include "tensor/kv_rounding.h"

namespace ultraspeed::program {

// Of one rank. A draft block's own rows have the scales of the cache that they are attended to
// with.
class KvScaleTable {
 public:
  // Of the kv heads that a stage writes: [op.num_kv_heads]. REQUIRES: its program is one of those
  // that the table was made for.
  std::span<const tensor::KvScales> of(const QkvProjOperands& op) const;
  // Those of all stages, which of() gives parts of.
  std::span<const tensor::KvScales> all() const { return scales_; }

 private:
  friend class KvScaleBuilder;
  // What a stage's scales depend on.
  struct Key {
    explicit Key(const QkvProjOperands& op);
    auto operator<=>(const Key&) const = default;

    WeightId weight, norm, bias, k_norm;
    uint32_t first_row;
    float value_scale;
  };

  std::map<Key, uint32_t> first_;  // in scales_
  std::vector<tensor::KvScales> scales_;
};

// Sees the weights of a rank as they are loaded, in any order, and keeps of each matrix the sums of
// squares of its columns in each kv head.
class KvScaleBuilder {
 public:
  // `programs` share weights and stay where they are. Of the kv heads that `rank` has.
  explicit KvScaleBuilder(std::span<const Program> programs, uint32_t rank = 0);

  // packed: as WeightReader gives it. Weights that no scale depends on are ignored.
  void take(WeightId id, std::span<const std::byte> packed);

  // REQUIRES: all weights were taken.
  KvScaleTable finish() const;

 private:
  using MatrixKey = std::pair<WeightId, uint32_t>;  // with the first row of its k heads
  using Sums = std::vector<double>;  // [num_kv_heads keys, num_kv_heads values][cols]

  double mean_square(const QkvProjOperands& op, uint32_t kv_head, bool is_value) const;

  const Program* first_;
  std::vector<QkvProjOperands> ops_;  // that write keys and values, each once
  // Of draft blocks, and those that write the caches they are attended to with.
  std::vector<std::pair<KvScaleTable::Key, KvScaleTable::Key>> blocks_;
  std::map<WeightId, std::vector<float>> vectors_;  // norms and biases of ops_
  std::map<MatrixKey, Sums> sums_;
};

}  // namespace ultraspeed::program
