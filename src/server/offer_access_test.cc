// Who gets in, on every route of the server; sessions of the page; what one account may see of
// another's.
#include <array>
#include <map>

#include "server/offer_fixture.h"

namespace ultraspeed::server {
namespace {

using access::kPassword;
using std::chrono::hours;

struct Route {
  const char* method;
  const char* path;
  const char* body;
  access::RouteClass route;
  const char* admitted;  // what whoever may gets
};

using access::RouteClass;

// Every route of the server.
constexpr Route kRoutes[] = {
    {"GET", "/health", "", RouteClass::kPublic, "200"},
    {"GET", "/health/ready", "", RouteClass::kPublic, "200"},
    {"GET", "/version", "", RouteClass::kPublic, "200"},
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
    {"POST", "/api/chat/completions",
     R"({"model":"tiny","messages":[{"role":"user","content":"x"}]})", RouteClass::kChat,
     "409 no_chat_session"},
    {"GET", "/api/chat", "", RouteClass::kChat, "200"},
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

TEST_F(OfferServerTest, NobodyGetsInWhereTheyDoNotBelong) {
  start();
  access::KeySpec plan, expiring, metrics;
  plan.kind = access::KeyKind::kTokenPlan;
  plan.limits.allowance_tokens = 100'000;
  expiring.expires = clock.now() + hours(1);
  metrics.scopes = access::kScopeMetrics;
  const std::string revoked = add_key("approved");
  std::map<std::string, std::string> headers = {
      {"nobody", ""},
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
  headers["session of approved"] = log_in("approved");
  headers["session of pending"] = log_in("pending");
  headers["session of administrator"] = log_in("admin");
  for (const Visitor& visitor : kVisitors) {
    for (const Route& route : kRoutes) {
      const std::string expected = visitor.outcomes[static_cast<size_t>(route.route)];
      const auto response = ask(route.method, route.path, headers.at(visitor.name), route.body);
      const std::string wanted = expected == kIn ? route.admitted : expected;
      const bool has_code = !std::string_view(route.path).starts_with("/v1/messages");
      const std::string found = outcome(response);
      EXPECT_EQ(found, has_code || wanted == "200" ? wanted : wanted.substr(0, 4))
          << visitor.name << ": " << route.method << ' ' << route.path << ' ' << response.body;
      if (response.status == 429) clock.advance(std::chrono::minutes(16));
    }
  }
}

TEST_F(OfferServerTest, OutsideOfTheWindowTheAnswerSaysWhy) {
  start();
  const std::string key = add_key("approved");
  const std::string session = log_in("approved");
  clock.set(config.window.end(config.calendar) - std::chrono::milliseconds(1));
  EXPECT_EQ(outcome(generate(key)), "200");
  clock.set(config.window.end(config.calendar));
  EXPECT_EQ(outcome(generate(key)), "403 trial_ended");
  EXPECT_EQ(outcome(ask("GET", "/v1/models", bearer(key))), "200");
  clock.set(config.window.begin(config.calendar) - std::chrono::seconds(90));
  const auto early = generate(key);
  EXPECT_EQ(outcome(early), "403 trial_not_begun");
  EXPECT_EQ(early.headers.at("retry-after"), "90");
  clock.set(config.window.begin(config.calendar));
  EXPECT_EQ(outcome(generate(key)), "200");
}

TEST_F(OfferServerTest, APagesSessionNeedsItsToken) {
  start();
  const std::string headers = log_in("approved");
  const std::string cookie = headers.substr(0, headers.find("X-CSRF"));
  EXPECT_EQ(outcome(ask("POST", "/api/keys", cookie, R"({"name":"k"})")), "403 csrf");
  EXPECT_EQ(outcome(ask("POST", "/api/keys", headers + "Origin: https://evil.example\r\n",
                        R"({"name":"k"})")),
            "403 origin_not_allowed");
  const auto made = ask("POST", "/api/keys", headers, R"({"name":"<b>k</b>"})");
  EXPECT_EQ(made.status, 201u) << made.body;
  const Json json = parse(made);
  EXPECT_EQ(outcome(generate(json["secret"])), "200");
  const std::string listed = ask("GET", "/api/keys", cookie).body;
  EXPECT_EQ(listed.find(json["secret"].get<std::string>()), std::string::npos) << listed;
  const std::string path = "/api/keys/" + json["key"]["key"].get<std::string>();
  EXPECT_EQ(outcome(ask("DELETE", path, log_in("other"))), "404 not_found");
  EXPECT_EQ(outcome(ask("DELETE", path, headers)), "200");
  EXPECT_EQ(outcome(generate(json["secret"])), "401 key_revoked");
  // A planted session does not become somebody's, and logging out ends one.
  const auto again = ask("POST", "/api/login", cookie,
                         fmt::format(R"({{"name":"approved","password":"{}"}})", kPassword));
  EXPECT_EQ(again.headers.at("set-cookie").find(cookie.substr(20, 30)), std::string::npos);
  EXPECT_EQ(outcome(ask("GET", "/api/keys", cookie)), "401 session_ended");
  const std::string last = log_in("approved");
  EXPECT_EQ(outcome(ask("POST", "/api/logout", last)), "200");
  EXPECT_EQ(outcome(ask("GET", "/api/keys", last)), "401 session_ended");
}

TEST_F(OfferServerTest, AppliesIsApprovedAndUsesIt) {
  start();
  const auto applied =
      ask("POST", "/api/applications", "",
          fmt::format(R"({{"name":"New","password":"{}","statement":"<script>"}})", kPassword));
  EXPECT_EQ(applied.status, 201u) << applied.body;
  const std::string user = log_in("new");
  EXPECT_EQ(parse(ask("GET", "/api/application", user))["standing"]["code"], "application_pending");
  const std::string admin = log_in("admin");
  const Json list = parse(ask("GET", "/api/admin/applications?state=pending", admin));
  EXPECT_EQ(list["applications"].size(), 2u);
  const auto id = list["applications"][1]["id"].get<int64_t>();
  const auto decided = ask("POST", fmt::format("/api/admin/applications/{}", id), admin,
                           R"({"decision":"approve","reason":"welcome"})");
  EXPECT_EQ(parse(decided)["application"]["decided_by"], "admin");
  EXPECT_EQ(parse(ask("GET", "/api/session", user))["standing"]["code"], "approved");
  const Json made = parse(ask("POST", "/api/keys", user, R"({"name":"mine"})"));
  EXPECT_EQ(outcome(generate(made["secret"])), "200");
  wait_for_rows(1);
  const Json usage = parse(ask("GET", "/api/usage", user));
  EXPECT_EQ(usage["total"]["requests"], 1);
  EXPECT_EQ(usage["days"][0]["tier"], "standard");
  EXPECT_EQ(parse(ask("GET", "/api/usage", log_in("other")))["total"]["requests"], 0);
  EXPECT_NE(ask("GET", "/api/usage.csv", user).body.find("new"), std::string::npos);
  EXPECT_EQ(outcome(ask("GET", "/api/usage?first_day=x", user)), "400 invalid_value");
  const std::string audit = ask("GET", "/api/admin/audit", admin).body;
  EXPECT_NE(audit.find("approve application"), std::string::npos) << audit;
}

TEST_F(OfferServerTest, ResponsesAndCachesAreAnAccountsOwn) {
  start();
  const std::string mine = add_key("approved"), theirs = add_key("other");
  const auto response =
      ask("POST", "/v1/responses", bearer(mine), R"({"model":"tiny","input":"secret"})");
  const std::string id = parse(response)["id"];
  const std::string path = "/v1/responses/" + id;
  EXPECT_EQ(ask("GET", path, bearer(mine)).status, 200u);
  EXPECT_EQ(ask("GET", path, bearer(add_key("approved"))).status, 200u);
  for (const char* method : {"GET", "DELETE"}) {
    EXPECT_EQ(ask(method, path, bearer(theirs)).status, 404u);
  }
  EXPECT_EQ(ask("GET", path + "/input_items", bearer(theirs)).status, 404u);
  EXPECT_EQ(ask("POST", "/v1/responses", bearer(theirs),
                fmt::format(R"({{"model":"tiny","input":"x","previous_response_id":"{}"}})", id))
                .status,
            400u);
  generate(mine);
  generate(theirs);
  const auto starts = engine.starts();
  EXPECT_NE(starts[starts.size() - 1].params.cache_domain,
            starts[starts.size() - 2].params.cache_domain);
}

}  // namespace
}  // namespace ultraspeed::server
