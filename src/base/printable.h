// Names from outside in messages.
#pragma once

#include <string>
#include <string_view>

namespace ultraspeed {

bool has_control_characters(std::string_view text);

// A name from outside for a message: control bytes become '?', and the length is bounded.
std::string printable(std::string_view name);

}  // namespace ultraspeed
