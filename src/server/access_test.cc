// Who is let in: keys, Host headers, and where a server without keys may listen.
#include <gtest/gtest.h>

#include <string>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

class AccessTest : public ServerTest {
 protected:
  net::TestResponse get_with(std::string_view path, std::string_view headers) const {
    Client client(server->port());
    client.send(fmt::format("GET {} HTTP/1.1\r\n{}\r\n", path, headers));
    return client.read_response();
  }
};

TEST_F(AccessTest, AnyOfSeveralKeysOpens) {
  options.access.api_keys = {"first-key", "second"};
  start();
  for (const char* header : {"Authorization: Bearer first-key", "Authorization: Bearer second",
                             "x-api-key: second", "api-key: first-key"}) {
    EXPECT_EQ(get_with("/v1/models", std::string(header) + "\r\n").status, 200U) << header;
  }
  for (const char* header :
       {"Authorization: Bearer first", "Authorization: Bearer second-key", "x-api-key: secon",
        "api-key: secondsecond", "api-key: ", "Authorization: second"}) {
    EXPECT_EQ(get_with("/v1/models", std::string(header) + "\r\n").status, 401U) << header;
  }
}

TEST_F(AccessTest, WithoutKeysTheHostMustBeThisMachine) {
  start();
  for (const char* host :
       {"localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.9:80", "[::1]:8000", "[::1]"}) {
    EXPECT_EQ(get_with("/v1/models", fmt::format("Host: {}\r\n", host)).status, 200U) << host;
  }
  EXPECT_EQ(get_with("/v1/models", "").status, 200U);
  expect_error(get_with("/v1/models", "Host: localhost\r\nhost: evil.example\r\n"), 400, "",
               "more than one Host");
  for (const char* host : {"evil.example", "evil.example:8000", "127.0.0.1.evil.example",
                           "localhost.evil.example", "192.168.1.1", "[::2]", "[", "x\xff"}) {
    expect_error(get_with("/v1/models", fmt::format("Host: {}\r\n", host)), 403, "host_not_allowed",
                 "--insecure");
  }
  const net::TestResponse response = get_with("/v1/messages", "Host: evil.example\r\n");
  EXPECT_EQ(parse(response)["error"]["type"], "permission_error");
}

TEST_F(AccessTest, TheBoundNameIsAHostToo) {
  options.http.host = "localhost";
  start();
  EXPECT_EQ(get_with("/health", "Host: localhost\r\n").status, 200U);
  const AccessRules rules({}, "gpu-box");
  net::HttpRequest request;
  request.peer = "127.0.0.1";
  request.headers = {{"Host", "GPU-box:8000"}};
  EXPECT_TRUE(rules.check(request, true));
  request.headers = {{"Host", "gpu-box.evil.example"}};
  EXPECT_FALSE(rules.check(request, true));
  request.peer = "";  // a socket file
  EXPECT_TRUE(rules.check(request, true));
}

TEST_F(AccessTest, KeysOrInsecureTakeAnyHost) {
  options.access.api_keys = {"secret"};
  start();
  const char* host = "Host: model.example\r\n";
  EXPECT_EQ(get_with("/v1/models", host).status, 401U);
  EXPECT_EQ(get_with("/v1/models", fmt::format("{}api-key: secret\r\n", host)).status, 200U);
  server.reset();
  options.access.api_keys = {};
  options.access.is_insecure = true;
  start();
  EXPECT_EQ(get_with("/v1/models", host).status, 200U);
}

TEST_F(AccessTest, WithoutKeysOtherMachinesAreShutOut) {
  options.http.host = "0.0.0.0";
  const Status refused = Server::check(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("--api-key"), std::string::npos);
  EXPECT_FALSE(Server::start(model, options));
  options.access.is_insecure = true;
  EXPECT_TRUE(Server::check(options));
  options.access.is_insecure = false;
  options.access.api_keys = {"secret"};
  EXPECT_TRUE(Server::check(options));
}

TEST_F(AccessTest, PagesOfOtherSitesHaveNoEffect) {
  start();
  for (const char* origin : {"https://evil.example", "null", "http://localhost:1",
                             "http://localhost.evil.example", "x"}) {
    const std::string header = fmt::format("Origin: {}\r\n", origin);
    expect_error(post("/v1/completions", completion_body(), header), 403, "origin_not_allowed",
                 "--cors-origin");
    EXPECT_EQ(get_with("/v1/models", "Host: localhost\r\n" + header).status, 200U);
    expect_error(get_with("/v1/models", "Host: localhost\r\nUpgrade: websocket\r\n" + header), 403,
                 "origin_not_allowed", "--cors-origin");
  }
  const std::string own = "Origin: http://localhost\r\n";
  net::TestResponse response = post("/v1/completions", completion_body(), own);
  EXPECT_EQ(response.status, 200U);
  EXPECT_FALSE(response.headers.contains("access-control-allow-origin"));
  EXPECT_EQ(engine.starts().size(), 1U);
}

