// The access database: one SQLite file in WAL mode, for its owner alone (0600). Three connections,
// so that looking up a key waits neither for a commit, which waits for the disk, nor for a report.
// Another process (the command line beside a running server) may read and write at the same time.
//
// A commit is on the disk when write() returns (synchronous = FULL): it survives a loss of power.
// Internal to the module: it includes SQLiteCpp, whose exceptions end here.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>

#include "base/result.h"

namespace ultraspeed::access {

class Database {
 public:
  // Creates the file with the present schema, or brings an older one to it. Errors: kInvalidData
  // (no database, or damaged), kUnsupported (made by a newer program), kIo (no such folder, a full
  // disk, others may read it, held by another process).
  static Result<std::unique_ptr<Database>> open(const std::string& path);

  // All call work(SQLite::Database&), which returns a Result or Answer and may throw what SQLiteCpp
  // throws. Work does not call any of them again. Thread-safe. Errors: those of open(), kNotFound
  // (a row refers to what is not there), and work's.
  //
  // Keeps what work wrote if it returns a value, and nothing otherwise.
  template <class Work>
  auto write(Work&& work) -> std::invoke_result_t<Work, SQLite::Database&> {
    return run(writer_, SQLite::TransactionBehavior::IMMEDIATE, std::forward<Work>(work));
  }
  // Sees one state of the database, however many statements work has.
  template <class Work>
  auto read(Work&& work) -> std::invoke_result_t<Work, SQLite::Database&> {
    return run(reader_, SQLite::TransactionBehavior::DEFERRED, std::forward<Work>(work));
  }
  // The same, for work that reads much: nobody who is to be answered at once waits for it.
  template <class Work>
  auto report(Work&& work) -> std::invoke_result_t<Work, SQLite::Database&> {
    return run(reporter_, SQLite::TransactionBehavior::DEFERRED, std::forward<Work>(work));
  }

  // Without links, so that it is one however the database was named.
  const std::string& path() const { return path_; }

 private:
  struct Connection {
    std::mutex mutex;
    std::unique_ptr<SQLite::Database> sql;
  };

  explicit Database(std::string path) : path_(std::move(path)) {}
  Status connect();
  Error error_of(const std::exception& exception) const;

  template <class Work>
  auto run(Connection& connection, SQLite::TransactionBehavior behavior, Work&& work)
      -> std::invoke_result_t<Work, SQLite::Database&> {
    const std::lock_guard lock(connection.mutex);
    try {
      SQLite::Transaction transaction(*connection.sql, behavior);
      auto result = work(*connection.sql);
      if (result) transaction.commit();
      return result;
    } catch (const std::exception& exception) {
      return tl::unexpected<Error>(error_of(exception));
    }
  }

  const std::string path_;
  Connection writer_, reader_, reporter_;
};

// A statement with its values bound, in order; an empty optional is NULL.
template <class... Args>
SQLite::Statement statement(SQLite::Database& database, const char* text, const Args&... args) {
  SQLite::Statement result(database, text);
  int index = 0;
  [[maybe_unused]] const auto bind = [&](const auto& value) {
    ++index;
    if constexpr (requires { value.has_value(); }) {
      if (value) result.bind(index, *value);
    } else {
      result.bind(index, value);
    }
  };
  (bind(args), ...);
  return result;
}

template <class... Args>
int execute(SQLite::Database& database, const char* text, const Args&... args) {
  return statement(database, text, args...).exec();
}

inline std::optional<int64_t> optional_int(const SQLite::Column& column) {
  return column.isNull() ? std::nullopt : std::optional<int64_t>(column.getInt64());
}

}  // namespace ultraspeed::access
