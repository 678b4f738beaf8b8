#include "apps/model_argument.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "apps/folder_check.h"
#include "apps/hub_settings.h"
#include "hub/cache.h"

namespace ultraspeed::apps {

Result<std::string> find_folder(const std::string& argument) {
  std::string folder = argument;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  std::error_code error;
  if (std::filesystem::exists(folder, error)) return folder;
  const auto reference = hub::parse_reference(argument);
  if (!reference) return folder;
  return hub::ModelCache(hub_cache_folder(), *reference).find();
}

Result<std::string> find_model_folder(const std::string& argument) {
  US_ASSIGN(std::string folder, find_folder(argument));
  const Status status = check_model_folder(folder);
  if (!status) return tl::unexpected(with_pull_advice(status.error(), folder));
  return folder;
}

std::string model_name(const std::string& folder) {
  std::error_code error;
  const auto path = std::filesystem::canonical(folder, error);
  if (error) return folder;
  const std::string model = hub::model_of_snapshot(path.string());
  return model.empty() ? path.filename().string() : model;
}

Error with_pull_advice(Error error, const std::string& folder) {
  const std::string model = hub::model_of_snapshot(folder);
  if (error.code != ErrorCode::kNotFound || model.empty()) return error;
  error.message += fmt::format("; 'ultraspeed pull {}' downloads what is missing", model);
  return error;
}

}  // namespace ultraspeed::apps
