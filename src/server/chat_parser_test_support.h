// What tests of the parser of answers share.
#pragma once

#include <fmt/format.h>

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "server/chat_parser.h"

namespace ultraspeed::server {

// For messages of failed tests.
inline std::ostream& operator<<(std::ostream& out, const ChatEvent& event) {
  return out << fmt::format("{{{} {} '{}' '{}' {}}}", static_cast<int>(event.kind), event.call,
                            event.id, event.text, event.is_complete);
}

inline bool operator==(const ChatEvent& a, const ChatEvent& b) {
  return a.kind == b.kind && a.text == b.text && a.call == b.call && a.id == b.id &&
         a.is_complete == b.is_complete;
}

using EventKind = ChatEvent::Kind;
using Events = std::vector<ChatEvent>;

inline ToolSchemas test_tools() {
  return ToolSchemas(Json::parse(R"([
      {"type":"function","function":{"name":"get","parameters":{"type":"object","properties":{
        "city":{"type":"string"},"days":{"type":"integer"},"on":{"type":"boolean"},
        "where":{"type":["object","null"]},"any":{}}}}},
      {"type":"function","function":{"name":"now"}}])"));
}

inline ChatParser::Options options_of(ToolSyntax syntax) {
  ChatParser::Options options;
  options.syntax = syntax;
  options.tools = test_tools();
  options.id_prefix = "c";
  return options;
}

// Adjacent events of one kind and call are one.
inline Events joined(const Events& events) {
  Events result;
  for (const ChatEvent& event : events) {
    const bool is_text = event.kind == EventKind::kReasoning || event.kind == EventKind::kContent ||
                         event.kind == EventKind::kCallArguments;
    if (is_text && !result.empty() && result.back().kind == event.kind) {
      result.back().text += event.text;
    } else {
      result.push_back(event);
    }
  }
  return result;
}

// Pushes the text in chunks that end at the given places.
inline Events parse_chunks(const std::string& text, const std::vector<size_t>& ends,
                           const ChatParser::Options& options, bool was_cut_off = false) {
  ChatParser parser(options);
  Events events;
  const auto add = [&events](const Events& more) {
    events.insert(events.end(), more.begin(), more.end());
  };
  size_t begin = 0;
  for (const size_t end : ends) {
    add(parser.push(std::string_view(text).substr(begin, end - begin)));
    begin = end;
  }
  add(parser.push(std::string_view(text).substr(begin)));
  add(parser.finish(was_cut_off));
  return joined(events);
}

// "r:reasoning", "c:content", "get:{arguments}", "get?{arguments" for an incomplete call.
inline std::vector<std::string> summary(const Events& events) {
  std::vector<std::string> lines;
  std::string call;
  std::string arguments;
  for (const ChatEvent& event : events) {
    if (event.kind == EventKind::kReasoning) lines.push_back("r:" + event.text);
    if (event.kind == EventKind::kContent) lines.push_back("c:" + event.text);
    if (event.kind == EventKind::kCallBegin) call = event.text;
    if (event.kind == EventKind::kCallArguments) arguments = event.text;
    if (event.kind != EventKind::kCallEnd) continue;
    lines.push_back(call + (event.is_complete ? ":" : "?") + arguments);
  }
  return lines;
}

using Lines = std::vector<std::string>;

inline Lines parse(const std::string& text, ToolSyntax syntax, bool was_cut_off = false) {
  return summary(parse_chunks(text, {}, options_of(syntax), was_cut_off));
}

}  // namespace ultraspeed::server
