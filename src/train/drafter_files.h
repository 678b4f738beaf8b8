// A drafter's folder as model::Drafter reads it: config.json, model.safetensors, mask_embedding.pt.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "train/weights_file.h"

namespace ultraspeed::train {

enum class LinearFormat : uint8_t { kBf16, kFp8 };

// Of what published files hold and DrafterConfig reads; model_type is qwen3's.
// REQUIRES: a window before the anchor or none, rows of a block that see each other.
std::string drafter_config_json(const model::DrafterConfig& config, LinearFormat format);

// The bytes of model.safetensors. Vectors and what is of a selector are BF16; other matrices BF16,
// or FP8 with a scale for each 128 x 128 block. Errors name `path`.
Result<std::string> drafter_weights(const std::string& path,
                                    std::span<const ExportedTensor> tensors, LinearFormat format);

// What torch.save writes for {mask_token_id: int, embedding: BF16 tensor}. Errors name `path`.
Result<std::string> mask_embedding_file(const std::string& path, uint32_t mask_token_id,
                                        std::span<const float> embedding);

// Replaces the folder's files when all are written; makes the folder if there is none.
Status write_drafter_folder(const std::string& directory, const model::DrafterConfig& config,
                            std::span<const ExportedTensor> tensors,
                            std::span<const float> mask_embedding, LinearFormat format);

}  // namespace ultraspeed::train
