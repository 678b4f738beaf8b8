// Which program made a measurement, and how it was called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/json_object.h"
#include "base/result.h"

namespace ultraspeed::apps {

struct Provenance {
  std::string version;               // "0.1.0"
  std::string commit;                // 40 digits, "+" if sources differed from it; or "unknown"
  std::vector<std::string> command;  // the arguments of this process, as they were given
};

std::string_view version();
Provenance provenance();

// The fields version, commit and command. Errors: kInvalidData.
Result<Provenance> read_provenance(const JsonObject& json);

}  // namespace ultraspeed::apps
