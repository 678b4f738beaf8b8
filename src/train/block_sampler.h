// Which blocks of a text a training step looks at. A block is an anchor, a token of the answer that
// another one follows, and the tokens that its masks should become.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ultraspeed::train {

struct SamplerKey {
  uint64_t seed = 0;
  uint32_t step = 0;
  uint32_t sequence = 0;
};

// Blocks of one sequence; arrays of `anchors.size()` entries, of [blocks, block_size - 1] where a
// mask has one each.
struct SampledBlocks {
  std::vector<int64_t> anchors;  // positions, ascending; filled up with 0
  std::vector<uint8_t> keep;     // 0: fills up
  std::vector<int64_t> labels;   // the token at the mask's position; 0 where weight is 0
  std::vector<float> weights;    // 1 up to the answer's first end after the anchor, else 0

  size_t num_kept() const;
};

// Positions p for which p and p + 1 are answer tokens.
std::vector<int64_t> possible_anchors(std::span<const uint8_t> loss_mask);

// `anchors` as blocks, filled up to `num_blocks`.
// REQUIRES: anchors are ascending positions of the text, at most num_blocks; block_size >= 2.
SampledBlocks make_blocks(std::span<const int32_t> token_ids, std::span<const uint8_t> loss_mask,
                          std::span<const int64_t> anchors, uint32_t block_size,
                          uint32_t num_blocks);

// min(num_blocks, possible) different anchors, each set of them as likely as another: a function of
// the key alone.
SampledBlocks sample_blocks(std::span<const int32_t> token_ids, std::span<const uint8_t> loss_mask,
                            uint32_t block_size, uint32_t num_blocks, const SamplerKey& key);

}  // namespace ultraspeed::train
