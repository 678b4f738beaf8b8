// An open drafter folder: its configuration, its tensors and, if there is one, its mask embedding.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/mask_embedding.h"
#include "model/weights.h"

namespace ultraspeed::model {

class Drafter {
 public:
  // Replaces conventions that a config.json states.
  using Change = std::function<void(DrafterConfig*)>;

  // DIRECTORY/config.json, its safetensors and mask_embedding.pt. Reads no weights. `change` is for
  // whoever looks for conventions that fit a drafter better than those it came with.
  static Result<Drafter> open(const std::string& directory, const Change& change = {});

  const DrafterConfig& config() const { return config_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  // As WeightLoader's, for sources of Stack::kDflash. A selector's codes are made of the target's
  // tables; they need memory for a table and, in f32, its rows. REQUIRES: `target` for them.
  Result<WeightShape> shape(const WeightSource& source) const;
  Status load(const WeightSource& source, std::span<std::byte> out,
              const WeightLoader* target = nullptr) const;
  Status check_complete() const;

 private:
  Drafter(DrafterConfig config, Checkpoint checkpoint)
      : config_(std::move(config)), stack_(config_.stack()), checkpoint_(std::move(checkpoint)) {}

  Status read_mask(const std::string& path);
  Status load_codes(const WeightSource& source, const WeightLoader& target,
                    std::span<std::byte> out) const;
  WeightLoader loader() const { return {checkpoint_, stack_}; }

  DrafterConfig config_;
  ModelConfig stack_;
  Checkpoint checkpoint_;
  std::optional<MaskEmbedding> mask_;
};

}  // namespace ultraspeed::model
