// What a model folder holds, as text for a person.
#pragma once

#include <string>

#include "apps/model_folder.h"
#include "base/result.h"
#include "model/config.h"

namespace ultraspeed::apps {

// Configuration, runs of equal layers, weights by role, and whose tensors the files hold. Errors:
// those of shape(): a checkpoint that lacks a weight.
Result<std::string> model_table(const ModelFolder& folder);

std::string drafter_table(const model::DrafterConfig& drafter);

}  // namespace ultraspeed::apps
