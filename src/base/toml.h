// toml++ as this project uses it: errors as values, in every source with the same settings.
#pragma once

#define TOML_EXCEPTIONS 0
// Version 3.3.0 asserts of keys in headers ("[+") what it tests afterwards and reports.
#define TOML_ASSERT(condition) static_assert(true)
#include <toml++/toml.h>
