// The engine's own drafting of one block after a prompt, and what the net needs to do the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/checkpoint_generator.h"
#include "support/drafter_generator.h"
#include "support/temporary_directory.h"
#include "train/drafter_net.h"

namespace ultraspeed::test {

struct EngineBlock {
  torch::Tensor features;    // f32 [context, taps * hidden_size]
  torch::Tensor logits;      // f32 [block_size - 1, vocab_size]
  std::vector<int64_t> ids;  // [block_size - 1]
};

class EngineDrafter {
 public:
  // A generated target (hidden size 256, 4 layers, 256 tokens) and the drafter of a folder. What
  // the drafter taps is `options`'s.
  EngineDrafter(const std::string& drafter_directory, const DrafterOptions& options);

  // The block whose anchor is the last token, in the context of those before it.
  EngineBlock draft(const std::vector<int32_t>& tokens) const;

  torch::Tensor embedding() const;  // f32 [vocab_size, hidden_size]
  torch::Tensor head() const;       // f32 [vocab_size, hidden_size]

 private:
  const std::string drafter_directory_;
  const DrafterOptions options_;
  TemporaryDirectory target_directory_;
  GeneratedCheckpoint target_;
};

// The net's input for blocks with these anchors in one sequence.
train::BlockBatch block_batch(const torch::Tensor& features, const std::vector<int32_t>& tokens,
                              const std::vector<int64_t>& anchors, const torch::Tensor& embedding);

}  // namespace ultraspeed::test
