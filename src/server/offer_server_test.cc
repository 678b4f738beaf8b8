// The offer over real sockets: who gets in on every route, sessions of the page, tiers, bills of
// whole, streamed and broken answers, the chat, and what one account may see of another's.
#include <array>
#include <map>

#include "access/test_support.h"
#include "server/offer.h"
#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

using access::kPassword;
using std::chrono::hours;

class OfferServerTest : public ServerTest {
 protected:
  OfferServerTest() {
    config.max_requests_in_flight = 200;
    config.floods.failed_logins_per_address = config.floods.failed_logins_per_name = 1000;
    config.floods.applications_per_minute = 1000;
    config.floods.applications_per_address_and_hour = 1000;
    model.fast_name = "tiny-ultraspeed";
    clock.set(config.window.begin(config.calendar) + hours(30));
    service = access::value_of(access::Service::open(
        config, clock, [](const Error& error) { ADD_FAILURE() << error.message; }));
    options.service = service.get();
    options.access.has_accounts = true;
    access::value_of(service->accounts().create_administrator("admin", kPassword));
    for (const char* name : {"approved", "other", "pending", "declined"}) {
      const auto made =
          access::value_of(service->applications().submit({name, kPassword, "", name}));
      if (name == std::string("pending")) continue;
      const auto state = name == std::string("declined") ? access::ApplicationState::kDeclined
                                                         : access::ApplicationState::kApproved;
      access::value_of(service->applications().decide(made.id, state, "admin", ""));
    }
  }
  ~OfferServerTest() override {
    server.reset();
    service.reset();
  }

  std::string add_key(const std::string& account, access::KeySpec spec = {}) {
    spec.account = account;
    spec.name = "test";
    return access::value_of(service->keys().create(spec, "admin", 100)).secret;
  }

  static std::string bearer(const std::string& key) {
    return key.empty() ? "" : "Authorization: Bearer " + key + "\r\n";
  }

  net::TestResponse ask(std::string_view method, std::string_view path, std::string_view headers,
                        std::string_view body = {}) const {
    Client client(server->port());
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{}",
                            method, path, headers, body.size(), body));
    return client.read_response(method == "HEAD");
  }
  net::TestResponse generate(const std::string& key, std::string_view fields = {},
                             std::string_view name = "tiny") const {
    return ask("POST", "/v1/completions", bearer(key),
               fmt::format(R"({{"model":"{}","prompt":"Once"{}{}}})", name,
                           fields.empty() ? "" : ",", fields));
  }

  // Headers of a session of the page.
  std::string log_in(std::string_view name) const {
    const auto response = ask("POST", "/api/login", "",
                              fmt::format(R"({{"name":"{}","password":"{}"}})", name, kPassword));
    EXPECT_EQ(response.status, 200u) << response.body;
    const std::string cookie = response.headers.at("set-cookie");
    EXPECT_NE(cookie.find("HttpOnly; SameSite=Strict"), std::string::npos) << cookie;
    return fmt::format("Cookie: theme=dark; {}\r\nX-CSRF-Token: {}\r\n",
                       cookie.substr(0, cookie.find(';')),
                       parse(response)["csrf_token"].get<std::string>());
  }

  std::vector<access::LedgerRow> rows() {
    EXPECT_TRUE(service->flush());
    std::vector<access::LedgerRow> rows;
    const auto visit = [&rows](const access::LedgerRow& row) -> Status {
      rows.push_back(row);
      return {};
    };
    EXPECT_TRUE(service->ledger().visit({}, visit));
    return rows;
  }
  // Once there are as many.
  std::vector<access::LedgerRow> wait_for_rows(size_t count) {
    std::vector<access::LedgerRow> found;
    for (int i = 0; i < 500 && found.size() < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      found = rows();
    }
    EXPECT_EQ(found.size(), count);
    return found;
  }

  // "200", or the status and the code, which Anthropic's form has none of.
  static std::string outcome(const net::TestResponse& response) {
    if (response.status < 300) return "200";
    const Json error = Json::parse(response.body, nullptr, false).value("error", Json::object());
    return fmt::format(
        "{} {}", response.status,
        error.value("code", Json()).is_string() ? error["code"].get<std::string>() : "");
  }

  test::TemporaryDirectory folder;
  access::AccessConfig config = access::test_config(folder.path());
  access::FakeClock clock;
  std::unique_ptr<access::Service> service;
};

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