TEST_F(AccessTest, ListedPagesSeeAnswers) {
  options.access.api_keys = {"secret"};
  options.access.cors_origins = {"https://chat.example", "app://obsidian"};
  start();
  const std::string origin = "Origin: https://chat.example\r\n";
  for (const char* fields : {"", R"("stream":true)"}) {
    net::TestResponse response =
        post("/v1/completions", completion_body(fields), origin + "api-key: secret\r\n");
    EXPECT_EQ(response.status, 200U);
    EXPECT_EQ(response.headers["access-control-allow-origin"], "https://chat.example");
    EXPECT_EQ(response.headers["vary"], "Origin");
    EXPECT_NE(response.headers["access-control-expose-headers"].find("Retry-After"),
              std::string::npos);
  }
  net::TestResponse refused = post("/v1/completions", completion_body(), origin);
  expect_error(refused, 401, "invalid_api_key", "API key");
  EXPECT_EQ(refused.headers["access-control-allow-origin"], "https://chat.example");
  refused = post("/v1/completions", completion_body(),
                 "Origin: https://chat.example.evil\r\napi-key: secret\r\n");
  expect_error(refused, 403, "origin_not_allowed", "--cors-origin");
  EXPECT_FALSE(refused.headers.contains("access-control-allow-origin"));
}

TEST_F(AccessTest, PreflightsNeedNoKey) {
  options.access.api_keys = {"secret"};
  options.access.cors_origins = {"*"};
  start();
  const std::string request =
      "OPTIONS /v1/messages HTTP/1.1\r\nHost: localhost\r\nOrigin: https://any.example\r\n"
      "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key\r\n\r\n";
  Client client(server->port());
  client.send(request);
  net::TestResponse response = client.read_head();
  EXPECT_EQ(response.status, 204U);
  EXPECT_EQ(response.headers["access-control-allow-origin"], "https://any.example");
  EXPECT_EQ(response.headers["access-control-allow-headers"], "x-api-key");
  EXPECT_EQ(response.headers["access-control-allow-methods"], "GET, HEAD, POST, DELETE");
  EXPECT_FALSE(response.headers.contains("content-length"));
  client.get("/health");  // the connection goes on
  EXPECT_EQ(client.read_response().status, 200U);
  Client plain(server->port());
  plain.send("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(plain.read_response().status, 401U);
}

TEST_F(AccessTest, PreflightsOfOtherPagesAreRefused) {
  options.access.cors_origins = {"https://chat.example"};
  start();
  Client client(server->port());
  client.send(
      "OPTIONS /v1/messages HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 403U);
}

net::AddressRange range(const char* text) {
  return net::AddressRange::parse(text).value();
}

TEST(ClientAddress, IsWhatTrustedProxiesSay) {
  AccessOptions options;
  options.trusted_proxies = {range("127.0.0.1"), range("10.0.0.0/8")};
  const AccessRules rules(options, "localhost");
  const auto client = [&rules](const char* peer, std::vector<net::Header> headers) {
    net::HttpRequest request;
    request.peer = peer;
    request.headers = std::move(headers);
    return rules.client_address(request);
  };
  const std::string name = "X-Forwarded-For";
  EXPECT_EQ(client("192.0.2.1", {{name, "1.1.1.1"}}), "192.0.2.1");  // no proxy of ours
  EXPECT_EQ(client("127.0.0.1", {}), "127.0.0.1");
  EXPECT_EQ(client("127.0.0.1", {{name, "1.1.1.1"}}), "1.1.1.1");
  EXPECT_EQ(client("127.0.0.1", {{name, "6.6.6.6, 1.1.1.1"}}), "1.1.1.1");  // the client's own
  EXPECT_EQ(client("127.0.0.1", {{name, "6.6.6.6"}, {"x-forwarded-for", "1.1.1.1"}}), "1.1.1.1");
  EXPECT_EQ(client("127.0.0.1", {{name, "1.1.1.1 , 10.1.2.3"}}), "1.1.1.1");
  EXPECT_EQ(client("127.0.0.1", {{name, "1.1.1.1:4711"}}), "1.1.1.1");
  EXPECT_EQ(client("127.0.0.1", {{name, "[2001:db8::1]:80"}}), "2001:db8::1");
  EXPECT_EQ(client("127.0.0.1", {{name, "2001:db8::1"}}), "2001:db8::1");
  for (const char* broken : {"", "unknown", "1.1.1.1,", "1.1.1.1, x\n", ",", " "}) {
    EXPECT_EQ(client("127.0.0.1", {{name, broken}}), "127.0.0.1") << broken;
  }
  EXPECT_EQ(client("", {{name, "1.1.1.1"}}), "unix");
  options.trusts_socket_file = true;
  net::HttpRequest request;
  request.headers = {{name, "1.1.1.1"}};
  EXPECT_EQ(AccessRules(options, "localhost").client_address(request), "1.1.1.1");
}

TEST_F(AccessTest, TheLogNamesTheClient) {
  options.access.trusted_proxies = {range("127.0.0.1")};
  start();
  get("/v1/models");
  get_with("/v1/models", "X-Forwarded-For: 192.0.2.7\r\n");
  server->stop(0);
  const auto lines = log_lines();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].find(" client=127.0.0.1 "), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find(" client=192.0.2.7 "), std::string::npos) << lines[1];
}

