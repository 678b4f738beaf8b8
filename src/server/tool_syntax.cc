#include "server/tool_syntax.h"

#include <array>

#include "base/check.h"
#include "server/tag_matcher.h"

namespace ultraspeed::server {
namespace {

// A conversation with one past call, in whose rendering the syntax shows.
text::ChatRequest probe_request() {
  text::ChatRequest request;
  const Json parameters = {{"type", "object"},
                           {"properties", {{"probe_key", {{"type", "string"}}}}}};
  const Json function = {
      {"name", "probe_tool"}, {"description", "Probes."}, {"parameters", parameters}};
  request.tools = Json::array({{{"type", "function"}, {"function", function}}});
  const Json call = {
      {"id", "call_0"},
      {"type", "function"},
      {"function", {{"name", "probe_tool"}, {"arguments", {{"probe_key", "probe_value"}}}}}};
  request.messages =
      Json::array({{{"role", "user"}, {"content", "Hi"}},
                   {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}},
                   {{"role", "tool"}, {"tool_call_id", "call_0"}, {"content", "1"}}});
  return request;
}

constexpr std::array<std::string_view, 4> kTagMarkers = {"<think>", "</think>", kToolCallOpen,
                                                         kToolCallClose};
constexpr std::array<std::string_view, 5> kBareMarkers = {"<think>", "</think>", kToolCallOpen,
                                                          kToolCallClose, kPythonTag};
constexpr std::array<std::string_view, 7> kHarmonyMarkers = {
    kHarmonyStart, kHarmonyChannel, kHarmonyMessage, kHarmonyConstrain,
    kHarmonyEnd,   kHarmonyCall,    kHarmonyReturn};

// A turn that is the probe's call alone.
bool is_bare_call(std::string_view text, size_t value) {
  constexpr std::string_view kHeaderEnd = "<|end_header_id|>";
  const size_t begin = text.rfind(R"({"name": "probe_tool", "parameters": {)", value);
  if (begin == std::string_view::npos) return false;
  std::string_view before = text.substr(0, begin);
  while (!before.empty() && is_space(before.back())) before.remove_suffix(1);
  return before.ends_with(kHeaderEnd) || before.ends_with(kPythonTag);
}

}  // namespace

std::span<const std::string_view> answer_markers(ToolSyntax syntax) {
  if (syntax == ToolSyntax::kHarmony) return kHarmonyMarkers;
  if (syntax == ToolSyntax::kBareJson) return kBareMarkers;
  return kTagMarkers;
}

ToolSyntax detect_tool_syntax(const text::ChatTemplate* chat_template) {
  if (chat_template == nullptr) return ToolSyntax::kNone;
  if (chat_template->is_harmony()) return ToolSyntax::kHarmony;
  const auto rendered = chat_template->render(probe_request());
  if (!rendered) return ToolSyntax::kNone;
  const std::string_view text = rendered->text;
  const size_t value = text.find("probe_value");
  if (value == std::string_view::npos) return ToolSyntax::kNone;
  if (is_bare_call(text, value)) return ToolSyntax::kBareJson;
  const size_t begin = text.rfind(kToolCallOpen, value);
  const size_t end = text.find(kToolCallClose, value);
  if (begin == std::string_view::npos || end == std::string_view::npos) return ToolSyntax::kNone;
  const std::string_view call = text.substr(begin, end - begin);
  const auto has = [call](std::string_view part) {
    return call.find(part) != std::string_view::npos;
  };
  if (has("<function=probe_tool>")) {
    if (has("<parameter=probe_key>\nprobe_value\n</parameter>")) return ToolSyntax::kXmlLines;
    if (has("<parameter=probe_key>probe_value</parameter>")) return ToolSyntax::kXml;
    return ToolSyntax::kNone;
  }
  return has("\"name\"") && has("\"probe_tool\"") ? ToolSyntax::kJson : ToolSyntax::kNone;
}

std::unique_ptr<ToolCallParser> make_tool_call_parser(ToolSyntax syntax, const ToolSchemas& tools) {
  US_CHECK(syntax != ToolSyntax::kNone && syntax != ToolSyntax::kHarmony, "a call of no syntax");
  if (syntax == ToolSyntax::kJson || syntax == ToolSyntax::kBareJson) {
    return make_json_tool_call_parser(tools);
  }
  return make_xml_tool_call_parser(syntax == ToolSyntax::kXmlLines, tools);
}

}  // namespace ultraspeed::server
