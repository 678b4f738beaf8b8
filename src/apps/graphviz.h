// Pictures through Graphviz's dot program.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::apps {

// Draws a DOT graph into a file. Errors: kNotFound when dot is not installed, kIo when it fails.
Status render_svg(std::string_view dot, const std::string& svg_path);

}  // namespace ultraspeed::apps
