// Fuzzes the parser of chat answers: any text, in chunks or whole, gives the same events; complete
// calls have JSON for arguments, and a call's text is what was written.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "server/chat_parser.h"
#include "text/utf8.h"

using ultraspeed::server::ChatEvent;
using ultraspeed::server::ChatParser;
using ultraspeed::server::Json;
using ultraspeed::server::ToolSchemas;
using ultraspeed::server::ToolSyntax;

namespace {

// The events as one text, in which chunks do not show.
std::string describe(const std::string& text, size_t chunk, const ChatParser::Options& options,
                     bool was_cut_off) {
  ChatParser parser(options);
  std::vector<ChatEvent> events;
  const auto add = [&events](const std::vector<ChatEvent>& more) {
    events.insert(events.end(), more.begin(), more.end());
  };
  for (size_t i = 0; i < text.size(); i += chunk) {
    add(parser.push(std::string_view(text).substr(i, chunk)));
  }
  add(parser.finish(was_cut_off));
  std::string description;
  std::string arguments;
  auto last = ChatEvent::Kind::kCallEnd;
  for (const ChatEvent& event : events) {
    if (event.kind != last) description += "\x01" + std::to_string(static_cast<int>(event.kind));
    last = event.kind;
    description += event.text;
    if (event.kind == ChatEvent::Kind::kCallBegin) arguments.clear();
    if (event.kind == ChatEvent::Kind::kCallArguments) arguments += event.text;
    if (event.kind != ChatEvent::Kind::kCallEnd) continue;
    description += event.is_complete ? "!" : "?";
    US_CHECK(text.find(event.text) != std::string::npos, "a call that was not written");
    if (event.is_complete && ultraspeed::text::is_valid_utf8(text)) {
      US_CHECK(Json::accept(arguments), "arguments: {}", arguments);
    }
  }
  return description;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const ToolSchemas tools(Json::parse(R"([{"function":{"name":"f","parameters":{"properties":
      {"s":{"type":"string"},"i":{"type":"integer"},"o":{"type":["object","null"]}}}}},
      {"function":{"name":"g"}}])"));
  ChatParser::Options options;
  options.syntax = static_cast<ToolSyntax>((data[0] & 15) % 6);
  options.starts_in_reasoning = (data[0] & 16) != 0;
  options.starts_in_content = options.starts_in_reasoning;
  if ((data[0] & 32) != 0) options.max_calls = 1;
  options.tools = tools;
  const bool was_cut_off = (data[0] & 64) != 0;
  const std::string text(reinterpret_cast<const char*>(data + 2), size - 2);
  const std::string whole = describe(text, text.size() + 1, options, was_cut_off);
  US_CHECK(describe(text, 1, options, was_cut_off) == whole, "single characters differ");
  US_CHECK(describe(text, 1 + data[1], options, was_cut_off) == whole, "chunks differ");
  return 0;
}
