// What a session's tokens do to its next choice: repetition, presence and frequency penalties and
// the logit bias, as one sorted list of adjustments that grows with the text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "program/step.h"

namespace ultraspeed::engine {

class Penalties {
 public:
  Penalties(const SamplingParams& params, std::span<const int32_t> prompt);

  void count_output(int32_t token_id);
  bool depend_on_output() const { return repetition_ != 1 || presence_ != 0 || frequency_ != 0; }

  // Sorted by token id; valid until the next count_output.
  std::span<const program::LogitAdjustment> adjustments() const { return adjustments_; }

 private:
  struct Entry {
    float logit_bias = 0;
    uint32_t output_count = 0;
  };

  size_t find_or_insert(int32_t token_id);

  float repetition_;
  float presence_;
  float frequency_;
  std::vector<program::LogitAdjustment> adjustments_;
  std::vector<Entry> entries_;  // parallel to adjustments_
};

}  // namespace ultraspeed::engine
