// A model's configuration alone, without weights.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "model/config.h"
#include "model/drafter.h"

namespace ultraspeed::apps {

struct ConfigFile {
  model::ModelConfig config;
  std::optional<model::DrafterConfig> drafter;  // of dflash/ beside it
};

// `path` is a config.json, its folder or ORG/NAME of the cache; "-" is standard input.
Result<ConfigFile> read_config_file(const std::string& path);

}  // namespace ultraspeed::apps
