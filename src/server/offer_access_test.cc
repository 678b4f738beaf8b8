// The trial's window, sessions of the page, keys and their limits; what one account may see of
// another's.
#include <future>
#include <mutex>
#include <thread>

#include "access/database.h"
#include "server/offer_fixture.h"

namespace ultraspeed::server {
namespace {

using access::kPassword;
using std::chrono::hours;

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

TEST_F(OfferServerTest, FieldsThatMeanNothingAreRefused) {
  start();
  const std::string user = log_in("approved"), admin = log_in("admin");
  EXPECT_EQ(outcome(ask("POST", "/api/keys", user, R"({"name":"k","budget":"1"})")),
            "400 invalid_value");
  const auto made = [&](std::string_view fields) {
    return ask("POST", "/api/admin/keys", admin,
               fmt::format(R"({{"account":"approved","name":"k"{}}})", fields));
  };
  EXPECT_EQ(outcome(made(R"(,"limit":1)")), "400 invalid_value");
  EXPECT_EQ(outcome(made(R"(,"plan_tokens":1000)")), "400 invalid_request");  // of no plan
  EXPECT_EQ(outcome(made(R"(,"requests_per_minute":-1)")), "400 invalid_value");
  const Json key = parse(made(R"(,"requests_per_minute":1,"tokens_per_minute":2,)"
                              R"("max_concurrent":3,"budget":"4.5","expires_days":1)"))["key"];
  EXPECT_EQ(key["limits"]["requests_per_minute"], 1);
  EXPECT_EQ(key["limits"]["tokens_per_minute"], 2);
  EXPECT_EQ(key["limits"]["max_concurrent"], 3);
  EXPECT_EQ(key["limits"]["budget"], "4.5");
  EXPECT_EQ(key["expires"], access::utc_text(clock.now() + hours(24)));
}

TEST_F(OfferServerTest, WhatGeneratesNothingCountsAsARequest) {
  config.limits.requests_per_minute = 3;
  open_service();
  start();
  access::KeySpec spec;
  spec.limits = config.limits;
  const std::string pending = bearer(add_key("pending", spec));
  for (const char* wanted : {"200", "200", "200", "429 too_many_requests"}) {
    EXPECT_EQ(outcome(ask("POST", "/tokenize", pending, R"({"prompt":"x"})")), wanted);
  }
  EXPECT_EQ(outcome(ask("GET", "/v1/models", pending)), "200");
}

// Whoever has many made delays nobody else's.
TEST_F(OfferServerTest, AnAccountHasOneReportAtATime) {
  start();
  const std::string user = log_in("approved"), other = log_in("other");
  std::promise<void> has_begun, is_over;
  std::thread scan([&] {
    EXPECT_TRUE(service->database().report([&](SQLite::Database&) -> Status {
      has_begun.set_value();
      is_over.get_future().wait();
      return {};
    }));
  });
  has_begun.get_future().wait();
  std::mutex mutex;
  std::vector<std::string> outcomes;  // of two reports, in the order in which they are answered
  const auto num_answered = [&] {
    const std::lock_guard lock(mutex);
    return outcomes.size();
  };
  const auto report = [&] {
    const std::string found = outcome(ask("GET", "/api/usage.csv", user));
    const std::lock_guard lock(mutex);
    outcomes.push_back(found);
  };
  std::thread first(report), second(report);
  while (num_answered() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(outcome(ask("GET", "/api/keys", other)), "200");
  EXPECT_EQ(num_answered(), 1U);
  is_over.set_value();
  for (std::thread* thread : {&scan, &first, &second}) thread->join();
  EXPECT_EQ(outcomes, (std::vector<std::string>{"429 report_under_way", "200"}));
  EXPECT_EQ(outcome(ask("GET", "/api/usage.csv", user)), "200");
}

TEST_F(OfferServerTest, WhoMayNotGenerateIsNotRead) {
  config.limits.requests_per_minute = 2;
  open_service();
  start();
  access::KeySpec spec;
  spec.limits = config.limits;
  // Not even that this is no JSON is seen.
  EXPECT_EQ(outcome(ask("POST", "/v1/completions", bearer(add_key("pending", spec)), "{")),
            "403 application_pending");
  const std::string key = bearer(add_key("approved", spec));
  EXPECT_EQ(outcome(ask("POST", "/v1/completions", key, "{")), "400 invalid_json");
  EXPECT_EQ(outcome(ask("POST", "/v1/completions", key, "{")), "400 invalid_json");
  EXPECT_EQ(outcome(ask("POST", "/v1/completions", key, "{")), "429 too_many_requests");
}

TEST_F(OfferServerTest, CookiesAreForTlsBehindAProxyThatSaysSo) {
  const auto cookie = [&] {
    return ask("POST", "/api/login", "X-Forwarded-Proto: https\r\n",
               fmt::format(R"({{"name":"other","password":"{}"}})", access::kPassword))
        .headers.at("set-cookie");
  };
  start();
  EXPECT_EQ(cookie().find("Secure"), std::string::npos);  // anybody may say so
  options.access.trusted_proxies = {*net::AddressRange::parse("127.0.0.1")};
  start();
  EXPECT_NE(cookie().find("; Secure"), std::string::npos);
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
  const Json entries = parse(ask("GET", "/api/admin/audit", admin))["entries"];
  const int64_t newest = entries[0]["id"];
  const Json older = parse(ask("GET", fmt::format("/api/admin/audit?before={}", newest), admin));
  EXPECT_EQ(older["entries"][0], entries[1]);
  EXPECT_EQ(older["entries"].size(), entries.size() - 1);
  const std::string audit = entries.dump();
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
