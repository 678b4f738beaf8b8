// The server with accounts, by a clock that tests turn, over real loopback sockets.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "access/test_support.h"
#include "server/server_fixture.h"

namespace ultraspeed::server {

class OfferServerTest : public ServerTest {
 protected:
  OfferServerTest() {
    config.max_requests_in_flight = 200;
    config.floods.failed_logins_per_address = config.floods.failed_logins_per_name = 1000;
    config.floods.applications_per_minute = 1000;
    config.floods.applications_per_address_and_hour = 1000;
    model.fast_name = "tiny-ultraspeed";
    clock.set(config.window.begin(config.calendar) + std::chrono::hours(30));
    open_service();
    options.access.has_accounts = true;
    access::value_of(service->accounts().create_administrator("admin", access::kPassword));
    for (const char* name : {"approved", "other", "pending", "declined"}) {
      const auto made =
          access::value_of(service->applications().submit({name, access::kPassword, "", name}));
      if (name == std::string("pending")) continue;
      const auto state = name == std::string("declined") ? access::ApplicationState::kDeclined
                                                         : access::ApplicationState::kApproved;
      access::value_of(service->applications().decide(made.id, state, "admin", ""));
    }
  }
  // Again, with what `config` says now.
  void open_service() {
    server.reset();
    service.reset();
    service = access::value_of(access::Service::open(
        config, clock, [](const Error& error) { ADD_FAILURE() << error.message; }));
    options.service = service.get();
  }
  ~OfferServerTest() override {
    server.reset();
    service.reset();
  }

  std::string add_key(const std::string& account, access::KeySpec spec = {}) {
    spec.account = account;
    spec.name = "test";
    return access::value_of(service->keys().create(spec, "admin", {100})).secret;
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
    const auto response =
        ask("POST", "/api/login", "",
            fmt::format(R"({{"name":"{}","password":"{}"}})", name, access::kPassword));
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

}  // namespace ultraspeed::server
