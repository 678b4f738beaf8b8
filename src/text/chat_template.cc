// Loading of chat templates and the variables that a request gives them.
#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/mapped_file.h"
#include "text/chat_template_harmony.h"
#include "text/chat_template_messages.h"

namespace ultraspeed::text {

namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

Result<std::string> read_file(const std::string& path, size_t max_bytes) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  if (file.size_bytes() > max_bytes) {
    return make_error(ErrorCode::kInvalidData, "{}: {} bytes exceed the limit of {}", path,
                      file.size_bytes(), max_bytes);
  }
  std::string bytes(file.size_bytes(), '\0');
  US_TRY(file.read(0, std::as_writable_bytes(std::span<char>(bytes))));
  return bytes;
}

Result<jinja::Template> parse_template(const std::string& origin, std::string_view source) {
  auto parsed = jinja::Template::parse(source);
  if (!parsed) {
    return make_error(parsed.error().code, "{}: {}", origin, parsed.error().message);
  }
  return parsed;
}

Result<nlohmann::json> read_tokenizer_config(const std::string& path) {
  US_ASSIGN(const std::string bytes, read_file(path, kMaxConfigBytes));
  nlohmann::json config = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return make_error(ErrorCode::kInvalidData, "{}: expected a JSON object", path);
  }
  return config;
}

// The text of a special token: a string, or an object with "content".
std::optional<std::string> token_text(const nlohmann::json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string()) {
    return token["content"].get<std::string>();
  }
  return std::nullopt;
}

// The variables that transformers takes from its special_tokens_map.
nlohmann::ordered_json special_tokens_of(const nlohmann::json& config) {
  static constexpr std::array<const char*, 7> kNames = {
      "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
  nlohmann::ordered_json tokens = nlohmann::ordered_json::object();
  for (const char* name : kNames) {
    if (!config.contains(name)) continue;
    if (const auto text = token_text(config[name])) tokens[name] = *text;
  }
  const auto additional = config.find("additional_special_tokens");
  if (additional != config.end() && additional->is_array() && !additional->empty()) {
    auto& list = tokens["additional_special_tokens"] = nlohmann::ordered_json::array();
    for (const auto& token : *additional) {
      if (const auto text = token_text(token)) list.push_back(*text);
    }
  }
  return tokens;
}

// Sources of the templates in tokenizer_config.json.
struct Sources {
  std::optional<std::string> main;
  std::optional<std::string> with_tools;
};

Result<Sources> sources_of(const std::string& path, const nlohmann::json& config) {
  Sources sources;
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return sources;
  if (found->is_string()) {
    sources.main = found->get<std::string>();
    return sources;
  }
  const auto malformed = [&] {
    return make_error(ErrorCode::kInvalidData,
                      "{}: chat_template: expected a string or a list of {{name, template}}", path);
  };
  if (!found->is_array()) return malformed();
  for (const auto& entry : *found) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
        !entry.contains("template") || !entry["template"].is_string()) {
      return malformed();
    }
    const std::string name = entry["name"].get<std::string>();
    if (name == "default") sources.main = entry["template"].get<std::string>();
    if (name == "tool_use") sources.with_tools = entry["template"].get<std::string>();
  }
  if (!sources.main) {
    return make_error(ErrorCode::kInvalidData, "{}: chat_template: no template named 'default'",
                      path);
  }
  return sources;
}

Status check_tools(const nlohmann::ordered_json& tools) {
  const auto is_object = [](const auto& tool) { return tool.is_object(); };
  if (tools.is_null()) return {};
  if (tools.is_array() && std::all_of(tools.begin(), tools.end(), is_object)) return {};
  return make_error(ErrorCode::kInvalidArgument, "tools: expected an array of objects");
}

