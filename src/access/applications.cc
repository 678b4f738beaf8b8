#include "access/applications.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "access/audit.h"
#include "access/database.h"

namespace ultraspeed::access {
namespace {

constexpr size_t kMaxTextCharacters = 4000;
constexpr std::array<std::string_view, 3> kStateNames = {"pending", "approved", "declined"};
constexpr const char* kSelectApplications =
    "SELECT p.id, a.id, a.name, a.is_administrator, p.statement, p.submitted_ms, p.state, "
    "p.decided_ms, p.decided_by, p.reason FROM applications p "
    "JOIN accounts a ON a.id = p.account_id ";

SQLite::Statement select_applications(SQLite::Database& sql, const char* condition) {
  return {sql, std::string(kSelectApplications) + condition};
}

Application application_of(SQLite::Statement& row) {
  Application application;
  application.id = row.getColumn(0).getInt64();
  application.account = {row.getColumn(1).getInt64(), row.getColumn(2).getString(),
                         row.getColumn(3).getInt() != 0};
  application.statement = row.getColumn(4).getString();
  application.submitted = from_ms(row.getColumn(5).getInt64());
  application.state =
      application_state(row.getColumn(6).getString()).value_or(ApplicationState::kPending);
  if (const auto decided = optional_int(row.getColumn(7))) application.decided = from_ms(*decided);
  application.decided_by = row.getColumn(8).getString();
  application.reason = row.getColumn(9).getString();
  return application;
}

// Of UTF-8: a control character (but a line feed or a tab), or one that reverses what stands behind
// it (U+202A to U+202E, U+2066 to U+2069). Either could make a printed list say something else.
bool has_control(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = [&](size_t ahead) {
      return i + ahead < text.size() ? static_cast<unsigned char>(text[i + ahead]) : 0;
    };
    if (byte(0) == 0x7f || (byte(0) < 0x20 && byte(0) != '\n' && byte(0) != '\t')) return true;
    if (byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) < 0xa0) return true;
    if (byte(0) != 0xe2) continue;
    if (byte(1) == 0x80 && byte(2) >= 0xaa && byte(2) <= 0xae) return true;
    if (byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9) return true;
  }
  return false;
}

Status check_text(std::string_view what, std::string_view text) {
  if (has_control(text)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "the {} has a control character; expected none but line feeds and tabs",
                      what);
  }
  // Of UTF-8: bytes that begin one.
  const auto num_characters =
      static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
  if (num_characters <= kMaxTextCharacters) return {};
  return make_error(ErrorCode::kInvalidArgument, "the {} has {} characters; expected at most {}",
                    what, num_characters, kMaxTextCharacters);
}

tl::unexpected<Refusal> too_many_applications(std::chrono::seconds wait) {
  return refuse(429, "too_many_applications",
                "Too many applications at the moment; try again later.",
                static_cast<uint32_t>(wait.count()));
}

}  // namespace

std::string_view state_name(ApplicationState state) {
  return kStateNames[static_cast<size_t>(state)];
}

std::optional<ApplicationState> application_state(std::string_view name) {
  const auto* found = std::ranges::find(kStateNames, name);
  if (found == kStateNames.end()) return std::nullopt;
  return static_cast<ApplicationState>(found - kStateNames.begin());
}

Applications::Applications(Database& database, const Clock& clock, const AccessConfig& config)
    : database_(database),
      clock_(clock),
      config_(config),
      of_address_({config.floods.applications_per_address_and_hour, std::chrono::hours(1)}),
      of_all_({config.floods.applications_per_minute, std::chrono::minutes(1)}) {}

Answer<void> Applications::check_flood(const std::string& address) {
  const UtcTime now = clock_.now();
  const std::string subject = throttle_subject(address);
  const auto wait = std::max(of_address_.wait(subject, now), of_all_.wait("", now));
  if (wait.count() > 0) return too_many_applications(wait);
  of_address_.record(subject, now);
  of_all_.record("", now);
  return database_.read([&](SQLite::Database& sql) -> Answer<void> {
    SQLite::Statement query(sql, "SELECT count(*) FROM applications WHERE state = 'pending'");
    query.executeStep();
    if (query.getColumn(0).getUInt() < config_.floods.max_pending_applications) return {};
    return too_many_applications(std::chrono::hours(1));
  });
}

Answer<Application> Applications::submit(const Submission& submission) {
  US_ASSIGN(const std::string name, normal_name(submission.name));
  US_TRY(check_text("statement", submission.statement));
  US_TRY(check_password_length(submission.password));
  if (clock_.now() >= config_.window.end(config_.calendar)) {
    return refuse(403, "trial_ended",
                  fmt::format("The trial ended on {}; there are no more applications.",
                              day_text(config_.window.last_day)));
  }
  US_TRY(check_flood(submission.address));
  US_ASSIGN(const std::string hash, hash_password(submission.password, config_.password_cost));
  return database_.write([&](SQLite::Database& sql) -> Answer<Application> {
    Application made;
    made.submitted = clock_.now();
    made.statement = submission.statement;
    US_ASSIGN(made.account, insert_account(sql, {0, name, false}, hash, made.submitted));
    execute(sql,
            "INSERT INTO applications (account_id, statement, submitted_ms, state) "
            "VALUES (?,?,?,'pending')",
            made.account.id, made.statement, to_ms(made.submitted));
    made.id = sql.getLastInsertRowid();
    append_audit(sql, {0, made.submitted, name, "apply", name, ""});
    return made;
  });
}

Answer<std::vector<Application>> Applications::list(std::optional<ApplicationState> state,
                                                    int64_t after_id, uint32_t max_entries) {
  return database_.read([&](SQLite::Database& sql) -> Answer<std::vector<Application>> {
    SQLite::Statement query = select_applications(
        sql, "WHERE p.id > ?1 AND (?2 IS NULL OR p.state = ?2) ORDER BY p.id LIMIT ?3");
    query.bind(1, after_id);
    if (state) query.bind(2, std::string(state_name(*state)));
    query.bind(3, max_entries);
    std::vector<Application> applications;
    while (query.executeStep()) applications.push_back(application_of(query));
    return applications;
  });
}

Answer<std::optional<Application>> Applications::find(int64_t account_id) {
  return database_.read([&](SQLite::Database& sql) -> Answer<std::optional<Application>> {
    SQLite::Statement query = select_applications(sql, "WHERE p.account_id = ?");
    query.bind(1, account_id);
    if (!query.executeStep()) return std::optional<Application>();
    return application_of(query);
  });
}

Answer<Application> Applications::decide(int64_t id, ApplicationState state,
                                         const std::string& actor, const std::string& reason) {
  US_TRY(check_text("reason", reason));
  return database_.write([&](SQLite::Database& sql) -> Answer<Application> {
    SQLite::Statement query = select_applications(sql, "WHERE p.id = ?");
    query.bind(1, id);
    if (!query.executeStep()) {
      return make_error(ErrorCode::kNotFound, "there is no application {}", id);
    }
    Application application = application_of(query);
    application.state = state;
    application.decided = clock_.now();
    application.decided_by = actor;
    application.reason = reason;
    execute(sql,
            "UPDATE applications SET state = ?, decided_ms = ?, decided_by = ?, reason = ? "
            "WHERE id = ?",
            std::string(state_name(state)), to_ms(*application.decided), actor, reason, id);
    append_audit(
        sql, {0, *application.decided, actor,
              state == ApplicationState::kApproved ? "approve application" : "decline application",
              application.account.name, reason});
    return application;
  });
}

}  // namespace ultraspeed::access
