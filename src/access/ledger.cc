#include "access/ledger.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include "access/database.h"

namespace ultraspeed::access {
namespace {

constexpr uint32_t kPortion = 1000;  // rows read at a time

// What a filter says alone, so that an index fits it. ?1 account, ?2 and ?3 span.
std::string conditions(const LedgerFilter& filter) {
  std::string text = "TRUE";
  if (filter.account_id) text += " AND l.account_id = ?1";
  if (filter.begin) text += " AND l.begun_ms >= ?2";
  if (filter.end) text += " AND l.begun_ms < ?3";
  return text;
}

void bind_filter(SQLite::Statement& query, const LedgerFilter& filter) {
  if (filter.account_id) query.bind(1, *filter.account_id);
  if (filter.begin) query.bind(2, to_ms(*filter.begin));
  if (filter.end) query.bind(3, to_ms(*filter.end));
}

// Of a time in milliseconds, in SQL.
void define_day_of(SQLite::Database& sql, const Calendar& calendar) {
  constexpr auto kDayOf = [](sqlite3_context* context, int, sqlite3_value** values) {
    const auto* own = static_cast<const Calendar*>(sqlite3_user_data(context));
    sqlite3_result_int64(context, own->day_of(from_ms(sqlite3_value_int64(values[0]))));
  };
  constexpr auto kRelease = [](void* own) { delete static_cast<Calendar*>(own); };
  sql.createFunction("day_of", 1, true, new Calendar(calendar), kDayOf, nullptr, nullptr, kRelease);
}

bool append_entry(SQLite::Database& sql, const JournalEntry& entry) {
  const JournalRequest& request = entry.request;
  const TokenCounts tokens = billed_tokens(entry);
  const Money price = request.rates.cost(tokens);
  const auto finish = static_cast<Finish>(entry.progress.finish);
  const int num_new = execute(
      sql,
      "INSERT INTO ledger (request_id, begun_ms, duration_ms, account_id, key_id, model, tier, "
      "multiplier_thousandths, cached_input_tokens, input_tokens, output_tokens, price_units, "
      "num_steps, finish) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (request_id) DO NOTHING",
      request.id.text(), request.begun_ms, static_cast<int64_t>(entry.progress.duration_ms),
      request.account_id,
      request.key_id == 0 ? std::nullopt : std::optional<int64_t>(request.key_id),
      request.model_name(), std::string(tier_name(static_cast<Tier>(request.tier))),
      request.multiplier_thousandths, tokens.cached_input, tokens.input, tokens.output, price.units,
      entry.progress.num_steps,
      std::string(finish_name(finish == Finish::kUnderWay ? Finish::kKilled : finish)));
  if (num_new == 0) return false;
  const int64_t num_tokens = int64_t{tokens.cached_input} + tokens.input + tokens.output;
  execute(sql,
          "UPDATE keys SET spent_units = spent_units + ?, used_tokens = used_tokens + ? "
          "WHERE id = ?",
          price.units, num_tokens, request.key_id);
  return true;
}

LedgerRow row_of(SQLite::Statement& row) {
  LedgerRow result;
  result.id = row.getColumn(0).getInt64();
  result.request_id = row.getColumn(1).getString();
  result.begun = from_ms(row.getColumn(2).getInt64());
  result.duration_ms = row.getColumn(3).getInt64();
  result.account = row.getColumn(4).getString();
  result.key = row.getColumn(5).getString();
  result.model = row.getColumn(6).getString();
  result.tier = row.getColumn(7).getString();
  result.multiplier.thousandths = row.getColumn(8).getUInt();
  result.tokens = {row.getColumn(9).getUInt(), row.getColumn(10).getUInt(),
                   row.getColumn(11).getUInt()};
  result.price = {row.getColumn(12).getInt64()};
  result.num_steps = row.getColumn(13).getUInt();
  result.finish = row.getColumn(14).getString();
  return result;
}

Result<std::vector<LedgerRow>> read_portion(SQLite::Database& sql, const LedgerFilter& filter,
                                            int64_t after_id) {
  SQLite::Statement query(
      sql, fmt::format("SELECT l.id, l.request_id, l.begun_ms, l.duration_ms, a.name, "
                       "k.public_part, l.model, l.tier, l.multiplier_thousandths, "
                       "l.cached_input_tokens, l.input_tokens, l.output_tokens, l.price_units, "
                       "l.num_steps, l.finish FROM ledger l JOIN accounts a ON a.id = l.account_id "
                       "LEFT JOIN keys k ON k.id = l.key_id WHERE {} AND l.id > ?4 "
                       "ORDER BY l.id LIMIT ?5",
                       conditions(filter)));
  bind_filter(query, filter);
  query.bind(4, after_id);
  query.bind(5, kPortion);
  std::vector<LedgerRow> rows;
  while (query.executeStep()) rows.push_back(row_of(query));
  return rows;
}

DayTotal total_of(SQLite::Statement& row) {
  DayTotal total;
  total.day = row.getColumn(0).getInt64();
  total.account = row.getColumn(1).getString();
  total.key = row.getColumn(2).getString();
  total.tier = row.getColumn(3).getString();
  total.num_requests = static_cast<uint64_t>(row.getColumn(4).getInt64());
  total.cached_input_tokens = static_cast<uint64_t>(row.getColumn(5).getInt64());
  total.input_tokens = static_cast<uint64_t>(row.getColumn(6).getInt64());
  total.output_tokens = static_cast<uint64_t>(row.getColumn(7).getInt64());
  total.price = {row.getColumn(8).getInt64()};
  return total;
}

std::string csv_line(const LedgerRow& row) {
  const uint64_t accepted = row.accepted_length_thousandths();
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}.{:03},{}\r\n", row.id,
                     csv_cell(row.request_id), utc_text(row.begun), csv_cell(row.account),
                     csv_cell(row.key), csv_cell(row.model), csv_cell(row.tier),
                     row.multiplier.text(), row.tokens.cached_input, row.tokens.input,
                     row.tokens.output, row.price.text(), row.duration_ms, accepted / 1000,
                     accepted % 1000, csv_cell(row.finish));
}

}  // namespace

