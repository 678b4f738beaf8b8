// Whether the figures of a JSON value are those that follow from its raw numbers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace ultraspeed::apps {

struct FigureCheck {
  size_t num_values = 0;   // values that agree
  std::string difference;  // the first that does not, as a sentence that names it; "": none
};

// Compares what a file says with what was computed anew, key by key: every value must be there and
// no other. Numbers agree to 10^-9 of their size.
FigureCheck check_figures(const nlohmann::ordered_json& given,
                          const nlohmann::ordered_json& computed);

}  // namespace ultraspeed::apps
