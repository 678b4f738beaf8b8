#include "access/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>

#include "base/toml.h"

namespace ultraspeed::access {
namespace {

constexpr const char* kSections[] = {"access", "tiers", "prices", "limits", "chat"};

template <class... Args>
tl::unexpected<Error> config_error(const std::string& file, const toml::source_region& where,
                                   fmt::format_string<Args...> text, Args&&... args) {
  return make_error(ErrorCode::kInvalidArgument, "{}:{}: {}", file, where.begin.line,
                    fmt::format(text, std::forward<Args>(args)...));
}

// What a key's value is read into: says what was expected, or nothing.
using Field = std::function<std::string(const toml::node&)>;
using Fields = std::map<std::string, Field, std::less<>>;

template <class Number>
Field number(Number* out, int64_t min, int64_t max) {
  return [out, min, max](const toml::node& node) -> std::string {
    const auto value = node.value_exact<int64_t>();
    if (!value || *value < min || *value > max) {
      return fmt::format("expected a whole number from {} to {}", min, max);
    }
    *out = Number(*value);
    return "";
  };
}

Field flag(bool* out) {
  return [out](const toml::node& node) -> std::string {
    const auto value = node.value_exact<bool>();
    if (!value) return "expected true or false";
    *out = *value;
    return "";
  };
}

Field text(std::string* out) {
  return [out](const toml::node& node) -> std::string {
    const auto value = node.value_exact<std::string>();
    if (!value || value->empty()) return "expected a text that is not empty";
    *out = *value;
    return "";
  };
}

// A number with a decimal point would be rounded before it is read.
std::optional<std::string> exact_text(const toml::node& node) {
  if (const auto whole = node.value_exact<int64_t>()) return fmt::to_string(*whole);
  return node.value_exact<std::string>();
}

template <class Decimal, class Out>
Field decimal(Out* out) {
  return [out](const toml::node& node) -> std::string {
    const auto written = exact_text(node);
    if (!written) return "expected a decimal number in quotes, such as \"0.025\", which is exact";
    const Result<Decimal> value = Decimal::parse(*written);
    if (!value) return value.error().message;
    *out = *value;
    return "";
  };
}

Field date(int64_t* out) {
  return [out](const toml::node& node) -> std::string {
    const auto value = node.value_exact<toml::date>();
    constexpr const char* kExpected = "expected a date, such as 2026-06-09, without quotes";
    if (!value) return kExpected;
    const std::chrono::year_month_day day{std::chrono::year(value->year),
                                          std::chrono::month(value->month),
                                          std::chrono::day(value->day)};
    if (!day.ok() || value->year < 1970) return kExpected;
    *out = std::chrono::sys_days(day).time_since_epoch().count();
    return "";
  };
}

// "+08:00".
Field utc_offset(Calendar* out) {
  return [out](const toml::node& node) -> std::string {
    const std::string text = node.value_exact<std::string>().value_or("");
    const auto digit = [&text](size_t i) { return text[i] - '0'; };
    const auto is_digit = [&text](size_t i) { return text[i] >= '0' && text[i] <= '9'; };
    if (text.size() == 6 && (text[0] == '+' || text[0] == '-') && text[3] == ':' && is_digit(1) &&
        is_digit(2) && is_digit(4) && is_digit(5)) {
      const int hours = 10 * digit(1) + digit(2);
      const int minutes = 10 * digit(4) + digit(5);
      if (hours < 24 && minutes < 60) {
        *out = Calendar(std::chrono::minutes((text[0] == '-' ? -1 : 1) * (60 * hours + minutes)));
        return "";
      }
    }
    return "expected what local time is ahead of UTC, such as \"+08:00\"";
  };
}

Field time_zone(Calendar* out) {
  return [out](const toml::node& node) -> std::string {
    const auto name = node.value_exact<std::string>();
    if (!name) return "expected the name of a time zone, such as \"Europe/Berlin\"";
    auto calendar = Calendar::of_zone(*name);
    if (!calendar) return calendar.error().message;
    *out = *std::move(calendar);
    return "";
  };
}

constexpr int64_t kMany = 1'000'000'000;
constexpr int64_t kHoursOfAYear = 8760;
constexpr int64_t kMinutesOfADay = 1440;

Fields access_fields(AccessConfig* config) {
  FloodLimits& floods = config->floods;
  return {
      {"database", text(&config->database_file)},
      {"journal", text(&config->journal_file)},
      {"utc_offset", utc_offset(&config->calendar)},
      {"time_zone", time_zone(&config->calendar)},
      {"first_day", date(&config->window.first_day)},
      {"last_day", date(&config->window.last_day)},
      {"session_hours", number(&config->session_lifetime, 1, kHoursOfAYear)},
      {"session_idle_minutes", number(&config->session_idle, 1, 60 * kHoursOfAYear)},
      {"password_passes", number(&config->password_cost.num_passes, 1, 100)},
      {"password_memory_bytes",
       number(&config->password_cost.memory_bytes, 8192, int64_t{4} << 30)},
      {"max_keys_per_account", number(&config->max_keys_per_account, 0, kMany)},
      {"max_requests_in_flight", number(&config->max_requests_in_flight, 1, 1 << 20)},
      {"max_pending_applications", number(&floods.max_pending_applications, 0, kMany)},
      {"applications_per_address_and_hour",
       number(&floods.applications_per_address_and_hour, 1, 100'000)},
      {"applications_per_minute", number(&floods.applications_per_minute, 1, 100'000)},
      {"failed_logins_per_address", number(&floods.failed_logins_per_address, 1, 100'000)},
      {"failed_logins_per_name", number(&floods.failed_logins_per_name, 1, 100'000)},
      {"logins_per_name", number(&floods.logins_per_name, 1, 100'000)},
      {"new_keys_per_day", number(&floods.new_keys_per_day, 1, 100'000)},
  };
}

Fields price_fields(AccessConfig* config) {
  return {{"currency", text(&config->currency)},
          {"cached_input", decimal<Money>(&config->prices.cached_input)},
          {"input", decimal<Money>(&config->prices.input)},
          {"output", decimal<Money>(&config->prices.output)}};
}

Fields tier_fields(TierOptions* tier) {
  return {{"multiplier", decimal<Multiplier>(&tier->multiplier)},
          {"needs_approval", flag(&tier->needs_approval)},
          {"takes_plan_keys", flag(&tier->takes_plan_keys)}};
}

Fields limit_fields(KeyLimits* limits) {
  return {{"requests_per_minute", number(&limits->requests_per_minute, 0, kMany)},
          {"tokens_per_minute", number(&limits->tokens_per_minute, 0, kMany)},
          {"max_concurrent", number(&limits->max_concurrent, 0, kMany)},
          {"budget", decimal<Money>(&limits->budget)}};
}

Fields chat_fields(ChatOptions* chat) {
  return {{"max_entries_per_day", number(&chat->max_entries_per_day, 1, kMany)},
          {"session_minutes", number(&chat->session, 1, kMinutesOfADay)},
          {"idle_minutes", number(&chat->idle, 1, kMinutesOfADay)},
          {"warning_minutes", number(&chat->warning, 0, kMinutesOfADay)},
          {"absence_seconds", number(&chat->absence, 1, 3600)},
          {"num_slots", number(&chat->num_slots, 1, 10'000)},
          {"max_queue", number(&chat->max_queue, 1, 100'000)},
          {"max_input_tokens", number(&chat->max_input_tokens, 1, kMany)}};
}

Status read_table(const std::string& file, std::string_view section, const toml::node& node,
                  const Fields& fields) {
  const toml::table* const table = node.as_table();
  if (table == nullptr) {
    return config_error(file, node.source(), "'{}' must be a section: [{}]", section, section);
  }
  for (const auto& [key, value] : *table) {
    const auto field = fields.find(key.str());
    if (field == fields.end()) {
      return config_error(file, key.source(), "[{}] has no '{}'", section, key.str());
    }
    const std::string expected = field->second(value);
    if (!expected.empty()) {
      return config_error(file, value.source(), "{}.{}: {}", section, key.str(), expected);
    }
  }
  return {};
}

Status read_section(const std::string& file, std::string_view section, const toml::node& node,
                    AccessConfig* config) {
  if (section == "access") return read_table(file, section, node, access_fields(config));
  if (section == "prices") return read_table(file, section, node, price_fields(config));
  if (section == "limits") return read_table(file, section, node, limit_fields(&config->limits));
  if (section == "chat") return read_table(file, section, node, chat_fields(&config->chat));
  const toml::table* const tiers = node.as_table();
  if (tiers == nullptr) return config_error(file, node.source(), "'tiers' must be sections");
  for (const auto& [name, tier] : *tiers) {
    const auto* const found = std::ranges::find(kTierNames, name.str());
    if (found == kTierNames.end()) {
      return config_error(file, name.source(), "there is no tier '{}'; expected standard or fast",
                          name.str());
    }
    const auto index = static_cast<size_t>(found - kTierNames.begin());
    US_TRY(read_table(file, fmt::format("tiers.{}", name.str()), tier,
                      tier_fields(&config->tiers[index])));
  }
  return {};
}

// What no key alone can get wrong.
Status check_config(const std::string& file, const AccessConfig& config,
                    const toml::source_region& where) {
  if (config.database_file.empty()) {
    return config_error(file, where, "[access] needs database = \"FILE\"");
  }
  if (config.window.first_day > config.window.last_day) {
    return config_error(file, where, "the trial begins on {}, after it ends on {}",
                        day_text(config.window.first_day), day_text(config.window.last_day));
  }
  if (config.window.begin(config.calendar) == config.window.end(config.calendar)) {
    return config_error(file, where, "the trial has no time: {} was left out in {}",
                        day_text(config.window.first_day), config.calendar.name());
  }
  for (const TierOptions& tier : config.tiers) {
    const auto rates = Rates::of(config.prices, tier.multiplier);
    if (!rates) return config_error(file, where, "prices: {}", rates.error().message);
  }
  return {};
}

// The journal overwrites its file.
Status check_files(const std::string& file, const AccessConfig& config,
                   const toml::source_region& where) {
  const auto normal = [](const std::string& path) {
    return std::filesystem::path(path).lexically_normal();
  };
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) {
    if (normal(config.journal_file) != normal(config.database_file + suffix)) continue;
    return config_error(file, where, "journal = \"{}\" is the database's own; name another file",
                        config.journal_file);
  }
  return {};
}

// A path in the file begins at the file's folder.
std::string beside(const std::string& file, const std::string& path) {
  return (std::filesystem::path(file).parent_path() / path).string();
}

}  // namespace

bool is_section(std::string_view name) {
  return std::ranges::count(kSections, name) > 0;
}

Result<std::optional<AccessConfig>> parse_config(const std::string& file, std::string_view text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return config_error(file, parsed.error().source(), "{}", parsed.error().description());
  }
  const toml::node* const access = parsed.table().get("access");
  AccessConfig config;
  for (const char* section : kSections) {
    const toml::node* const node = parsed.table().get(section);
    if (node == nullptr) continue;
    // A service that somebody thought had prices would be open to everyone.
    if (access == nullptr) {
      return config_error(file, node->source(), "'{}' does nothing without [access]", section);
    }
    US_TRY(read_section(file, section, *node, &config));
  }
  if (access == nullptr) return std::nullopt;
  US_TRY(check_config(file, config, access->source()));
  if (access->as_table()->contains("utc_offset") && access->as_table()->contains("time_zone")) {
    return config_error(file, access->source(),
                        "[access] has utc_offset and time_zone; leave out "
                        "one of them");
  }
  config.database_file = beside(file, config.database_file);
  config.journal_file = config.journal_file.empty() ? config.database_file + ".journal"
                                                    : beside(file, config.journal_file);
  US_TRY(check_files(file, config, access->source()));
  return config;
}

}  // namespace ultraspeed::access