TEST_F(AccessTest, AClientHasItsPlacesAndNoMore) {
  engine.is_endless = true;
  engine.reply = test_ids("more ");
  engine.step_delay_us = 500;
  engine.context = 1'000'000;
  options.access.api_keys = {"one", "two"};
  options.access.max_concurrent_per_key = 2;
  start();
  const std::string body = completion_body(R"("stream":true)");
  Client first(server->port());
  first.post("/v1/completions", body, "api-key: one\r\n");
  net::TestResponse head = first.read_head();
  EXPECT_EQ(head.headers["x-ratelimit-limit-requests"], "2");
  EXPECT_EQ(head.headers["x-ratelimit-remaining-requests"], "1");
  Client second(server->port());
  second.post("/v1/completions", body, "Authorization: Bearer one\r\n");
  EXPECT_EQ(second.read_head().headers["x-ratelimit-remaining-requests"], "0");
  net::TestResponse refused = post("/v1/completions", body, "api-key: one\r\n");
  expect_error(refused, 429, "rate_limit_exceeded", "You have 2 requests under way");
  EXPECT_EQ(refused.headers["retry-after"], "2");
  EXPECT_EQ(refused.headers["x-ratelimit-remaining-requests"], "0");
  EXPECT_EQ(get_with("/v1/models", "api-key: one\r\n").status, 200U);
  Client other(server->port());
  other.post("/v1/messages",
             R"({"model":"tiny","max_tokens":99,"stream":true,"messages":[{"role":"user",)"
             R"("content":"Hi"}]})",
             "x-api-key: two\r\n");
  head = other.read_head();
  EXPECT_EQ(head.status, 200U);
  EXPECT_EQ(head.headers["anthropic-ratelimit-requests-remaining"], "1");
  first.close();
  unsigned status = 0;
  for (int i = 0; i < 100 && status != 200; ++i) {  // the place comes free
    Client next(server->port());
    next.post("/v1/completions", body, "api-key: one\r\n");
    status = next.read_head().status;
  }
  EXPECT_EQ(status, 200U);
}

TEST_F(AccessTest, WithoutALimitTheHeadersAreOfTheQueue) {
  options.max_queue = 5;
  start();
  net::TestResponse response = complete();
  EXPECT_EQ(response.headers["x-ratelimit-limit-requests"], "5");
  EXPECT_EQ(response.headers["x-ratelimit-remaining-requests"], "5");
}

TEST(CorsOrigins, AreWithoutAPath) {
  for (const char* text : {"*", "null", "https://chat.example", "http://localhost:3000",
                           "vscode-webview://abc", "http://[::1]:80"}) {
    EXPECT_TRUE(is_cors_origin(text)) << text;
  }
  for (const char* text : {"", "chat.example", "https://", "https://chat.example/", "://x",
                           "https://*.example", "https://a b"}) {
    EXPECT_FALSE(is_cors_origin(text)) << text;
  }
}

TEST_F(AccessTest, KeysArePartOfNoLog) {
  options.access.api_keys = {"my-secret-key"};
  start();
  get_with("/v1/models?key=my-secret-key", "api-key: my-secret-key\r\n");
  get_with("/v1/models", "api-key: my-secret-kez\r\n");
  server->stop(0);
  ASSERT_EQ(log_lines().size(), 2U);
  EXPECT_EQ(log_.str().find("my-secret"), std::string::npos) << log_.str();
}

}  // namespace
}  // namespace ultraspeed::server
