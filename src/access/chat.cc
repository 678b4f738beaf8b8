#include "access/chat.h"

#include "access/database.h"

namespace ultraspeed::access {
namespace {

// An account has at most one place that has not ended.
void save_change(SQLite::Database& sql, const ChatChange& change, const Calendar& calendar) {
  switch (change.kind) {
    case ChatChange::Kind::kJoined:
      execute(sql, "INSERT INTO chat_entries (account_id, day, joined_ms) VALUES (?,?,?)",
              change.account_id, calendar.day_of(change.at), to_ms(change.at));
      return;
    case ChatChange::Kind::kStarted:
      execute(sql,
              "UPDATE chat_entries SET started_ms = ? WHERE account_id = ? AND ended_ms IS NULL",
              to_ms(change.at), change.account_id);
      return;
    case ChatChange::Kind::kEnded:
      execute(sql,
              "UPDATE chat_entries SET ended_ms = ?, reason = ? "
              "WHERE account_id = ? AND ended_ms IS NULL",
              to_ms(change.at), std::string(end_name(change.end)), change.account_id);
      return;
  }
}

}  // namespace

Result<std::unique_ptr<Chat>> Chat::open(Database& database, const Clock& clock,
                                         const AccessConfig& config) {
  std::unique_ptr<Chat> chat(new Chat(database, clock, config));
  US_TRY(chat->restore());
  return chat;
}

Status Chat::restore() {
  const UtcTime now = clock_.now();
  std::vector<ChatPlace> places;
  std::map<int64_t, uint32_t> entries;
  US_TRY(database_.read([&](SQLite::Database& sql) -> Status {
    SQLite::Statement open(sql,
                           "SELECT account_id, joined_ms, started_ms FROM chat_entries "
                           "WHERE ended_ms IS NULL ORDER BY joined_ms, id");
    while (open.executeStep()) {
      const auto started = optional_int(open.getColumn(2));
      places.push_back({open.getColumn(0).getInt64(), from_ms(open.getColumn(1).getInt64()),
                        started ? std::optional<UtcTime>(from_ms(*started)) : std::nullopt});
    }
    SQLite::Statement count = statement(
        sql, "SELECT account_id, count(*) FROM chat_entries WHERE day = ? GROUP BY account_id",
        calendar_.day_of(now));
    while (count.executeStep()) {
      entries[count.getColumn(0).getInt64()] = count.getColumn(1).getUInt();
    }
    return {};
  }));
  queue_.restore(places, entries, now);
  return {};
}

Answer<ChatState> Chat::join(int64_t account_id) {
  const std::lock_guard lock(mutex_);
  return queue_.join(account_id, clock_.now());
}

ChatState Chat::state(int64_t account_id) {
  const std::lock_guard lock(mutex_);
  return queue_.state(account_id, clock_.now());
}

void Chat::leave(int64_t account_id) {
  const std::lock_guard lock(mutex_);
  queue_.leave(account_id, clock_.now());
}

Answer<ChatTurn> Chat::begin_answer(int64_t account_id, uint32_t input_tokens) {
  const std::lock_guard lock(mutex_);
  return queue_.begin_answer(account_id, input_tokens, clock_.now());
}

void Chat::end_answer(int64_t account_id, const ChatTurn& turn) {
  const std::lock_guard lock(mutex_);
  queue_.end_answer(account_id, turn, clock_.now());
}

Status Chat::save() {
  const std::lock_guard one_at_a_time(save_mutex_);
  {
    const std::lock_guard lock(mutex_);
    queue_.advance(clock_.now());
    for (const ChatChange& change : queue_.take_changes()) unsaved_.push_back(change);
  }
  if (unsaved_.empty()) return {};
  US_TRY(database_.write([&](SQLite::Database& sql) -> Status {
    for (const ChatChange& change : unsaved_) save_change(sql, change, calendar_);
    return {};
  }));
  unsaved_.clear();
  return {};
}

}  // namespace ultraspeed::access
