#include "apps/config_file.h"

#include <filesystem>

#include "apps/files.h"
#include "apps/model_argument.h"

namespace ultraspeed::apps {

Result<ConfigFile> read_config_file(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  US_ASSIGN(fs::path file, find_folder(path));
  if (fs::is_directory(file, ignored)) file /= "config.json";
  US_ASSIGN(const std::string text, read_file(file.string()));
  ConfigFile models;
  US_ASSIGN(models.config, model::ModelConfig::parse(file.string(), text));
  const fs::path drafter = file.parent_path() / "dflash";
  if (path == "-" || !fs::exists(drafter / "config.json", ignored)) return models;
  US_ASSIGN(models.drafter, model::DrafterConfig::load(drafter.string()));
  return models;
}

}  // namespace ultraspeed::apps
