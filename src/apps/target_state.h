// What the training of a drafter needs of its target: the two tables that the drafter shares, and
// what the target computed for a text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "apps/loaded_model.h"
#include "base/result.h"
#include "engine/engine.h"
#include "train/feature_shard.h"
#include "train/frozen_tables.h"

namespace ultraspeed::apps {

// Embedding and head as the checkpoint stores them, dequantised. Their checksum is part of the text
// that identifies the target. Errors: those of the checkpoint's tensors.
Result<train::FrozenTables> read_target_tables(const LoadedModel& model);

// The taps of a drafter where nobody chose, as in published drafters: the second layer, the last
// but two and, evenly between them, one in models of up to 8 layers, three in larger ones
// (z-lab/dflash, build_target_layer_ids).
std::vector<uint32_t> default_taps(uint32_t num_layers);

// Runs texts through an engine whose captured layers are the shape's taps.
class TextFeatures {
 public:
  // REQUIRES: the engine outlives it. Errors: those of reading the final norm.
  static Result<TextFeatures> create(const LoadedModel& model, engine::Engine& engine,
                                     const train::FeatureShape& shape);

  // Residuals after each tap and what the head reads, rounded to BF16; the mask is 1 from
  // num_prompt on. Errors: those of Engine::features.
  Result<train::FeatureSequence> of(std::span<const int32_t> tokens, size_t num_prompt) const;

 private:
  TextFeatures(engine::Engine& engine, size_t num_taps, float epsilon)
      : engine_(&engine), num_taps_(num_taps), epsilon_(epsilon) {}

  engine::Engine* engine_;
  size_t num_taps_;
  float epsilon_;
  std::vector<float> final_norm_;  // [hidden_size]
};

}  // namespace ultraspeed::apps
