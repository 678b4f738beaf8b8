#include "apps/bench_prompts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "apps/bench_edits.h"
#include "apps/files.h"
#include "apps/prompt.h"
#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

tl::unexpected<Error> not_a_prompt(std::string_view what) {
  return make_error(ErrorCode::kInvalidArgument,
                    "{}; expected a text, an array of messages, or an object with prompt_ids, "
                    "messages or prompt, and perhaps name and stop",
                    what);
}

Result<std::vector<std::string>> parse_stop(const ordered_json& stop) {
  if (stop.is_string()) return std::vector{stop.get<std::string>()};
  std::vector<std::string> strings;
  bool is_valid = stop.is_array();
  for (const ordered_json& entry : stop) {
    is_valid = is_valid && entry.is_string();
    if (is_valid) strings.push_back(entry.get<std::string>());
  }
  if (is_valid) return strings;
  return not_a_prompt("its stop is neither a text nor an array of texts");
}

Result<std::vector<int32_t>> parse_ids(const ordered_json& ids) {
  std::vector<int32_t> result;
  bool is_valid = ids.is_array() && !ids.empty();
  for (const ordered_json& id : ids) {
    is_valid = is_valid && id.is_number_unsigned() && id.get<uint64_t>() <= INT32_MAX;
    if (is_valid) result.push_back(id.get<int32_t>());
  }
  if (is_valid) return result;
  return not_a_prompt("its prompt_ids are no array of token ids");
}

Result<std::vector<int32_t>> encode_object(const LoadedModel& model, const ordered_json& json) {
  if (json.contains("prompt_ids")) return parse_ids(json["prompt_ids"]);
  if (json.contains("messages")) {
    return encode_messages(model, json["messages"], json.value("tools", ordered_json()), {});
  }
  if (!json.contains("prompt") || !json["prompt"].is_string()) {
    return not_a_prompt("an object without prompt_ids, messages or a text as its prompt");
  }
  return encode_raw(model, json["prompt"].get<std::string>());
}

Result<BenchPrompt> parse_prompt(const LoadedModel& model, const ordered_json& json, size_t index) {
  BenchPrompt prompt{.name = fmt::format("prompt {}", index + 1), .ids = {}, .stop = {}};
  if (json.is_string()) {
    US_ASSIGN(prompt.ids, encode_raw(model, json.get<std::string>()));
  } else if (json.is_array()) {
    US_ASSIGN(prompt.ids, encode_messages(model, json, {}, {}));
  } else if (json.is_object()) {
    US_ASSIGN(prompt.ids, encode_object(model, json));
    US_ASSIGN(prompt.stop, parse_stop(json.value("stop", ordered_json::array())));
    if (json.contains("family") && json["family"].is_string()) {
      prompt.family = json["family"];
      prompt.name = fmt::format("{} {}", prompt.family, index + 1);
    }
    if (json.contains("name") && json["name"].is_string()) prompt.name = json["name"];
  } else {
    return not_a_prompt(fmt::format("it is a {}", json.type_name()));
  }
  return prompt;
}

Result<ordered_json> parse_list(const std::string& text, const std::string& label) {
  auto whole = parse_json(text, label);
  if (whole && whole->is_array()) return whole;
  ordered_json lines = ordered_json::array();
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    US_ASSIGN(ordered_json json, parse_json(line, fmt::format("{}, line {}", label, number)));
    lines.push_back(std::move(json));
  }
  return lines;
}

Result<BenchPrompt> encode_sample(const LoadedModel& model, const Sample& sample) {
  BenchPrompt prompt{.name = std::string(sample.name), .ids = {}, .stop = {}};
  PromptOptions options;
  options.sample = prompt.name;
  US_ASSIGN(Prompt made, make_prompt(options, model));
  prompt.ids = std::move(made.ids);
  prompt.stop = std::move(made.stop);
  return prompt;
}

}  // namespace

Result<std::vector<BenchPrompt>> built_in_prompts(const LoadedModel& model) {
  std::vector<BenchPrompt> prompts;
  for (const Sample& sample : samples()) {
    const bool is_raw = sample.kind == Sample::Kind::kRawText;
    if (!is_raw && model.chat_template() == nullptr) continue;
    US_ASSIGN(BenchPrompt prompt, encode_sample(model, sample));
    prompts.push_back(std::move(prompt));
  }
  for (const BenchEdit& edit : bench_edits()) {
    BenchPrompt prompt{.name = std::string(edit.name), .ids = {}, .stop = {std::string(edit.stop)}};
    US_ASSIGN(prompt.ids, encode_raw(model, edit.text));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Result<std::vector<BenchPrompt>> read_prompts(const LoadedModel& model, const std::string& path) {
  US_ASSIGN(const std::string text, read_file(path));
  const std::string label = file_label(path);
  US_ASSIGN(const ordered_json list, parse_list(text, label));
  std::vector<BenchPrompt> prompts;
  for (const ordered_json& json : list) {
    auto prompt = parse_prompt(model, json, prompts.size());
    if (!prompt) {
      return make_error(prompt.error().code, "{}: prompt {}: {}", label, prompts.size() + 1,
                        prompt.error().message);
    }
    if (!prompt->stop.empty()) US_TRY(model.require_tokenizer());
    prompts.push_back(std::move(*prompt));
  }
  if (prompts.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: no prompts in it", label);
  }
  return prompts;
}

}  // namespace ultraspeed::apps
