// The database file: who may read it, what is in it, and what is said when something is wrong.
#include "access/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "access/audit.h"
#include "access/refusal.h"
#include "access/schema.h"
#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

class DatabaseTest : public testing::Test {
 protected:
  std::string error_of_open() const {
    const auto database = Database::open(path);
    return database ? "" : database.error().message;
  }

  const test::TemporaryDirectory folder;
  const std::string path = folder.path() + "/access.db";
};

Status append_something(Database& database) {
  return database.write([](SQLite::Database& sql) -> Status {
    append_audit(sql, {0, from_ms(1), "somebody", "does", "something", ""});
    return {};
  });
}

TEST_F(DatabaseTest, ItsFilesAreForTheirOwnerAlone) {
  umask(0);
  const auto database = value_of(Database::open(path));
  ASSERT_TRUE(append_something(*database));
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat status = {};
    ASSERT_EQ(stat((path + suffix).c_str(), &status), 0) << suffix;
    EXPECT_EQ(status.st_mode & 0777, 0600U) << suffix;
  }
}

TEST_F(DatabaseTest, OneThatOthersMayReadIsRefused) {
  value_of(Database::open(path));
  chmod(path.c_str(), 0640);
  EXPECT_NE(error_of_open().find("others may read it (mode 640)"), std::string::npos)
      << error_of_open();
}

TEST_F(DatabaseTest, SoAreLeftOverFilesOfItThatOthersMayRead) {
  value_of(Database::open(path));
  std::filesystem::create_symlink(path, folder.path() + "/link");
  for (const char* suffix : {"-wal", "-shm"}) {
    std::ofstream(path + suffix).close();
    chmod((path + suffix).c_str(), 0644);
    EXPECT_EQ(error_of_open(),
              path + suffix + ": others may read it (mode 644); run chmod 600 on it");
    EXPECT_FALSE(Database::open(folder.path() + "/link").has_value());
    std::filesystem::remove(path + suffix);
  }
}

TEST_F(DatabaseTest, OneOfTheFirstSchemaGetsWhatCameLater) {
  const auto has_index = [](Database& database) {
    return value_of(database.read([](SQLite::Database& sql) -> Result<bool> {
      return sql.execAndGet("SELECT count(*) FROM sqlite_schema WHERE name = 'ledger_of_account'")
                 .getInt() == 1;
    }));
  };
  {
    const auto database = value_of(Database::open(path));
    EXPECT_TRUE(has_index(*database));
    ASSERT_TRUE(database->write([](SQLite::Database& sql) -> Status {
      sql.exec(
          "DROP INDEX ledger_of_account; DROP TRIGGER ledger_is_not_replaced; "
          "DROP TRIGGER ledger_knows; DROP TRIGGER audit_is_not_replaced; "
          "PRAGMA user_version = 1");
      return {};
    }));
  }
  EXPECT_TRUE(has_index(*value_of(Database::open(path))));
}

TEST_F(DatabaseTest, IsInWalModeAndWaitsForTheDisk) {
  const auto database = value_of(Database::open(path));
  const auto pragma = [&](const std::string& name) {
    return value_of(database->read([&](SQLite::Database& sql) -> Result<std::string> {
      return sql.execAndGet("PRAGMA " + name).getString();
    }));
  };
  EXPECT_EQ(pragma("journal_mode"), "wal");
  EXPECT_EQ(value_of(database->write([](SQLite::Database& sql) -> Result<int> {
              return sql.execAndGet("PRAGMA synchronous").getInt();
            })),
            2);
}

TEST_F(DatabaseTest, KeepsWhatWasWritten) {
  ASSERT_TRUE(append_something(*value_of(Database::open(path))));
  const auto database = value_of(Database::open(path));
  EXPECT_EQ(value_of(read_audit(*database, 10)).size(), 1U);
  EXPECT_EQ(value_of(read_audit(*database, 10, 1)).size(), 0U);
  EXPECT_EQ(value_of(read_audit(*database, 10, 2)).size(), 1U);
}

TEST_F(DatabaseTest, KeepsNothingOfWorkThatFails) {
  const auto database = value_of(Database::open(path));
  const Status failed = database->write([](SQLite::Database& sql) -> Status {
    append_audit(sql, {0, from_ms(1), "a", "b", "c", ""});
    return make_error(ErrorCode::kInvalidArgument, "no");
  });
  EXPECT_EQ(failed.error().message, "no");
  const Status thrown = database->write([](SQLite::Database& sql) -> Status {
    append_audit(sql, {0, from_ms(1), "a", "b", "c", ""});
    sql.exec("nonsense");
    return {};
  });
  EXPECT_EQ(thrown.error().code, ErrorCode::kInternal);
  EXPECT_TRUE(value_of(read_audit(*database, 10)).empty());
}

