#include "train/block_sampler.h"

#include <algorithm>

#include "base/check.h"
#include "base/philox.h"

namespace ultraspeed::train {

size_t SampledBlocks::num_kept() const {
  return static_cast<size_t>(std::count(keep.begin(), keep.end(), uint8_t{1}));
}

std::vector<int64_t> possible_anchors(std::span<const uint8_t> loss_mask) {
  std::vector<int64_t> anchors;
  for (size_t i = 0; i + 1 < loss_mask.size(); ++i) {
    if (loss_mask[i] != 0 && loss_mask[i + 1] != 0) anchors.push_back(static_cast<int64_t>(i));
  }
  return anchors;
}

SampledBlocks make_blocks(std::span<const int32_t> token_ids, std::span<const uint8_t> loss_mask,
                          std::span<const int64_t> anchors, uint32_t block_size,
                          uint32_t num_blocks) {
  US_CHECK(token_ids.size() == loss_mask.size(), "{} tokens, {} mask entries", token_ids.size(),
           loss_mask.size());
  US_CHECK(block_size >= 2 && anchors.size() <= num_blocks, "{} anchors for {} blocks of {}",
           anchors.size(), num_blocks, block_size);
  const size_t num_masks = block_size - 1;
  SampledBlocks blocks;
  blocks.anchors.assign(anchors.begin(), anchors.end());
  blocks.anchors.resize(num_blocks, 0);
  blocks.keep.assign(anchors.size(), 1);
  blocks.keep.resize(num_blocks, 0);
  blocks.labels.resize(num_blocks * num_masks, 0);
  blocks.weights.resize(num_blocks * num_masks, 0.0F);
  for (size_t block = 0; block < anchors.size(); ++block) {
    for (size_t mask = 0; mask < num_masks; ++mask) {
      const size_t position = static_cast<size_t>(anchors[block]) + 1 + mask;
      if (position >= token_ids.size() || loss_mask[position] == 0) break;
      blocks.labels[block * num_masks + mask] = token_ids[position];
      blocks.weights[block * num_masks + mask] = 1.0F;
    }
  }
  return blocks;
}

SampledBlocks sample_blocks(std::span<const int32_t> token_ids, std::span<const uint8_t> loss_mask,
                            uint32_t block_size, uint32_t num_blocks, const SamplerKey& key) {
  std::vector<int64_t> anchors = possible_anchors(loss_mask);
  const size_t count = std::min<size_t>(num_blocks, anchors.size());
  const uint64_t stream = uint64_t{key.step} << 32 | key.sequence;
  // The first `count` swaps of a Fisher-Yates shuffle.
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bits = random_bits(key.seed, stream, static_cast<uint32_t>(i));
    const size_t chosen = i + static_cast<size_t>(bits * (anchors.size() - i) >> 32);
    std::swap(anchors[i], anchors[chosen]);
  }
  anchors.resize(count);
  std::sort(anchors.begin(), anchors.end());
  return make_blocks(token_ids, loss_mask, anchors, block_size, num_blocks);
}

}  // namespace ultraspeed::train
