// A model folder as `inspect` sees it: whatever is there.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/weights.h"

namespace ultraspeed::apps {

// A folder that need not be complete: a config.json alone will do.
struct ModelFolder {
  std::string directory;
  model::ModelConfig config;
  model::GenerationConfig generation;
  std::optional<model::Checkpoint> checkpoint;
  std::optional<model::DrafterConfig> drafter;  // of DIR/dflash
  bool has_tokenizer = false;
  std::string chat_template;  // "yes", "none", or what is wrong with it

  static Result<ModelFolder> open(const std::string& directory);

  // The shape of a weight: the checkpoint's own, or what config.json lets expect.
  Result<model::WeightShape> shape(const model::WeightSource& source) const;
};

}  // namespace ultraspeed::apps
