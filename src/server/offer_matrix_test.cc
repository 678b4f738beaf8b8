// Every route times every kind of visitor: who gets in, and what the others are told.
#include <gtest/gtest.h>

#include <array>
#include <map>

#include "server/offer_fixture.h"

namespace ultraspeed::server {
namespace {

using std::chrono::hours;

struct Route {
  const char* method;
  const char* path;
  const char* body;
  access::RouteClass route;
  const char* admitted;  // what whoever may gets
  const char* headers = "";
  const char* late = admitted;  // likewise, when the trial is over
};

using access::RouteClass;

// Every route of the server.
constexpr Route kRoutes[] = {
    {"GET", "/health", "", RouteClass::kPublic, "200"},
    {"GET", "/health/ready", "", RouteClass::kPublic, "200"},
    {"GET", "/version", "", RouteClass::kPublic, "200"},
    {"GET", "/", "", RouteClass::kPublic, "200"},
    {"GET", "/ui/app.js", "", RouteClass::kPublic, "200"},
    {"GET", "/preview", "", RouteClass::kPublic, "200"},
    {"GET", "/api/session", "", RouteClass::kPublic, "200"},
    {"POST", "/api/login", R"({"name":"x","password":"y"})", RouteClass::kPublic,
     "401 invalid_login"},
    {"POST", "/api/applications", R"({"name":"?","password":"y"})", RouteClass::kPublic,
     "400 invalid_request"},
    {"GET", "/metrics", "", RouteClass::kMetrics, "200"},
    {"GET", "/v1/models", "", RouteClass::kModels, "200"},
    {"GET", "/v1/models/tiny", "", RouteClass::kModels, "200"},
    {"POST", "/tokenize", R"({"prompt":"x"})", RouteClass::kModels, "200"},
    {"POST", "/detokenize", R"({"tokens":[65]})", RouteClass::kModels, "200"},
    {"POST", "/v1/messages/count_tokens",
     R"({"model":"tiny","messages":[{"role":"user","content":"x"}]})", RouteClass::kModels, "200"},
    {"POST", "/v1/responses/input_tokens", R"({"model":"tiny","input":"x"})", RouteClass::kModels,
     "200"},
    {"GET", "/v1/responses/resp_x", "", RouteClass::kModels, "404 response_not_found"},
    {"DELETE", "/v1/responses/resp_x", "", RouteClass::kModels, "404 response_not_found"},
    {"GET", "/v1/responses/resp_x/input_items", "", RouteClass::kModels, "404 response_not_found"},
    {"POST", "/v1/completions", R"({"model":"tiny","prompt":"x"})", RouteClass::kGenerate, "200"},
    {"POST", "/v1/chat/completions",
     R"({"model":"tiny","messages":[{"role":"user","content":"x"}]})", RouteClass::kGenerate,
     "200"},
    {"POST", "/v1/messages",
     R"({"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":"x"}]})",
     RouteClass::kGenerate, "200"},
    {"POST", "/v1/responses", R"({"model":"tiny","input":"x"})", RouteClass::kGenerate, "200"},
    {"GET", "/v1/responses", "", RouteClass::kGenerate, "200",
     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"},
    {"POST", "/api/chat/completions",
     R"({"model":"tiny","messages":[{"role":"user","content":"x"}]})", RouteClass::kChat,
     "409 no_chat_session"},
    {"GET", "/api/chat", "", RouteClass::kChat, "200"},
    {"POST", "/api/chat/join", "", RouteClass::kChat, "200", "", "403 trial_ended"},
    {"POST", "/api/chat/leave", "", RouteClass::kChat, "200"},
    {"GET", "/api/application", "", RouteClass::kAccount, "200"},
    {"GET", "/api/keys", "", RouteClass::kAccount, "200"},
    {"POST", "/api/keys", R"({"name":""})", RouteClass::kAccount, "400 invalid_request"},
    {"DELETE", "/api/keys/none", "", RouteClass::kAccount, "404 not_found"},
    {"GET", "/api/usage", "", RouteClass::kAccount, "200"},
    {"GET", "/api/usage.csv", "", RouteClass::kAccount, "200"},
    {"GET", "/api/admin/applications", "", RouteClass::kAdministration, "200"},
    {"POST", "/api/admin/applications/99", R"({"decision":"approve"})", RouteClass::kAdministration,
     "404 not_found"},
    {"GET", "/api/admin/keys", "", RouteClass::kAdministration, "200"},
    {"POST", "/api/admin/keys", R"({"account":"nobody","name":"x"})", RouteClass::kAdministration,
     "404 not_found"},
    {"DELETE", "/api/admin/keys/none", "", RouteClass::kAdministration, "404 not_found"},
    {"GET", "/api/admin/usage", "", RouteClass::kAdministration, "200"},
    {"GET", "/api/admin/usage.csv", "", RouteClass::kAdministration, "200"},
    {"GET", "/api/admin/audit", "", RouteClass::kAdministration, "200"},
    {"POST", "/api/logout", "", RouteClass::kAccount, "200"},  // the last: it ends the session
};

constexpr const char* kMissing = "401 missing_credential";
constexpr const char* kIn = "";  // Route::admitted

// A visitor, and what they get by class, in the order of RouteClass.
struct Visitor {
  const char* name;
  std::array<const char*, 7> outcomes;
};

constexpr Visitor kVisitors[] = {
    {"nobody", {kIn, kMissing, kMissing, kMissing, kMissing, kMissing, kMissing}},
    {"key of approved", {kIn, kIn, kIn, kMissing, kMissing, kMissing, "403 scope"}},
    {"plan key", {kIn, kIn, kIn, kMissing, kMissing, kMissing, "403 scope"}},
    {"key of administrator", {kIn, kIn, kIn, kMissing, kMissing, kMissing, "403 scope"}},
    {"metrics key", {kIn, "403 scope", "403 scope", kMissing, kMissing, kMissing, kIn}},
    {"key of pending",
     {kIn, kIn, "403 application_pending", kMissing, kMissing, kMissing, "403 scope"}},
    {"key of declined",
     {kIn, kIn, "403 application_declined", kMissing, kMissing, kMissing, "403 scope"}},
    {"wrong key",
     {kIn, "401 invalid_api_key", "401 invalid_api_key", kMissing, kMissing, kMissing,
      "401 invalid_api_key"}},
    {"revoked key",
     {kIn, "401 key_revoked", "401 key_revoked", kMissing, kMissing, kMissing, "401 key_revoked"}},
    {"expired key",
     {kIn, "401 key_expired", "401 key_expired", kMissing, kMissing, kMissing, "401 key_expired"}},
    {"session of approved",
     {kIn, kMissing, kMissing, kIn, kIn, "403 administrators_only", "403 administrators_only"}},
    {"session of pending",
     {kIn, kMissing, kMissing, "403 application_pending", kIn, "403 administrators_only",
      "403 administrators_only"}},
    {"session of administrator", {kIn, kMissing, kMissing, kIn, kIn, kIn, kIn}},
    {"wrong session",
     {kIn, kMissing, kMissing, "401 session_ended", "401 session_ended", "401 session_ended",
      "401 session_ended"}},
};

// When the trial is over.
constexpr Visitor kLateVisitors[] = {
    {"key of approved", {kIn, kIn, "403 trial_ended", kMissing, kMissing, kMissing, "403 scope"}},
    {"plan key", {kIn, kIn, "403 trial_ended", kMissing, kMissing, kMissing, "403 scope"}},
    {"key of pending", {kIn, kIn, "403 trial_ended", kMissing, kMissing, kMissing, "403 scope"}},
    {"key of administrator", {kIn, kIn, kIn, kMissing, kMissing, kMissing, "403 scope"}},
    {"metrics key", {kIn, "403 scope", "403 scope", kMissing, kMissing, kMissing, kIn}},
    {"session of approved",
     {kIn, kMissing, kMissing, "403 trial_ended", kIn, "403 administrators_only",
      "403 administrators_only"}},
    {"session of pending",
     {kIn, kMissing, kMissing, "403 trial_ended", kIn, "403 administrators_only",
      "403 administrators_only"}},
    {"session of administrator", {kIn, kMissing, kMissing, kIn, kIn, kIn, kIn}},
};

class AccessMatrixTest : public OfferServerTest {
 protected:
  void log_all_in() {
    headers["session of approved"] = log_in("approved");
    headers["session of pending"] = log_in("pending");
    headers["session of administrator"] = log_in("admin");
  }

  void expect_outcomes(const Visitor& visitor, bool is_late) {
    for (const Route& route : kRoutes) {
      const std::string expected = visitor.outcomes[static_cast<size_t>(route.route)];
      const auto response =
          ask(route.method, route.path, headers.at(visitor.name) + route.headers, route.body);
      const std::string admitted = is_late ? route.late : route.admitted;
      const std::string wanted = expected == kIn ? admitted : expected;
      const bool has_code = !std::string_view(route.path).starts_with("/v1/messages");
      const std::string found = outcome(response);
      EXPECT_EQ(found, has_code || wanted == "200" ? wanted : wanted.substr(0, 4))
          << visitor.name << ": " << route.method << ' ' << route.path << ' ' << response.body;
    }
  }

  std::map<std::string, std::string> headers;  // of a visitor
};

TEST_F(AccessMatrixTest, NobodyGetsInWhereTheyDoNotBelong) {
  start();
  access::KeySpec plan, expiring, metrics;
  plan.kind = access::KeyKind::kTokenPlan;
  plan.limits.allowance_tokens = 100'000;
  expiring.expires = clock.now() + hours(1);
  metrics.scopes = access::kScopeMetrics;
  const std::string revoked = add_key("approved");
  headers = {{"nobody", ""},
             {"key of approved", bearer(add_key("approved"))},
             {"plan key", bearer(add_key("approved", plan))},
             {"key of administrator", bearer(add_key("admin"))},
             {"metrics key", bearer(add_key("admin", metrics))},
             {"key of pending", bearer(add_key("pending"))},
             {"key of declined", bearer(add_key("declined"))},
             {"wrong key", bearer("us-0123456789ab-wrong")},
             {"revoked key", bearer(revoked)},
             {"expired key", bearer(add_key("approved", expiring))},
             {"wrong session", "Cookie: us_session=wrong\r\n"}};
  access::value_of(service->keys().revoke(
      access::value_of(service->keys().find(revoked)).public_part, {}, "admin"));
  clock.advance(hours(2));
  log_all_in();
  for (const Visitor& visitor : kVisitors) expect_outcomes(visitor, false);
  clock.set(config.window.end(config.calendar));
  log_all_in();
  for (const Visitor& visitor : kLateVisitors) expect_outcomes(visitor, true);
}

}  // namespace
}  // namespace ultraspeed::server
