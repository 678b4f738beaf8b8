#include "server/test_model.h"

#include <string>

#include "base/check.h"

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

std::vector<int32_t> test_ids(std::string_view text) {
  auto ids = test_tokenizer().encode(text);
  US_CHECK(ids, "{}", ids.error().message);
  return *std::move(ids);
}

}  // namespace ultraspeed::server
