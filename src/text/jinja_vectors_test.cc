// Every construct of the subset against jinja2 itself: templates, variables and results in
// tests/data/jinja/, made by make_vectors.py there, and unpacked by CMake.
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "text/jinja_template.h"

namespace ultraspeed::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

const std::string kTemplates = US_SOURCE_DIR "/tests/data/jinja/templates/";
const std::string kVectors = US_JINJA_VECTORS;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Result<Text> render_text(const std::string& source, const Json& context) {
  US_ASSIGN(const Template compiled, Template::parse(source));
  std::tm noon{};  // 2026-01-02, of make_vectors.py
  noon.tm_year = 126;
  noon.tm_mday = 2;
  noon.tm_hour = 12;
  noon.tm_isdst = -1;
  return compiled.render(nullptr, context, {.limits = {}, .now = std::mktime(&noon)});
}

// Compares with {"text": ...} or {"error": true}.
void expect_result(const std::string& source, const Json& context, const Json& expected) {
  const Result<Text> result = render_text(source, context);
  if (expected.contains("error")) {
    EXPECT_FALSE(result) << "should fail: " << source;
    if (!result) {
      EXPECT_NE(result.error().message.find("line "), std::string::npos);
    }
    return;
  }
  ASSERT_TRUE(result) << source << "\n" << result.error().message;
  EXPECT_EQ(result->bytes(), expected["text"].get<std::string>()) << source;
}

TEST(JinjaVectors, SingleConstructs) {
  const Json vectors = Json::parse(read_text(kVectors + "vectors.json"));
  ASSERT_GT(vectors["cases"].size(), 1000U);
  for (const Json& vector : vectors["cases"]) {
    expect_result(vector["template"], vectors["context"], vector);
  }
}

TEST(JinjaVectors, ConversationsInTheMannerOfModelFamilies) {
  const Json data = Json::parse(read_text(kVectors + "conversations.json"));
  ASSERT_EQ(data["rendered"].size(), 6U);
  for (const auto& [name, rendered] : data["rendered"].items()) {
    const std::string source = read_text(kTemplates + name);
    ASSERT_EQ(rendered.size(), data["contexts"].size());
    for (size_t i = 0; i < rendered.size(); ++i) {
      SCOPED_TRACE(fmt::format("{} with {}", name, data["contexts"][i].dump()));
      expect_result(source, data["contexts"][i], rendered[i]);
    }
  }
}

}  // namespace
}  // namespace ultraspeed::text::jinja
