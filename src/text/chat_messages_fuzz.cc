// Arbitrary JSON as the messages (or {messages, tools, extra}) of a request to the bundled
// template.
#include <cstdint>

#include "base/check.h"
#include "text/chat_template.h"

namespace ultraspeed::text {
namespace {

void check_rendering(const ChatTemplate& chat, const ChatRequest& request) {
  jinja::RenderOptions options;
  options.limits = {.max_steps = 1'000'000, .max_heap_bytes = size_t{64} << 20};
  const auto prompt = chat.render(request, options);
  if (!prompt) {
    US_CHECK(!prompt.error().message.empty());
    return;
  }
  US_CHECK(is_valid_utf8(prompt->text));
  for (const ByteRange& range : prompt->input_ranges) US_CHECK(range.end <= prompt->text.size());
}

void render(const char* begin, const char* end) {
  static const auto chat = ChatTemplate::load(US_SOURCE_DIR "/models/tiny-mimo");
  US_CHECK(chat.has_value(), "{}", chat.error().message);
  // Its messages are brought into another form, which the rest of the template shows little of.
  static const auto harmony = ChatTemplate::from_source(
      "{# <|start|><|channel|><|message|> #}{{ messages | tojson }}{{ tools | tojson }}");
  US_CHECK(harmony.has_value() && harmony->is_harmony());
  auto json = nlohmann::ordered_json::parse(begin, end, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return;
  ChatRequest request;
  if (json.is_object()) {
    if (json.contains("messages")) request.messages = json["messages"];
    if (json.contains("tools")) request.tools = json["tools"];
    if (json.contains("extra")) request.extra = json["extra"];
  } else {
    request.messages = std::move(json);
  }
  check_rendering(*chat, request);
  check_rendering(*harmony, request);
}

}  // namespace
}  // namespace ultraspeed::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const char* begin = reinterpret_cast<const char*>(data);
  ultraspeed::text::render(begin, begin + size);
  return 0;
}
