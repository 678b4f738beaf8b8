// How far a drafter would have carried decoding of a known text: each cycle proposes the block
// after an anchor, what equals the text is accepted, and the target's own next token follows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ultraspeed::train {

struct Acceptance {
  uint64_t num_cycles = 0;
  uint64_t num_tokens = 0;                // that the cycles gave
  std::vector<uint64_t> accepted_places;  // [block_size - 1]: cycles that accepted this draft

  // Tokens a cycle; 0 without cycles.
  double accepted_length() const;
  // The share of cycles that accepted draft `place`, from 0.
  double share(size_t place) const;
  void add(const Acceptance& other);
};

// Walks through each run of answer tokens from its first one. `is_right`: of the anchors that
// possible_anchors() gives, [anchors, block_size - 1], nonzero where the draft is the text's token.
// A run's end cuts its last block, as a stop token would.
Acceptance walk(std::span<const uint8_t> loss_mask, std::span<const uint8_t> is_right,
                uint32_t block_size);

}  // namespace ultraspeed::train
