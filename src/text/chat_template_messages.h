// Checks the messages of a chat request and brings them into the one form that chat templates are
// written for, so that every client's way of saying the same renders the same.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/result.h"

namespace ultraspeed::text {

// The messages, in which
// - `content` given as a list of text parts is the text of its parts, one after the other;
// - `reasoning_content` is set from `reasoning`, where only that is a string;
// - `tool_calls` that are null or empty are gone;
// - a tool call's `arguments` given as a string are parsed, if they are a JSON object; an empty
//   string and null become the empty object; any other string stays as it is.
// Everything else stays. Messages must be a non-empty array of objects with a string `role`;
// `content` a string or list of text parts, and for assistants also null or absent.
// Errors (kInvalidArgument) name the place, such as messages[2].content[0]; parts that are not text
// are kUnsupported.
Result<nlohmann::ordered_json> prepare_messages(nlohmann::ordered_json messages);

// The place of the first tool call whose arguments prepare_messages left a string.
std::optional<std::string> find_unparsed_arguments(const nlohmann::ordered_json& prepared_messages);

}  // namespace ultraspeed::text
