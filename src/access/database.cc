#include "access/database.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <filesystem>

#include "access/private_file.h"
#include "access/schema.h"

namespace ultraspeed::access {
namespace {

constexpr int kBusyTimeoutMs = 5000;
constexpr int32_t kApplicationId = 0x55537064;  // "USpd": says that the file is ours

Status migrate(SQLite::Database& database, const std::string& path) {
  const int version = database.execAndGet("PRAGMA user_version").getInt();
  const int application = database.execAndGet("PRAGMA application_id").getInt();
  const bool is_empty = database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0;
  if (!is_empty && application != kApplicationId) {
    return make_error(ErrorCode::kInvalidData, "{}: a database of another program", path);
  }
  const auto migrations = schema_migrations();
  const int newest = static_cast<int>(migrations.size());
  if (version > newest) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: made by a newer program (schema {}, this one knows {}); update", path,
                      version, newest);
  }
  if (version == newest) return {};
  // Somebody else may be doing the same: only one gets to begin, and the other looks again.
  SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
  for (int i = database.execAndGet("PRAGMA user_version").getInt(); i < newest; ++i) {
    database.exec(migrations[static_cast<size_t>(i)]);
  }
  database.exec(
      fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId, newest));
  transaction.commit();
  return {};
}

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
  constexpr const char* kWhat = "access database";
  US_TRY(create_private(path, kWhat));
  std::error_code error;
  const std::string real_path = std::filesystem::canonical(path, error).string();
  if (error) return make_error(ErrorCode::kIo, "{}: {}", path, error.message());
  // Left over, or made by another program: SQLite takes them as they are.
  for (const char* suffix : {"-wal", "-shm"}) US_TRY(check_private(real_path + suffix, kWhat));
  std::unique_ptr<Database> database(new Database(real_path));
  US_TRY(database->connect());
  return database;
}

Status Database::connect() {
  try {
    writer_.sql = std::make_unique<SQLite::Database>(path_, SQLite::OPEN_READWRITE, kBusyTimeoutMs);
    // WAL is the file's, the others are the connection's.
    writer_.sql->exec(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    US_TRY(migrate(*writer_.sql, path_));
    for (Connection* connection : {&reader_, &reporter_}) {
      connection->sql =
          std::make_unique<SQLite::Database>(path_, SQLite::OPEN_READWRITE, kBusyTimeoutMs);
      connection->sql->exec("PRAGMA query_only = ON");
    }
    return {};
  } catch (const std::exception& exception) {
    return tl::unexpected(error_of(exception));
  }
}

Error Database::error_of(const std::exception& exception) const {
  const auto* sqlite = dynamic_cast<const SQLite::Exception*>(&exception);
  const int code = sqlite == nullptr ? SQLITE_ERROR : sqlite->getErrorCode() & 0xff;
  const char* what = exception.what();
  switch (code) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return {ErrorCode::kInvalidData,
              fmt::format("{}: damaged, or no access database ({}); restore a copy", path_, what)};
    case SQLITE_FULL:
      return {ErrorCode::kIo, fmt::format("{}: the disk is full ({})", path_, what)};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {ErrorCode::kIo, fmt::format("{}: another process holds it for over {} s ({})", path_,
                                          kBusyTimeoutMs / 1000, what)};
    case SQLITE_CONSTRAINT:
      if (sqlite->getExtendedErrorCode() == SQLITE_CONSTRAINT_FOREIGNKEY) {
        return {ErrorCode::kNotFound,
                fmt::format("{}: what a row refers to is not in it ({})", path_, what)};
      }
      return {ErrorCode::kInternal, fmt::format("{}: {}", path_, what)};
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_IOERR:
      return {ErrorCode::kIo, fmt::format("{}: cannot be read and written: {}", path_, what)};
    default:
      return {ErrorCode::kInternal, fmt::format("{}: {}", path_, what)};
  }
}

}  // namespace ultraspeed::access
