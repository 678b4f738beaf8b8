// The tables of the access database. Times are milliseconds of UTC, money is in units (money.h),
// secrets are digests. What is in a released schema never changes: a change is one more migration.
#pragma once

#include <span>

namespace ultraspeed::access {

// SQL that brings version i of the schema to version i + 1.
std::span<const char* const> schema_migrations();

}  // namespace ultraspeed::access
