// Words for a shell's command line.
#pragma once

#include <string>
#include <string_view>

namespace ultraspeed::apps {

// In single quotes, which a shell leaves alone.
inline std::string shell_quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace ultraspeed::apps
