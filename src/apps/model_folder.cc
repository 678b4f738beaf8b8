#include "apps/model_folder.h"

#include <filesystem>
#include <utility>

#include "text/chat_template.h"

namespace ultraspeed::apps {
namespace {

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

}  // namespace

Result<ModelFolder> ModelFolder::open(const std::string& directory) {
  ModelFolder folder;
  folder.directory = directory;
  US_ASSIGN(folder.config, model::ModelConfig::load(directory));
  US_ASSIGN(folder.generation, model::GenerationConfig::load(directory));
  auto checkpoint = model::Checkpoint::open(directory);
  if (checkpoint) {
    folder.checkpoint = *std::move(checkpoint);
  } else if (checkpoint.error().code != ErrorCode::kNotFound ||
             exists(directory + "/model.safetensors.index.json")) {
    return tl::unexpected(std::move(checkpoint).error());
  }
  if (exists(directory + "/dflash/config.json")) {
    US_ASSIGN(folder.drafter, model::DrafterConfig::load(directory + "/dflash"));
  }
  const auto chat_template = text::ChatTemplate::load(directory);
  if (chat_template) {
    folder.chat_template = "yes";
  } else {
    const Error& error = chat_template.error();
    folder.chat_template = error.code == ErrorCode::kNotFound ? "none" : error.message;
  }
  folder.has_tokenizer = exists(directory + "/tokenizer.json");
  return folder;
}

Result<model::WeightShape> ModelFolder::shape(const model::WeightSource& source) const {
  if (!checkpoint) return model::expected_shape(config, source);
  return model::WeightLoader(*checkpoint, config).shape(source);
}

}  // namespace ultraspeed::apps
