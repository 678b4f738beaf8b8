// The archives of tests/data, unpacked into the build directory on first use.
#pragma once

#include <string>

#include "base/result.h"

namespace ultraspeed::test {

// The folder of tests/data/NAME.tar.xz. Safe to call from several test processes at once. An
// archive that is missing or damaged is an error, which the caller reports as a failure.
Result<std::string> reference_folder(const std::string& name);

}  // namespace ultraspeed::test
