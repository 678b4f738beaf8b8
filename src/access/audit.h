// The audit log: who decided what, append-only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/clock.h"
#include "base/result.h"

namespace SQLite {  // NOLINT(readability-identifier-naming)
class Database;
}

namespace ultraspeed::access {

class Database;

struct AuditEntry {
  int64_t id = 0;
  UtcTime at;
  std::string actor;    // an account's name; "command line", "server"
  std::string action;   // "approve application"
  std::string subject;  // an account's name, a key's public part
  std::string detail;
};

// Part of a transaction; throws what SQLiteCpp throws.
void append_audit(SQLite::Database& database, const AuditEntry& entry);

// The newest first, of all or of those before an entry. Errors: those of Database::read().
Result<std::vector<AuditEntry>> read_audit(Database& database, uint32_t max_entries,
                                           std::optional<int64_t> before_id = std::nullopt);

}  // namespace ultraspeed::access
