// ultraspeed train-drafter capture: the target answers prompts, and what it computes for the texts
// becomes shards of features (docs/training.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/loaded_model.h"
#include "base/result.h"

namespace ultraspeed::apps {

struct CaptureOptions {
  ModelOptions model;
  std::string prompts;           // a file, as read_prompts() reads it
  std::string output;            // the folder
  std::vector<uint32_t> layers;  // the taps, ascending; empty: default_taps()
  uint32_t max_tokens = 256;     // of an answer
  uint32_t max_length = 1024;    // of prompt and answer
  float temperature = 0;
  uint64_t seed = 0;
  uint32_t streams = 32;
  uint64_t skip = 0;   // prompts at the beginning of the file
  uint64_t limit = 0;  // prompts after those; 0: all
  uint64_t shard_bytes = 256'000'000;
};

// Writes shards, target.tables and, at the end, capture.json. Errors: kInvalidArgument for a folder
// that has shards, for layers that the model has not, and for prompts of which none is short
// enough.
Status capture_features(const CaptureOptions& options);

}  // namespace ultraspeed::apps
