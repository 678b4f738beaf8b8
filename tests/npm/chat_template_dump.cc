// Renders templates for chat_template.test.js: reads JSON lines {"template", "context", "now"} and
// writes for each {"text", "input_ranges"} or {"error"}; "now" is in seconds since 1970. With a
// checkpoint's directory as its argument it reads chat requests {"messages", "tools",
// "add_generation_prompt", "enable_thinking"} instead.
#include <ctime>
#include <iostream>
#include <string>

#include "text/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;
using ultraspeed::text::ByteRange;

Json answer(const std::string& text, const std::vector<ByteRange>& input_ranges) {
  Json ranges = Json::array();
  for (const ByteRange& range : input_ranges) ranges.push_back({range.begin, range.end});
  return {{"text", text}, {"input_ranges", ranges}};
}

Json render_template(const Json& request) {
  using ultraspeed::text::jinja::Template;
  auto compiled = Template::parse(request["template"].get<std::string>());
  if (!compiled) return {{"error", compiled.error().message}};
  auto text = compiled->render(nullptr, request["context"],
                               {.limits = {}, .now = request["now"].get<std::time_t>()});
  if (!text) return {{"error", text.error().message}};
  return answer(text->bytes(), text->input_ranges());
}

Json render_chat(const ultraspeed::text::ChatTemplate& chat, const Json& json) {
  ultraspeed::text::ChatRequest request;
  request.messages = json["messages"];
  request.tools = json["tools"];
  request.add_generation_prompt = json["add_generation_prompt"];
  if (json.contains("enable_thinking")) request.enable_thinking = json["enable_thinking"];
  auto prompt = chat.render(request);
  if (!prompt) return {{"error", prompt.error().message}};
  return answer(prompt->text, prompt->input_ranges);
}

}  // namespace

int main(int argc, char** argv) {
  std::optional<ultraspeed::text::ChatTemplate> chat;
  if (argc > 1) {
    auto loaded = ultraspeed::text::ChatTemplate::load(argv[1]);
    if (!loaded) {
      std::cerr << loaded.error().message << "\n";
      return 1;
    }
    chat = *std::move(loaded);
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const Json request = Json::parse(line);
    std::cout << (chat ? render_chat(*chat, request) : render_template(request)).dump() << "\n";
  }
  return 0;
}
