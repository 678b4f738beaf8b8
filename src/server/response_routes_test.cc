// Stored responses through the whole server: read, list, delete.
#include <gtest/gtest.h>

#include <string>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

class ResponseRoutesTest : public ServerTest {
 protected:
  Json respond(std::string_view fields) const {
    return parse(post("/v1/responses", fmt::format(R"({{"model":"tiny",{}}})", fields)));
  }
  net::TestResponse remove(const std::string& target) const {
    Client client(server->port());
    client.send(fmt::format("DELETE {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target));
    return client.read_response();
  }
  static std::string path(const Json& response) {
    return fmt::format("/v1/responses/{}", response["id"].get<std::string>());
  }
};

TEST_F(ResponseRoutesTest, ReadsAndDeletes) {
  start();
  const Json response = respond(R"("input":"Hi")");
  EXPECT_EQ(parse(get(path(response))), response);
  EXPECT_EQ(parse(get(path(response) + "?include=x")), response);
  expect_error(get(path(response) + "?stream=true"), 400, "unsupported_value", "not streamed");
  EXPECT_EQ(parse(remove(path(response))),
            Json({{"id", response["id"]}, {"object", "response"}, {"deleted", true}}));
  expect_error(get(path(response)), 404, "response_not_found", "is stored");
  expect_error(get(path(response) + "?stream=true"), 404, "response_not_found", "is stored");
  expect_error(remove(path(response)), 404, "response_not_found", "is stored");
  expect_error(get(path(response) + "/input_items"), 404, "response_not_found", "is stored");
}

TEST_F(ResponseRoutesTest, OddPathsAreIds) {
  start();
  expect_error(get("/v1/responses/input_items"), 404, "response_not_found", "is stored");
  expect_error(get("/v1/responses//input_items"), 404, "response_not_found", "is stored");
}

TEST_F(ResponseRoutesTest, KeysSeeTheirOwnAlone) {
  options.access.api_keys = {"aaa", "bbb"};
  start();
  const auto ask = [this](std::string_view key, std::string_view fields) {
    return post("/v1/responses", fmt::format(R"({{"model":"tiny",{}}})", fields),
                fmt::format("Authorization: bearer {}\r\n", key));
  };
  const Json response =
      parse(ask("aaa", R"("input":[{"id":"msg_1","role":"user","content":"x"}])"));
  const std::string next =
      fmt::format(R"("input":"y","previous_response_id":{})", response["id"].dump());
  EXPECT_EQ(ask("aaa", next).status, 200u);
  expect_error(ask("bbb", next), 400, "previous_response_not_found", "not stored");
  const std::string reference = R"("input":[{"type":"item_reference","id":"msg_1"}])";
  EXPECT_EQ(ask("aaa", reference).status, 200u);
  EXPECT_EQ(ask("bbb", reference).status, 400u);
}

TEST_F(ResponseRoutesTest, StoreFalseLeavesNothing) {
  start();
  const Json response = respond(R"("input":"Hi","store":false)");
  EXPECT_EQ(response["store"], false);
  expect_error(get(path(response)), 404, "response_not_found", "is stored");
}

TEST_F(ResponseRoutesTest, ListsInputItems) {
  start();
  const Json response = respond(R"("input":[{"id":"a","role":"user","content":"1"},
      {"id":"b","role":"user","content":"2"},{"id":"c","role":"user","content":"3"}])");
  const auto list = [&](std::string_view query) {
    return parse(get(path(response) + "/input_items" + std::string(query)));
  };
  const auto ids = [](const Json& page) {
    std::string all;
    for (const Json& item : page["data"]) all += item["id"].get<std::string>();
    return all;
  };
  const Json all = list("");
  EXPECT_EQ(all["object"], "list");
  EXPECT_EQ(ids(all), "cba");
  EXPECT_EQ(all["first_id"], "c");
  EXPECT_EQ(all["last_id"], "a");
  EXPECT_EQ(all["has_more"], false);
  EXPECT_EQ(all["data"][2]["content"], Json::parse(R"([{"type":"input_text","text":"1"}])"));
  const Json page = list("?order=asc&limit=2");
  EXPECT_EQ(ids(page), "ab");
  EXPECT_EQ(page["has_more"], true);
  EXPECT_EQ(ids(list("?after=b&order=asc")), "c");
  EXPECT_EQ(ids(list("?after=c&order=asc&limit=1")), "");
  for (const char* query : {"?limit=0", "?limit=101", "?limit=x", "?order=up", "?after=z"}) {
    expect_error(get(path(response) + "/input_items" + query), 400, "invalid_value", "'");
  }
}

TEST_F(ResponseRoutesTest, Methods) {
  start();
  const net::TestResponse posted = post("/v1/responses/resp_1", "{}");
  expect_error(posted, 405, "method_not_allowed", "takes GET, DELETE");
  EXPECT_EQ(posted.headers.at("allow"), "GET, DELETE");
  expect_error(remove("/v1/responses/resp_1/input_items"), 405, "method_not_allowed", "takes GET.");
  expect_error(remove("/v1/models"), 405, "method_not_allowed", "takes GET.");
}

}  // namespace
}  // namespace ultraspeed::server
