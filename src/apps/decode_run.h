// The JSON of `bench decode` read back: the figures that follow from the repeats' rates.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/text_table.h"
#include "base/result.h"

namespace ultraspeed::apps {

// `json` with every figure that follows from its others computed anew: the median rates, those of a
// stream, the factors over the first drafter, the accepted lengths. Errors: kInvalidData.
Result<nlohmann::ordered_json> compute_decode_figures(const nlohmann::ordered_json& json,
                                                      const std::string& label);

// REQUIRES: compute_decode_figures() took it.
TextTable decode_table(const nlohmann::ordered_json& json);

}  // namespace ultraspeed::apps
