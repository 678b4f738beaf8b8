// Arbitrary templates over a fixed conversation: parsing and rendering end with a text or an error.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/jinja_template.h"

namespace ultraspeed::text {
namespace {

const nlohmann::ordered_json& context() {
  static const auto variables = nlohmann::ordered_json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be brief.\n"},
      {"role": "user", "content": "héllo <|im_end|> 你好"},
      {"role": "assistant", "content": null, "reasoning_content": "so",
       "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [true, null, 2.5]}}}]},
      {"role": "tool", "content": "42"}],
    "tools": [{"name": "f", "parameters": {"properties": {"a": {"type": "int"}}}}],
    "n": 3, "s": " ab ", "l": [3, 1, 2], "d": {"k": "v", "z": [1]}})");
  return variables;
}

void render(std::string_view source) {
  auto compiled = jinja::Template::parse(source);
  if (!compiled) return;
  jinja::RenderOptions options;
  options.limits = {.max_steps = 100'000,
                    .max_heap_bytes = size_t{16} << 20,
                    .max_output_bytes = size_t{1} << 20,
                    .max_range = 10'000};
  options.now = 0;
  const auto text = compiled->render({{"bos_token", "<s>"}}, context(), options);
  if (!text) return;
  US_CHECK(is_valid_utf8(text->bytes()));
  size_t end = 0;
  for (const ByteRange& range : text->input_ranges()) {
    US_CHECK(range.begin < range.end && (range.begin > end || end == 0));
    end = range.end;
  }
  US_CHECK(end <= text->size_bytes());
}

}  // namespace
}  // namespace ultraspeed::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ultraspeed::text::render({reinterpret_cast<const char*>(data), size});
  return 0;
}