TEST_F(DatabaseTest, TheLedgerAndTheAuditLogAreAppendOnly) {
  const auto database = value_of(Database::open(path));
  ASSERT_TRUE(append_something(*database));
  for (const char* text : {"UPDATE audit SET actor = 'x'", "DELETE FROM audit",
                           "INSERT OR REPLACE INTO audit VALUES (1, 2, 'x', 'x', 'x', 'x')"}) {
    const Status changed = database->write([&](SQLite::Database& sql) -> Status {
      execute(sql, text);
      return {};
    });
    ASSERT_FALSE(changed);
    EXPECT_NE(changed.error().message.find("append-only"), std::string::npos);
  }
  ASSERT_TRUE(append_something(*database));
  EXPECT_EQ(value_of(read_audit(*database, 10)).size(), 2U);
}

TEST_F(DatabaseTest, OneOfANewerProgramIsRefused) {
  value_of(Database::open(path));
  SQLite::Database(path, SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  EXPECT_NE(error_of_open().find("made by a newer program (schema 99"), std::string::npos);
  EXPECT_EQ(Database::open(path).error().code, ErrorCode::kUnsupported);
}

TEST_F(DatabaseTest, OneOfAnotherProgramIsRefused) {
  std::ofstream file(path);
  file.close();
  chmod(path.c_str(), 0600);
  SQLite::Database(path, SQLite::OPEN_READWRITE).exec("CREATE TABLE cakes (id INTEGER)");
  EXPECT_NE(error_of_open().find("a database of another program"), std::string::npos);
}

TEST_F(DatabaseTest, SaysThatAFileIsDamaged) {
  std::ofstream(path) << std::string(8192, 'x');
  chmod(path.c_str(), 0600);
  EXPECT_NE(error_of_open().find("damaged, or no access database"), std::string::npos);
  EXPECT_EQ(Database::open(path).error().code, ErrorCode::kInvalidData);
}

TEST_F(DatabaseTest, SaysThatPagesAreDamaged) {
  ASSERT_TRUE(append_something(*value_of(Database::open(path))));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto size = std::filesystem::file_size(path);
  for (uint64_t page = 4096; page < size; page += 4096) {
    file.seekp(static_cast<std::streamoff>(page));
    file << std::string(64, '\xff');
  }
  file.close();
  EXPECT_NE(error_of_open().find("malformed"), std::string::npos) << error_of_open();
  EXPECT_EQ(Database::open(path).error().code, ErrorCode::kInvalidData);
}

TEST_F(DatabaseTest, SaysThatTheDiskIsFull) {
  const auto database = value_of(Database::open(path));
  value_of(database->write([](SQLite::Database& sql) -> Result<int> {
    return sql.execAndGet("PRAGMA max_page_count = 1").getInt();  // no more than there are
  }));
  Status status;
  for (int i = 0; i < 10'000 && status; ++i) status = append_something(*database);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("the disk is full"), std::string::npos)
      << status.error().message;
  EXPECT_TRUE(read_audit(*database, 1).has_value());
  const Refusal refusal(status.error());  // what a client hears
  EXPECT_EQ(refusal.message, "The service cannot read or write its database right now; try again.");
}

TEST_F(DatabaseTest, ReadsWhileAnotherProcessWrites) {
  const auto database = value_of(Database::open(path));
  SQLite::Database other(path, SQLite::OPEN_READWRITE);
  SQLite::Transaction transaction(other, SQLite::TransactionBehavior::IMMEDIATE);
  EXPECT_TRUE(read_audit(*database, 1).has_value());
  const Status status = append_something(*database);  // after 5 s
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("another process holds it"), std::string::npos);
}

TEST_F(DatabaseTest, SaysThatThereIsNoFolder) {
  const auto database = Database::open(folder.path() + "/nowhere/access.db");
  ASSERT_FALSE(database);
  EXPECT_NE(database.error().message.find("cannot create the access database"), std::string::npos);
  EXPECT_FALSE(Database::open(folder.path()).has_value());
}

}  // namespace
}  // namespace ultraspeed::access
