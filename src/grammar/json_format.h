// The string formats of JSON Schema that a grammar can keep to, as regular expressions.
#pragma once

#include <optional>
#include <string_view>

namespace ultraspeed::grammar {

// An expression that the whole string matches; nothing for an unknown format. Known: date-time,
// date, time, duration, email, hostname, ipv4, ipv6, uuid, uri. Some valid strings of odd forms are
// left out; none is let in that is not valid.
std::optional<std::string_view> format_pattern(std::string_view format);

}  // namespace ultraspeed::grammar
