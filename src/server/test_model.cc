#include "server/test_model.h"

#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "base/check.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {
namespace {

constexpr const char* kModelDirectory = US_SOURCE_DIR "/models/tiny-mimo";

}  // namespace

const text::Tokenizer& test_tokenizer() {
  static const text::Tokenizer tokenizer = [] {
    auto result = text::Tokenizer::load(std::string(kModelDirectory) + "/tokenizer.json");
    US_CHECK(result, "{}", result.error().message);
    return *std::move(result);
  }();
  return tokenizer;
}

const text::ChatTemplate& test_chat_template() {
  static const text::ChatTemplate chat_template = [] {
    auto result = text::ChatTemplate::load(kModelDirectory);
    US_CHECK(result, "{}", result.error().message);
    return *std::move(result);
  }();
  return chat_template;
}

const text::Tokenizer& harmony_tokenizer() {
  static const text::Tokenizer tokenizer = [] {
    const std::string path = std::string(kModelDirectory) + "/tokenizer.json";
    std::ifstream file(path);
    auto json = nlohmann::ordered_json::parse(file, nullptr, /*allow_exceptions=*/false);
    auto id = static_cast<int32_t>(test_tokenizer().vocab_size());
    const auto add = [&json, &id](std::string_view content, bool is_special) {
      auto token = json["added_tokens"].front();
      token["id"] = id++;
      token["content"] = content;
      token["special"] = is_special;
      json["added_tokens"].push_back(std::move(token));
    };
    for (const std::string_view mark : answer_markers(ToolSyntax::kHarmony)) add(mark, true);
    add("analysis", false);
    auto result = text::Tokenizer::from_json(json.dump(), path);
    US_CHECK(result, "{}", result.error().message);
    return *std::move(result);
  }();
  return tokenizer;
}

const text::ChatTemplate& test_template(const std::string& name) {
  static std::map<std::string, text::ChatTemplate> templates;
  const auto known = templates.find(name);
  if (known != templates.end()) return known->second;
  std::ifstream file(US_SOURCE_DIR "/tests/data/jinja/templates/" + name + ".jinja");
  const std::string source((std::istreambuf_iterator<char>(file)), {});
  auto result = text::ChatTemplate::from_source(source);
  US_CHECK(file && result, "no template {}", name);
  return templates.emplace(name, *std::move(result)).first->second;
}

std::vector<int32_t> test_ids(std::string_view text) {
  auto ids = test_tokenizer().encode(text);
  US_CHECK(ids, "{}", ids.error().message);
  return *std::move(ids);
}

}  // namespace ultraspeed::server
