// Passwords from a person or a file; never from the command line, where others see them.
#pragma once

#include <string>

#include "base/result.h"

namespace ultraspeed::apps {

// The first line of `file` ("-": standard input). Empty: asked for twice on the terminal, which
// does not show it. Errors: those of read_file(); kInvalidArgument (no terminal, two that differ).
Result<std::string> read_password(const std::string& file);

}  // namespace ultraspeed::apps
