#include "apps/prompt_source.h"

#include <algorithm>
#include <utility>

#include "apps/files.h"

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

bool is_id(const ordered_json& json) {
  return json.is_number_unsigned() && json.get<uint64_t>() <= INT32_MAX;
}

Status parse_object(const ordered_json& json, size_t number, PromptSource* source) {
  US_ASSIGN(source->stop, parse_stop(json.value("stop", ordered_json::array())));
  if (json.contains("family") && json["family"].is_string()) {
    source->family = json["family"];
    source->name = fmt::format("{} {}", source->family, number);
  }
  if (json.contains("name") && json["name"].is_string()) source->name = json["name"];
  if (json.contains("prompt_ids")) {
    source->kind = PromptSource::Kind::kIds;
    source->value = json["prompt_ids"];
    const bool is_valid = source->value.is_array() && !source->value.empty() &&
                          std::all_of(source->value.begin(), source->value.end(), is_id);
    if (is_valid) return {};
    return not_a_prompt("its prompt_ids are no array of token ids");
  }
  if (json.contains("messages")) {
    source->kind = PromptSource::Kind::kMessages;
    source->value = json["messages"];
    source->tools = json.value("tools", ordered_json());
    return {};
  }
  if (!json.contains("prompt") || !json["prompt"].is_string()) {
    return not_a_prompt("an object without prompt_ids, messages or a text as its prompt");
  }
  source->value = json["prompt"];
  return {};
}

Result<PromptSource> parse_prompt(const ordered_json& json, size_t number) {
  PromptSource source;
  source.name = fmt::format("prompt {}", number);
  if (json.is_object()) {
    US_TRY(parse_object(json, number, &source));
  } else if (json.is_string() || json.is_array()) {
    source.kind = json.is_string() ? PromptSource::Kind::kText : PromptSource::Kind::kMessages;
    source.value = json;
  } else {
    return not_a_prompt(fmt::format("it is a {}", json.type_name()));
  }
  return source;
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

}  // namespace

Result<std::vector<PromptSource>> read_prompt_sources(const std::string& path) {
  US_ASSIGN(const std::string text, read_file(path));
  const std::string label = file_label(path);
  US_ASSIGN(const ordered_json list, parse_list(text, label));
  std::vector<PromptSource> sources;
  for (const ordered_json& json : list) {
    auto source = parse_prompt(json, sources.size() + 1);
    if (!source) {
      return make_error(source.error().code, "{}: prompt {}: {}", label, sources.size() + 1,
                        source.error().message);
    }
    sources.push_back(std::move(*source));
  }
  if (sources.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: no prompts in it", label);
  }
  return sources;
}

}  // namespace ultraspeed::apps
