#include "server/page_json.h"

namespace ultraspeed::server {
namespace {

Json limits_json(const access::KeyLimits& limits) {
  Json json = {{"requests_per_minute", limits.requests_per_minute},
               {"tokens_per_minute", limits.tokens_per_minute},
               {"max_concurrent", limits.max_concurrent},
               {"budget", nullptr},
               {"allowance_tokens", nullptr}};
  if (limits.budget) json["budget"] = limits.budget->text();
  if (limits.allowance_tokens) json["allowance_tokens"] = *limits.allowance_tokens;
  return json;
}

std::string_view key_state(const access::Key& key, access::UtcTime now) {
  if (key.revoked) return "revoked";
  return key.expires && *key.expires <= now ? "expired" : "active";
}

std::string_view window_state(const access::AccessConfig& config, access::UtcTime now) {
  if (now < config.window.begin(config.calendar)) return "before";
  return now < config.window.end(config.calendar) ? "open" : "after";
}

}  // namespace

Json time_json(const std::optional<access::UtcTime>& time) {
  return time ? Json(access::utc_text(*time)) : Json();
}

Json application_json(const access::Application& application) {
  return {{"id", application.id},
          {"account", application.account.name},
          {"statement", application.statement},
          {"submitted", time_json(application.submitted)},
          {"state", access::state_name(application.state)},
          {"decided", time_json(application.decided)},
          {"decided_by", application.decided_by},
          {"reason", application.reason}};
}

Json key_json(const access::Key& key, access::UtcTime now) {
  return {{"key", key.public_part},
          {"account", key.account.name},
          {"name", key.name},
          {"kind", access::kind_name(key.kind)},
          {"state", key_state(key, now)},
          {"created", time_json(key.created)},
          {"expires", time_json(key.expires)},
          {"revoked", time_json(key.revoked)},
          {"spent", key.spent.text()},
          {"used_tokens", key.used_tokens},
          {"limits", limits_json(key.limits)}};
}

Json chat_json(const access::ChatState& state, access::UtcTime now) {
  using Kind = access::ChatState::Kind;
  Json json = {{"state", state.kind == Kind::kOutside   ? "outside"
                         : state.kind == Kind::kWaiting ? "waiting"
                                                        : "active"},
               {"entries_left", state.entries_left},
               {"position", nullptr},
               {"expected_wait_s", nullptr},
               {"ends", nullptr},
               {"idle_ends", nullptr},
               {"is_ending_soon", state.is_ending_soon},
               {"last_end", nullptr},
               {"now", time_json(now)}};
  if (state.kind == Kind::kWaiting) {
    json["position"] = state.position;
    json["expected_wait_s"] = state.expected_wait.count();
  }
  if (state.kind == Kind::kActive) {
    json["ends"] = time_json(state.ends);
    json["idle_ends"] = time_json(state.idle_ends);
  }
  if (state.last_end) json["last_end"] = access::end_name(*state.last_end);
  return json;
}

Json standing_json(access::Gate& gate, access::Standing standing) {
  return {{"code", access::standing_code(standing)}, {"text", gate.standing_text(standing)}};
}

Json usage_json(const std::vector<access::DayTotal>& days, const access::AccessConfig& config) {
  Json list = Json::array();
  uint64_t num_requests = 0, cached = 0, input = 0, output = 0;
  access::Money price;
  for (const access::DayTotal& day : days) {
    list.push_back({{"day", access::day_text(day.day)},
                    {"account", day.account},
                    {"key", day.key},
                    {"tier", day.tier},
                    {"requests", day.num_requests},
                    {"cached_input_tokens", day.cached_input_tokens},
                    {"input_tokens", day.input_tokens},
                    {"output_tokens", day.output_tokens},
                    {"price", day.price.text()}});
    num_requests += day.num_requests;
    cached += day.cached_input_tokens;
    input += day.input_tokens;
    output += day.output_tokens;
    price = price.plus(day.price).value_or(access::Money{std::numeric_limits<int64_t>::max()});
  }
  return {{"currency", config.currency},
          {"days", std::move(list)},
          {"total",
           {{"requests", num_requests},
            {"cached_input_tokens", cached},
            {"input_tokens", input},
            {"output_tokens", output},
            {"price", price.text()}}}};
}

Json offer_json(const access::AccessConfig& config, access::UtcTime now) {
  const access::ChatOptions& chat = config.chat;
  return {{"window",
           {{"first_day", access::day_text(config.window.first_day)},
            {"last_day", access::day_text(config.window.last_day)},
            {"time_zone", config.calendar.name()},
            {"today", access::day_text(config.calendar.day_of(now))},
            {"state", window_state(config, now)}}},
          {"prices",
           {{"currency", config.currency},
            {"cached_input", config.prices.cached_input.text()},
            {"input", config.prices.input.text()},
            {"output", config.prices.output.text()}}},
          {"chat",
           {{"max_entries_per_day", chat.max_entries_per_day},
            {"session_minutes", chat.session.count()},
            {"idle_minutes", chat.idle.count()},
            {"warning_minutes", chat.warning.count()},
            {"max_input_tokens", chat.max_input_tokens}}}};
}

Json models_json(const std::vector<PageModel>& models, const access::AccessConfig* config) {
  Json list = Json::array();
  for (const PageModel& model : models) {
    Json json = {{"id", model.id},
                 {"tier", model.tier ? access::tier_name(*model.tier) : ""},
                 {"weights", model.weights}};
    if (config != nullptr && model.tier) {
      json["multiplier"] = config->tier(*model.tier).multiplier.text();
    }
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace ultraspeed::server
