// The ledger: one row a request, append-only (the database refuses changes), written once for each
// request id however often it is asked to.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "access/calendar.h"
#include "access/delivery_journal.h"
#include "access/money.h"
#include "base/result.h"

namespace ultraspeed::access {

class Database;

struct LedgerRow {
  int64_t id = 0;  // ascending in the order of writing
  std::string request_id;
  UtcTime begun;
  int64_t duration_ms = 0;
  std::string account, key;  // names; an empty key: a chat
  std::string model, tier;
  Multiplier multiplier;
  TokenCounts tokens;
  Money price;
  uint32_t num_steps = 0;
  std::string finish;

  // Tokens a step of the engine, in thousandths; 0 without steps.
  uint64_t accepted_length_thousandths() const;
};

// Whose rows, and of when. nullopt: all.
struct LedgerFilter {
  std::optional<int64_t> account_id;
  std::optional<UtcTime> begin, end;  // [begin, end) of when requests began
};

struct DayTotal {
  int64_t day = 0;
  std::string account, key;
  std::string tier;
  uint64_t num_requests = 0;
  uint64_t cached_input_tokens = 0, input_tokens = 0, output_tokens = 0;
  Money price;
};

// What a request is billed: nothing if nothing was delivered of what a step gave.
TokenCounts billed_tokens(const JournalEntry& entry);

// A cell of a CSV file: quoted where it has to be, and with an apostrophe before what a spreadsheet
// would take for a formula.
std::string csv_cell(std::string_view text);

// Thread-safe.
class Ledger {
 public:
  explicit Ledger(Database& database) : database_(database) {}

  // All of them or none; those whose request id is there already stay as they are. Counts what keys
  // have spent in the same transaction. Returns how many were new. Errors: those of Database.
  Result<uint32_t> append(std::span<const JournalEntry> entries);

  // In the order of writing; visit returns an error to end it. Rows are read in portions.
  Status visit(const LedgerFilter& filter, const std::function<Status(const LedgerRow&)>& visit);
  // By day of `calendar`, key and tier, in this order. Errors: those of Database; a total of more
  // than Money can hold is kInternal.
  Result<std::vector<DayTotal>> totals(const LedgerFilter& filter, const Calendar& calendar);
  // With a line of column names first; lines end as RFC 4180 says. write: gets some lines at a
  // time.
  Status export_csv(const LedgerFilter& filter,
                    const std::function<Status(std::string_view)>& write);

 private:
  Database& database_;
};

}  // namespace ultraspeed::access