uint64_t LedgerRow::accepted_length_thousandths() const {
  return num_steps == 0 ? 0 : uint64_t{tokens.output} * 1000 / num_steps;
}

TokenCounts billed_tokens(const JournalEntry& entry) {
  if (entry.progress.num_steps == 0 && entry.progress.output_tokens == 0) return {};
  const uint32_t cached = entry.progress.cached_input_tokens;
  return {cached, entry.request.input_tokens - cached, entry.progress.output_tokens};
}

std::string csv_cell(std::string_view text) {
  std::string cell(text);
  if (!cell.empty() && std::string_view("=+-@\t\r").find(cell.front()) != std::string_view::npos) {
    cell.insert(0, 1, '\'');
  }
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  for (size_t i = 0; (i = cell.find('"', i)) != std::string::npos; i += 2) cell.insert(i, 1, '"');
  return fmt::format("\"{}\"", cell);
}

Result<uint32_t> Ledger::append(std::span<const JournalEntry> entries) {
  return database_.write([&](SQLite::Database& sql) -> Result<uint32_t> {
    uint32_t num_new = 0;
    for (const JournalEntry& entry : entries) num_new += append_entry(sql, entry) ? 1 : 0;
    return num_new;
  });
}

Status Ledger::visit(const LedgerFilter& filter,
                     const std::function<Status(const LedgerRow&)>& visit) {
  for (int64_t last_id = 0;;) {
    US_ASSIGN(const std::vector<LedgerRow> rows, database_.report([&](SQLite::Database& sql) {
      return read_portion(sql, filter, last_id);
    }));
    for (const LedgerRow& row : rows) US_TRY(visit(row));
    if (rows.size() < kPortion) return {};
    last_id = rows.back().id;
  }
}

Result<std::vector<DayTotal>> Ledger::totals(const LedgerFilter& filter, const Calendar& calendar) {
  return database_.report([&](SQLite::Database& sql) -> Result<std::vector<DayTotal>> {
    define_day_of(sql, calendar);
    SQLite::Statement query(
        sql,
        fmt::format("SELECT day_of(l.begun_ms) AS day, a.name, k.public_part, "
                    "l.tier, count(*), sum(l.cached_input_tokens), sum(l.input_tokens), "
                    "sum(l.output_tokens), sum(l.price_units) FROM ledger l "
                    "JOIN accounts a ON a.id = l.account_id LEFT JOIN keys k ON k.id = l.key_id "
                    "WHERE {} GROUP BY day, l.account_id, l.key_id, l.tier "
                    "ORDER BY day, a.name, k.public_part, l.tier",
                    conditions(filter)));
    bind_filter(query, filter);
    std::vector<DayTotal> totals;
    while (query.executeStep()) totals.push_back(total_of(query));
    return totals;
  });
}

Status Ledger::export_csv(const LedgerFilter& filter,
                          const std::function<Status(std::string_view)>& write) {
  US_TRY(write(
      "id,request_id,begun_utc,account,key,model,tier,multiplier,cached_input_tokens,input_tokens,"
      "output_tokens,price,duration_ms,accepted_length,finish\r\n"));
  return visit(filter, [&](const LedgerRow& row) { return write(csv_line(row)); });
}

}  // namespace ultraspeed::access
