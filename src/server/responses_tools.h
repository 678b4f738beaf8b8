// The tools of a Responses request as functions of a chat, and back. A custom tool, whose input is
// free text, is shown to the model as a function with one string; tools of a namespace bear its
// name before theirs. Tools that OpenAI's servers would run (web_search, image_generation, ...) are
// left out: coding agents offer them to every server.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace ultraspeed::server {

// As the client knows it.
struct ResponsesTool {
  std::string name;
  std::string name_space;  // or empty
  bool is_custom = false;
};

struct ResponsesTools {
  Json functions = Json::array();  // as chat requests have them
  std::map<std::string, ResponsesTool, std::less<>> by_function;

  // REQUIRES: the model called a function of these.
  const ResponsesTool& of(const std::string& function) const { return by_function.at(function); }
};

inline constexpr std::string_view kCustomInput = "input";  // the one parameter of a custom tool

// What a tool's function is called.
std::string full_tool_name(const std::string& name_space, const std::string& name);

ApiResult<ResponsesTools> read_responses_tools(const Fields& fields);
// tool_choice in the form of chat requests; null: not given.
ApiResult<Json> read_responses_tool_choice(const Fields& fields);

}  // namespace ultraspeed::server
