// Writes small random DFlash drafters together with the dense numbers they stand for: MiMo's form
// by default (a window before the anchor, sinks, value scale, partial rotation, a mask embedding of
// its own), z-lab's with `is_mimo` off. They draft for the checkpoints of checkpoint_generator.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "support/checkpoint_generator.h"

namespace ultraspeed::test {

struct DrafterOptions {
  uint64_t seed = 2;
  bool is_mimo = true;
  uint32_t hidden_size = 256;
  uint32_t intermediate_size = 512;
  uint32_t num_layers = 3;
  uint32_t num_q_heads = 8;
  uint32_t num_kv_heads = 2;
  uint32_t head_dim = 32;
  uint32_t vocab_size = 256;
  uint32_t block_size = 8;
  uint32_t mask_token_id = 7;
  uint32_t sliding_window = 12;
  uint32_t num_target_layers = 4;
  std::vector<uint32_t> target_layer_ids = {0, 2, 3};
  std::vector<std::string> layer_types;  // z-lab's key; empty: left out
  std::optional<bool> is_causal;         // z-lab's key
  // A selector of matrices that change many choices; 0: none.
  uint32_t selector_rank = 0;
  // The layers add nothing, so that every draft is the token that the mask embedding alone gives.
  bool is_silent = false;
};

// Of two layers, for the bundled model.
DrafterOptions tiny_mimo_drafter();

struct GeneratedDrafter {
  std::vector<StoredTensor> tensors;
  std::map<std::string, DenseWeight> weights;  // by tensor name
  std::vector<float> mask_embedding;           // [hidden_size]; empty for z-lab's form

  const std::vector<float>& at(const std::string& name) const { return weights.at(name).values; }
};

std::string config_json(const DrafterOptions& options);

// Writes config.json, the weights and mask_embedding.pt into an existing folder.
Result<GeneratedDrafter> write_drafter(const std::string& directory, const DrafterOptions& options);

}  // namespace ultraspeed::test