// Templates that walk a tool call's arguments fail inside on those that are no JSON object: says
// which they may have been.
Error with_arguments_hint(Error error, const nlohmann::ordered_json& prepared_messages) {
  const auto place = find_unparsed_arguments(prepared_messages);
  if (place) error.message += fmt::format(" ({} is not the text of a JSON object)", *place);
  return error;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::load(const std::string& dir) {
  const std::filesystem::path root(dir);
  const std::string template_path = root / "chat_template.jinja";
  const std::string config_path = root / "tokenizer_config.json";
  std::error_code ignored;
  nlohmann::json config = nlohmann::json::object();
  if (std::filesystem::exists(config_path, ignored)) {
    US_ASSIGN(config, read_tokenizer_config(config_path));
  }
  Sources sources;
  std::string origin = config_path;
  if (std::filesystem::exists(template_path, ignored)) {
    origin = template_path;
    US_ASSIGN(sources.main, read_file(template_path, jinja::Template::kMaxSourceBytes));
  } else {
    US_ASSIGN(sources, sources_of(config_path, config));
  }
  if (!sources.main) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no chat template: expected a file chat_template.jinja or an entry "
                      "\"chat_template\" in tokenizer_config.json",
                      dir);
  }
  US_ASSIGN(jinja::Template main, parse_template(origin, *sources.main));
  std::optional<jinja::Template> with_tools;
  if (sources.with_tools) {
    US_ASSIGN(with_tools, parse_template(origin, *sources.with_tools));
  }
  return ChatTemplate(std::move(main), std::move(with_tools), special_tokens_of(config),
                      writes_harmony(*sources.main));
}

Result<ChatTemplate> ChatTemplate::from_source(std::string_view source,
                                               nlohmann::ordered_json special_tokens) {
  US_ASSIGN(jinja::Template main, jinja::Template::parse(source));
  return ChatTemplate(std::move(main), std::nullopt, std::move(special_tokens),
                      writes_harmony(source));
}

// The request's own variables; those of `extra` must not hide the others.
Result<nlohmann::ordered_json> ChatTemplate::input_variables(ChatRequest request) const {
  US_ASSIGN(nlohmann::ordered_json messages, prepare_messages(std::move(request.messages)));
  US_TRY(check_tools(request.tools));
  if (!request.extra.is_null() && !request.extra.is_object()) {
    return make_error(ErrorCode::kInvalidArgument, "template variables: expected an object");
  }
  if (is_harmony_) {
    messages = harmony_messages(std::move(messages));
    request.tools = harmony_tools(std::move(request.tools));
    set_harmony_effort(!request.enable_thinking.value_or(true), &request.extra);
  }
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  variables["tools"] = std::move(request.tools);
  variables["documents"] = nullptr;
  for (const auto& [name, value] : request.extra.items()) {
    if (name == "messages" || name == "tools" || name == "add_generation_prompt") {
      return make_error(ErrorCode::kInvalidArgument,
                        "template variables: '{}' has a field of its own", name);
    }
    variables[name] = value;
  }
  variables["messages"] = std::move(messages);  // last: an object that grows copies its members
  return variables;
}

Result<RenderedPrompt> ChatTemplate::render(ChatRequest request,
                                            const jinja::RenderOptions& options) const {
  nlohmann::ordered_json own = special_tokens_;
  own["add_generation_prompt"] = request.add_generation_prompt;
  if (request.enable_thinking) own["enable_thinking"] = *request.enable_thinking;
  const bool uses_tools = with_tools_.has_value() && !request.tools.is_null();
  const bool has_ranges = !request.parse_special_in_input;
  US_ASSIGN(const nlohmann::ordered_json variables, input_variables(std::move(request)));
  const auto text = (uses_tools ? *with_tools_ : main_).render(own, variables, options);
  if (!text) return tl::unexpected(with_arguments_hint(text.error(), variables["messages"]));
  RenderedPrompt prompt{text->bytes(), {}};
  if (has_ranges) prompt.input_ranges = text->input_ranges();
  return prompt;
}

}  // namespace ultraspeed::text
