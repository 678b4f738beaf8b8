// The form of a request that gpt-oss's chat template is written for. It knows OpenAI's harmony
// format: turns in channels, analysis, commentary and final, with one call a message.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace ultraspeed::text {

// Whether a template's source writes that format.
bool writes_harmony(std::string_view template_source);

// Of messages as prepare_messages() leaves them:
// - system messages are one, at the begin: the template drops those of other places;
// - `thinking` is what `reasoning_content` was;
// - each tool call has a message of its own, and its result follows it;
// - beside a call `content` is the end of `thinking`: the template takes one of them;
// - `content` that is null is empty.
nlohmann::ordered_json harmony_messages(nlohmann::ordered_json messages);

// Every function has a description, which may be empty.
nlohmann::ordered_json harmony_tools(nlohmann::ordered_json tools);

// `reasoning_effort` is one of low, medium and high, which the model knows: the nearest one to what
// was asked for, low also where thinking was to be off, which it never is.
// REQUIRES: *variables is an object or null.
void set_harmony_effort(bool is_thinking_off, nlohmann::ordered_json* variables);

}  // namespace ultraspeed::text
