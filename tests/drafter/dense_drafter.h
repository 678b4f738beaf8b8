// A DFlash drafter written a second time, from its description alone: plain loops in double over
// the dense numbers of the generator, nothing cached, nothing shared with src/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/drafter_generator.h"

namespace ultraspeed::test {

using Rows = std::vector<std::vector<double>>;

class DenseDrafter {
 public:
  // `embedding` and `head`: the target's tables, [vocab_size, hidden_size].
  DenseDrafter(const DrafterOptions& options, const GeneratedDrafter& drafter,
               const std::vector<float>& embedding, const std::vector<float>& head)
      : options_(options), drafter_(drafter), embedding_(embedding), head_(head) {}

  struct Block {
    Rows hidden;  // [rows, hidden_size], before the final norm
    Rows logits;  // [rows, vocab_size]
  };

  // A block of num_rows whose anchor is `token` at position context.size(); context[p] are the
  // concatenated taps of position p.
  Block draft(const Rows& context, uint32_t token, uint32_t num_rows) const;

  // The tokens that rows 1, 2, ... draft after `token`: the likeliest, or a selector's choices.
  std::vector<int32_t> tokens(const Block& block, uint32_t token) const;

 private:
  using Vector = std::vector<double>;
  struct KeyValue {
    Rows keys, values;  // [kv head]
  };

  double score(const Block& block, size_t row, uint32_t before, uint32_t token) const;
  Vector table_row(const std::vector<float>& table, uint32_t token) const;
  Vector multiply(const std::string& name, const Vector& x) const;
  Vector norm(const std::string& name, const Vector& x) const;
  Rows heads(const Vector& x, uint32_t count) const;
  void rotate(Vector* head, uint32_t position) const;
  KeyValue key_value(const std::string& layer, const Vector& x, uint32_t position) const;
  bool is_visible(uint32_t layer, uint32_t query, uint32_t key, uint32_t start) const;
  void attend(uint32_t layer, const std::vector<KeyValue>& rows, uint32_t start,
              Rows* hidden) const;
  void feed_forward(const std::string& layer, Vector* hidden) const;

  const DrafterOptions& options_;
  const GeneratedDrafter& drafter_;
  const std::vector<float>& embedding_;
  const std::vector<float>& head_;
};

}  // namespace ultraspeed::test
