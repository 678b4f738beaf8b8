// A plain JSON Schema validator for tests: it judges values, and knows nothing of grammars.
#pragma once

#include <nlohmann/json.hpp>

namespace ultraspeed::grammar {

// Whether the value satisfies the schema, which is part of `root`. Keywords: those of
// docs/grammars.md.
bool is_valid(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& value,
              const nlohmann::ordered_json& root);

}  // namespace ultraspeed::grammar
