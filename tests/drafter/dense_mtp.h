// An MTP head written a second time, from its description alone: plain loops in double over the
// dense numbers of the generator, nothing cached, nothing shared with src/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/checkpoint_generator.h"

namespace ultraspeed::test {

class DenseMtp {
 public:
  using Vector = std::vector<double>;

  DenseMtp(const GeneratorOptions& options, const GeneratedCheckpoint& checkpoint)
      : options_(options), checkpoint_(checkpoint) {}

  // What a head is given at one position.
  struct Row {
    int32_t token = 0;  // the token head + 1 positions later
    Vector hidden;      // [hidden_size]: the target's residual there, before the final norm
  };

  // The head's logits at the last of rows, which stand at positions 0, 1, ...; [vocab_size].
  Vector logits(uint32_t head, const std::vector<Row>& rows) const;

 private:
  using Rows = std::vector<Vector>;

  Vector joined(const std::string& head, const Row& row) const;
  void rotate(Vector* head, uint32_t position) const;
  Vector attend(const std::string& head, const Rows& inputs, uint32_t first) const;
  Vector feed_forward(const std::string& head, const Vector& x) const;
  const DenseWeight& at(const std::string& head, const std::string& name) const {
    return checkpoint_.mtp.at(head + name);
  }

  const GeneratorOptions& options_;
  const GeneratedCheckpoint& checkpoint_;
};

}  // namespace ultraspeed::test