TEST_F(OfferServerTest, TheTierThatServesIsToldAndBilled) {
  start();
  const std::string key = add_key("approved");
  access::KeySpec plan;
  plan.kind = access::KeyKind::kTokenPlan;
  plan.limits.allowance_tokens = 1000;
  const std::string plan_key = add_key("approved", plan);
  struct Case {
    const char* name;
    const char* fields;
    const char* served;
    const char* tier;
  };
  constexpr Case kCases[] = {
      {"tiny", "", "tiny", "default"},
      {"tiny-ultraspeed", "", "tiny-ultraspeed", "priority"},
      {"tiny", R"("service_tier":"priority")", "tiny-ultraspeed", "priority"},
      {"tiny", R"("service_tier":"auto")", "tiny", "default"},
      {"tiny-ultraspeed", R"("service_tier":"auto")", "tiny-ultraspeed", "priority"},
      {"tiny-ultraspeed", R"("service_tier":"default")", "tiny", "default"},
      {"tiny", R"("speed":"fast")", "tiny-ultraspeed", "priority"},
  };
  size_t num_requests = 0;
  for (const Case& one : kCases) {
    const auto response = generate(key, one.fields, one.name);
    ASSERT_EQ(response.status, 200u) << response.body;
    const Json json = parse(response);
    EXPECT_EQ(json["model"], one.served);
    EXPECT_EQ(json["service_tier"], one.tier);
    const bool is_fast = one.tier == std::string("priority");
    EXPECT_EQ(engine.starts().back().params.speculates, is_fast);
    const auto row = wait_for_rows(++num_requests).back();
    EXPECT_EQ(row.model, one.served);
    EXPECT_EQ(row.tier, is_fast ? "fast" : "standard");
    EXPECT_EQ(row.tokens.output, json["usage"]["completion_tokens"]);
    EXPECT_EQ(row.tokens.input, json["usage"]["prompt_tokens"]);
    // 3 and 6 of a million, in units of 10^-12, times 1 or 3.
    EXPECT_EQ(row.price.units,
              (row.tokens.input * 3'000'000 + row.tokens.output * 6'000'000) * (is_fast ? 3 : 1));
    EXPECT_EQ(outcome(generate(plan_key, one.fields, one.name)),
              is_fast ? "403 plan_key_not_on_tier" : "200");
    if (!is_fast) ++num_requests;
  }
  const Json models = parse(ask("GET", "/v1/models", bearer(key)));
  EXPECT_EQ(models["data"][1]["id"], "tiny-ultraspeed");
}

TEST_F(OfferServerTest, WhatCannotBePaidMakesTheAnswerShorter) {
  engine.is_endless = true;
  start();
  access::KeySpec spec;
  spec.limits.budget = access::value_of(access::Money::parse("0.00012"));
  const std::string key = add_key("approved", spec);
  const Json first = parse(generate(key, R"("max_tokens":500,"ignore_eos":true)"));
  const auto rows = wait_for_rows(1);
  EXPECT_LE(rows[0].price, *spec.limits.budget);
  EXPECT_GT(rows[0].price.units + 6'000'000, spec.limits.budget->units);
  EXPECT_EQ(first["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(outcome(generate(key)), "402 budget_used_up");
  access::KeySpec small;
  small.limits.budget = access::value_of(access::Money::parse("0.00001"));
  EXPECT_EQ(outcome(generate(add_key("approved", small), R"("n":8)")), "402 budget_used_up");
}

TEST_F(OfferServerTest, AStreamIsBilledForWhatTheSocketTook) {
  engine.is_endless = true;
  engine.step_delay_us = 2000;
  engine.cached_tokens = 1;
  start();
  const std::string key = add_key("approved");
  for (const int num_events : {0, 1, 7, 40}) {
    Client client(server->port());
    client.post("/v1/completions",
                R"({"model":"tiny","prompt":"Once upon a time","stream":true,"logprobs":0,)"
                R"("ignore_eos":true,"max_tokens":900})",
                bearer(key));
    EXPECT_EQ(client.read_head().status, 200u);
    for (int i = 0; i < num_events; ++i) ASSERT_TRUE(client.read_chunk());
    client.close();
    ASSERT_TRUE(engine.wait_for_cancels(1));
  }
  const auto rows = wait_for_rows(4);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].finish, "disconnected");
    EXPECT_LT(rows[i].tokens.output, 900u);
    if (rows[i].tokens.output == 0) continue;
    EXPECT_EQ(rows[i].tokens.cached_input, 1u);
    EXPECT_EQ(rows[i].num_steps, rows[i].tokens.output);  // the fake engine gives one a step
  }
  EXPECT_GE(rows[3].tokens.output, 40u);
}

