#include "access/schema.h"

#include <array>

namespace ultraspeed::access {
namespace {

constexpr const char* kFirstSchema = R"sql(
CREATE TABLE accounts (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  is_administrator INTEGER NOT NULL,
  password_hash TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  token_digest TEXT PRIMARY KEY,
  account_id INTEGER NOT NULL REFERENCES accounts(id),
  created_ms INTEGER NOT NULL,
  used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_account ON sessions(account_id);

CREATE TABLE applications (
  id INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL UNIQUE REFERENCES accounts(id),
  statement TEXT NOT NULL,
  submitted_ms INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'declined')),
  decided_ms INTEGER,
  decided_by TEXT,
  reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX applications_in_state ON applications(state);

CREATE TABLE keys (
  id INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL REFERENCES accounts(id),
  public_part TEXT NOT NULL UNIQUE,
  secret_digest TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('pay-as-you-go', 'token-plan')),
  scopes INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  revoked_ms INTEGER,
  requests_per_minute INTEGER NOT NULL,
  tokens_per_minute INTEGER NOT NULL,
  max_concurrent INTEGER NOT NULL,
  budget_units INTEGER,
  allowance_tokens INTEGER,
  spent_units INTEGER NOT NULL DEFAULT 0,
  used_tokens INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX keys_of_account ON keys(account_id);

CREATE TABLE ledger (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  request_id TEXT NOT NULL UNIQUE,
  begun_ms INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL,
  account_id INTEGER NOT NULL REFERENCES accounts(id),
  key_id INTEGER REFERENCES keys(id),
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  multiplier_thousandths INTEGER NOT NULL,
  cached_input_tokens INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  price_units INTEGER NOT NULL,
  num_steps INTEGER NOT NULL,
  finish TEXT NOT NULL
) STRICT;
CREATE INDEX ledger_by_time ON ledger(begun_ms);
CREATE TRIGGER ledger_stays BEFORE UPDATE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_keeps BEFORE DELETE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE chat_entries (
  id INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL REFERENCES accounts(id),
  day INTEGER NOT NULL,
  joined_ms INTEGER NOT NULL,
  started_ms INTEGER,
  ended_ms INTEGER,
  reason TEXT
) STRICT;
CREATE INDEX chat_entries_of_day ON chat_entries(day, account_id);
CREATE INDEX chat_entries_open ON chat_entries(joined_ms) WHERE ended_ms IS NULL;
)sql";

constexpr const char* kLedgerOfAccount = "CREATE INDEX ledger_of_account ON ledger(account_id);";

// INSERT OR REPLACE deletes without the triggers of DELETE. A request that is known is left as it
// is, as Ledger::append() asks anyway. (An id that is yet to be given is none of a row here.)
constexpr const char* kNoReplacement = R"sql(
CREATE TRIGGER ledger_is_not_replaced BEFORE INSERT ON ledger
  WHEN EXISTS (SELECT 1 FROM ledger WHERE id = NEW.id)
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_knows BEFORE INSERT ON ledger
  WHEN EXISTS (SELECT 1 FROM ledger WHERE request_id = NEW.request_id)
  BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
  WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
)sql";

constexpr std::array kMigrations = {kFirstSchema, kLedgerOfAccount, kNoReplacement};

}  // namespace

std::span<const char* const> schema_migrations() {
  return kMigrations;
}

}  // namespace ultraspeed::access
