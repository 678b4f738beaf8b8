// generation_config.json: sampling defaults, in transformers' key names.
#include <algorithm>
#include <filesystem>

#include "model/config.h"
#include "model/config_limits.h"
#include "model/json_reader.h"

namespace ultraspeed::model {

Result<GenerationConfig> GenerationConfig::parse(std::string_view file, std::string_view text) {
  US_ASSIGN(const JsonDocument document, JsonDocument::parse(file, text));
  const JsonObject& json = document.root();
  GenerationConfig config;
  US_ASSIGN(const auto do_sample, json.optional_bool("do_sample"));
  config.do_sample = do_sample.value_or(config.do_sample);
  const auto read = [&json](std::string_view key, double min, double max, float& out) -> Status {
    US_ASSIGN(const auto value, json.optional_number(key, min, max));
    if (value) out = static_cast<float>(*value);
    return {};
  };
  US_TRY(read("temperature", 0.0, 100.0, config.temperature));
  US_TRY(read("top_p", kMinPositive, 1.0, config.top_p));
  US_TRY(read("min_p", 0.0, 1.0, config.min_p));
  US_TRY(read("repetition_penalty", 0.01, 100.0, config.repetition_penalty));
  US_ASSIGN(const auto top_k, json.optional_uint("top_k", 0, kMaxVocabSize));
  config.top_k = top_k.value_or(config.top_k);
  US_ASSIGN(auto eos, json.optional_uints("eos_token_id", 0, kMaxVocabSize - 1));
  if (eos) config.eos_token_ids = std::move(*eos);
  return config;
}

Result<GenerationConfig> GenerationConfig::load(const std::string& directory) {
  const std::string path = directory + "/generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) return GenerationConfig{};
  US_ASSIGN(const std::string text, read_text_file(path, kMaxConfigBytes));
  return parse(path, text);
}

std::vector<uint32_t> stop_token_ids(const ModelConfig& config,
                                     const GenerationConfig& generation) {
  std::vector<uint32_t> ids = config.eos_token_ids;
  ids.insert(ids.end(), generation.eos_token_ids.begin(), generation.eos_token_ids.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace ultraspeed::model