// The last counts of tokens that a client got are those of its bill.
TEST_F(OfferServerTest, WhatAClientReadIsWhatItPays) {
  start();
  const std::string key = add_key("approved");
  const auto streamed = generate(key, R"("stream":true,"stream_options":{"include_usage":true})");
  const auto data = events(streamed.body);
  const Json usage = Json::parse(data[data.size() - 2])["usage"];
  auto row = wait_for_rows(1)[0];
  EXPECT_EQ(row.finish, "complete");
  EXPECT_EQ(row.tokens.output, usage["completion_tokens"]);
  const Json whole = parse(generate(key, R"("n":2,"best_of":3,"max_tokens":4)"));
  row = wait_for_rows(2)[1];
  EXPECT_EQ(row.tokens.output, whole["usage"]["completion_tokens"]);
  // The prompt alone.
  parse(generate(key, R"("max_tokens":0,"echo":true,"logprobs":1)"));
  row = wait_for_rows(3)[2];
  EXPECT_EQ(row.tokens.output, 0u);
  EXPECT_GT(row.tokens.input, 0u);
  EXPECT_GT(row.price.units, 0);
  // What failed costs nothing.
  engine.fails_steps = true;
  EXPECT_EQ(generate(key).status, 500u);
  row = wait_for_rows(4)[3];
  EXPECT_EQ(row.finish, "failed");
  EXPECT_EQ(row.price.units, 0);
}

TEST_F(OfferServerTest, TheChatIsComplimentary) {
  start();
  const std::string session = log_in("approved");
  constexpr const char* kBody =
      R"({"model":"tiny-ultraspeed","messages":[{"role":"user","content":"Hi"}],"stream":true})";
  EXPECT_EQ(outcome(ask("POST", "/api/chat/completions", session, kBody)), "409 no_chat_session");
  const Json joined = parse(ask("POST", "/api/chat/join", session));
  EXPECT_EQ(joined["state"], "active");
  EXPECT_EQ(joined["entries_left"], 9);
  const auto answer = ask("POST", "/api/chat/completions", session, kBody);
  EXPECT_EQ(answer.status, 200u);
  EXPECT_NE(answer.body.find("Hello"), std::string::npos);
  auto row = wait_for_rows(1)[0];
  EXPECT_EQ(row.price.units, 0);
  EXPECT_EQ(row.tier, "fast");
  EXPECT_GT(row.tokens.output, 0u);
  clock.advance(std::chrono::minutes(6));  // of silence
  const Json after = parse(ask("GET", "/api/chat", session));
  EXPECT_EQ(after["state"], "outside");
  EXPECT_EQ(after["last_end"], "idle");
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(parse(ask("POST", "/api/chat/join", session))["state"], "active");
    EXPECT_EQ(outcome(ask("POST", "/api/chat/leave", session)), "200");
  }
  const auto eleventh = ask("POST", "/api/chat/join", session);
  EXPECT_EQ(outcome(eleventh), "429 chat_entries_used_up");
  EXPECT_GT(std::stoi(eleventh.headers.at("retry-after")), 0);
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
