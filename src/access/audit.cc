#include "access/audit.h"

#include "access/database.h"

namespace ultraspeed::access {

void append_audit(SQLite::Database& database, const AuditEntry& entry) {
  execute(database, "INSERT INTO audit (at_ms, actor, action, subject, detail) VALUES (?,?,?,?,?)",
          to_ms(entry.at), entry.actor, entry.action, entry.subject, entry.detail);
}

Result<std::vector<AuditEntry>> read_audit(Database& database, uint32_t max_entries,
                                           std::optional<int64_t> before_id) {
  return database.read([&](SQLite::Database& sql) -> Result<std::vector<AuditEntry>> {
    std::vector<AuditEntry> entries;
    SQLite::Statement query =
        statement(sql,
                  "SELECT id, at_ms, actor, action, subject, detail FROM audit WHERE id < ? "
                  "ORDER BY id DESC LIMIT ?",
                  before_id.value_or(INT64_MAX), max_entries);
    while (query.executeStep()) {
      entries.push_back({query.getColumn(0).getInt64(), from_ms(query.getColumn(1).getInt64()),
                         query.getColumn(2), query.getColumn(3), query.getColumn(4),
                         query.getColumn(5)});
    }
    return entries;
  });
}

}  // namespace ultraspeed::access
