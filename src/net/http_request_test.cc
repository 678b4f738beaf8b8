// Requests as clients and attackers send them: framing, limits, timeouts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/test_client.h"
#include "net/test_server.h"

namespace ultraspeed::net {
namespace {

class HttpRequestTest : public HttpServerTest {
 protected:
  // The answer to `bytes` on a fresh connection, which the server must then close.
  TestResponse refused(std::string_view bytes) {
    TestClient client(server->port());
    client.send(bytes);
    TestResponse response = client.read_response();
    EXPECT_EQ(response.headers["connection"], "close");
    EXPECT_TRUE(client.read_eof());
    return response;
  }
};

TEST_F(HttpRequestTest, AnswersSeveralRequestsOnOneConnection) {
  start_server();
  TestClient client(server->port());
  for (int i = 0; i < 3; ++i) {
    client.post("/echo?query=1", fmt::format("body {}", i));
    TestResponse response = client.read_response();
    EXPECT_EQ(response.status, 200U);
    EXPECT_EQ(response.body, fmt::format("POST /echo body {}", i));
    EXPECT_EQ(response.headers["x-test"], "yes");
    EXPECT_TRUE(response.headers.contains("date"));
    EXPECT_FALSE(response.headers.contains("connection"));
  }
}

TEST_F(HttpRequestTest, HeadHasLengthAndNoBody) {
  start_server();
  TestClient client(server->port());
  client.send("HEAD /echo HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.read_response(true).headers["content-length"], "11");
  client.get("/echo");  // would fail if a body had been sent
  EXPECT_EQ(client.read_response().body, "GET /echo ");
}

TEST_F(HttpRequestTest, HandsOverPathAndHeaders) {
  start_server();
  TestClient client(server->port());
  client.send("GET /a%2Fb%zz%4?c=%20 HTTP/1.1\r\nX-One: 1\r\nx-two:  two \r\n\r\n");
  const auto held = hold();
  EXPECT_EQ(held.request.target, "/a%2Fb%zz%4?c=%20");
  EXPECT_EQ(held.request.path(), "/a/b%zz%4");
  EXPECT_EQ(held.request.header("x-ONE"), "1");
  EXPECT_EQ(held.request.header("X-Two"), "two");
  EXPECT_EQ(held.request.header("x-three"), "");
}

TEST_F(HttpRequestTest, ReadsChunkedBodySplitAnywhere) {
  start_server();
  const std::string request =
      "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3;name=value\r\nabc\r\n5\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n";
  TestClient client(server->port());
  for (size_t split = 1; split < request.size(); ++split) {
    client.send(request.substr(0, split));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    client.send(request.substr(split));
    ASSERT_EQ(client.read_response().body, "POST /echo abcdefgh") << "split at " << split;
  }
  const std::string empty = "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  for (const char byte : request + empty) {
    client.send(std::string_view(&byte, 1));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  EXPECT_EQ(client.read_response().body, "POST /echo abcdefgh");
  EXPECT_EQ(client.read_response().body, "POST /echo ");
}

TEST_F(HttpRequestTest, ReadsLargeBody) {
  start_server();
  const std::string body(options.max_body_bytes, 'x');
  TestClient client(server->port());
  client.post("/echo", body);
  EXPECT_EQ(client.read_response().body, "POST /echo " + body);
}

TEST_F(HttpRequestTest, AnswersPipelinedRequestsInOrder) {
  start_server();
  TestClient client(server->port());
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += fmt::format("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{:02}", i);
  }
  client.send(requests);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(client.read_response().body, fmt::format("POST /echo {:02}", i));
  }
}

TEST_F(HttpRequestTest, PipelinedGarbageDoesNotDisturbTheAnswerBeforeIt) {
  start_server();
  TestClient client(server->port());
  client.send("GET /held HTTP/1.1\r\n\r\n\x01\x02garbage\r\n\r\n");
  auto held = hold();
  held.writer->send({200, {}, "first"});
  EXPECT_EQ(client.read_response().body, "first");
  EXPECT_EQ(client.read_response().status, 400U);
  EXPECT_TRUE(client.read_eof());
}

TEST_F(HttpRequestTest, PipelinedFloodWaitsForTheAnswerBeforeIt) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  auto held = hold();
  const std::string body(options.max_header_bytes * 4, 'x');
  std::thread sender([&] { client.post("/echo", body); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  held.writer->send({200, {}, "first"});
  sender.join();
  EXPECT_EQ(client.read_response().body, "first");
  EXPECT_EQ(client.read_response().body, "POST /echo " + body);
}

TEST_F(HttpRequestTest, RefusesMalformedRequests) {
  start_server();
  for (const char* bytes : {
           "GARBAGE\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n",
           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
           "GET / HTTP/1.1\r\nA: b\n\r\n", "POST / HTTP/1.1\r\nContent-Length: two\r\n\r\n",
           "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
           "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
           "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  // a TLS client hello
       }) {
    const TestResponse response = refused(bytes);
    EXPECT_EQ(response.status, 400U) << bytes;
    EXPECT_TRUE(response.body.starts_with("error: malformed HTTP: ")) << response.body;
  }
  for (const char* bytes :
       {"GET /known HTTP/1.1\r\nNo colon\r\n\r\n", "GET /known HTTP/3.0\r\n\r\n"}) {
    EXPECT_EQ(refused(bytes).headers["x-target"], "/known");
  }
  EXPECT_EQ(refused("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n").status, 501U);
}

TEST_F(HttpRequestTest, RefusesLargeHeaders) {
  options.max_header_bytes = 2000;
  start_server();
  const std::string large(3000, 'a');
  EXPECT_EQ(refused("GET /" + large).status, 431U);
  EXPECT_EQ(refused("GET / HTTP/1.1\r\nA: " + large + "\r\n\r\n").status, 431U);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 200; ++i) many += fmt::format("Header-{}: value\r\n", i);
  EXPECT_EQ(refused(many + "\r\n").status, 431U);

  TestClient client(server->port());
  for (size_t i = 0; i < many.size(); i += 50) {
    client.send(many.substr(i, 50));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(client.read_response().status, 431U);

  EXPECT_EQ(refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + large).status,
            400U);
}

TEST_F(HttpRequestTest, RefusesLargeBodies) {
  options.max_body_bytes = 1000;
  start_server();
  const std::string large(2000, 'a');
  const std::string head = "POST / HTTP/1.1\r\n";
  EXPECT_EQ(refused(head + "Content-Length: 1001\r\n\r\n").status, 413U);
  EXPECT_EQ(refused(head + "Content-Length: 2000\r\n\r\n" + large).status, 413U);
  EXPECT_EQ(refused(head + "Content-Length: 99999999999999999999\r\n\r\n").status, 400U);
  EXPECT_EQ(
      refused(head + "Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + large + "\r\n0\r\n\r\n").status,
      413U);
  const std::string chunk = "258\r\n" + std::string(600, 'b') + "\r\n";
  EXPECT_EQ(refused(head + "Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk).status, 413U);
}

// What fills the input is the body, not the header.
TEST_F(HttpRequestTest, TellsLargeBodiesFromLargeHeaders) {
  options.max_header_bytes = 1000;
  options.max_body_bytes = 1500;
  start_server();
  const std::string large(3000, 'a');
  const std::string head = "POST / HTTP/1.1\r\n";
  EXPECT_EQ(refused(head + "Content-Length: 3000\r\n\r\n" + large).status, 413U);
  EXPECT_EQ(refused(head + "Content-Length: two\r\n\r\n" + large).status, 400U);
  EXPECT_EQ(refused(head + "A: " + large + "\r\nContent-Length: 3000\r\n\r\n").status, 431U);
}

TEST_F(HttpRequestTest, BoundsWhatArrivesAtOnce) {
  options.max_unread_bytes = 3000;
  start_server();
  const std::string head = "POST /echo HTTP/1.1\r\nContent-Length: 2500\r\n\r\n";
  TestClient slow(server->port());
  slow.send(head + std::string(2000, 'a'));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(refused(head + std::string(2000, 'b')).status, 503U);
  slow.send(std::string(500, 'a'));
  EXPECT_EQ(slow.read_response().status, 200U);
  {
    TestClient leaves(server->port());
    leaves.send(head + std::string(2000, 'c'));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  slow.send(head + std::string(2500, 'a'));  // neither of the others counts any more
  EXPECT_EQ(slow.read_response().status, 200U);
}

TEST_F(HttpRequestTest, SendsContinueWhenAsked) {
  start_server();
  TestClient client(server->port());
  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.read_line(), "HTTP/1.1 100 Continue");
  EXPECT_EQ(client.read_line(), "");
  client.send("body");
  EXPECT_EQ(client.read_response().body, "POST /echo body");

  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 413U);
}

TEST_F(HttpRequestTest, SlowRequestsTimeOut) {
  options.header_timeout_ms = 300;
  options.body_timeout_ms = 300;
  start_server();
  EXPECT_EQ(refused("GET / HTT").status, 408U);
  EXPECT_EQ(refused("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").status, 408U);

  TestClient drip(server->port());
  for (int i = 0; i < 20; ++i) {  // a byte now and then does not extend the time
    drip.send("G");
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  EXPECT_EQ(drip.read_response().status, 408U);
}

TEST_F(HttpRequestTest, IdleConnectionsAreClosedWithoutAnAnswer) {
  options.idle_timeout_ms = 500;
  start_server();
  TestClient silent(server->port());
  EXPECT_EQ(silent.read_line(), "");
  TestClient client(server->port());
  client.get("/echo");
  EXPECT_EQ(client.read_response().status, 200U);
  EXPECT_EQ(client.read_line(), "");
}

TEST_F(HttpRequestTest, TruncatedBodyNeverReachesTheHandler) {
  start_server();
  {
    TestClient client(server->port());
    client.send("POST /held HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
  }
  TestHandler::Held held;
  EXPECT_FALSE(handler.held.wait(&held, 100));
  TestClient client(server->port());
  client.get("/echo");
  EXPECT_EQ(client.read_response().status, 200U);
}

TEST_F(HttpRequestTest, AboveTheLimitWhoHasWaitedLongestGoes) {
  options.max_connections = 2;
  start_server();
  TestClient first(server->port()), second(server->port());
  for (TestClient* client : {&first, &second, &first}) {  // the second one waits since longer
    client->get("/echo");
    EXPECT_EQ(client->read_response().status, 200U);
  }
  TestClient third(server->port());
  third.get("/echo");
  EXPECT_EQ(third.read_response().status, 200U);
  EXPECT_TRUE(second.read_eof());
  first.get("/echo");
  EXPECT_EQ(first.read_response().status, 200U);
}

TEST_F(HttpRequestTest, AboveTheLimitOfAnswersUnderWayOthersAreRefused) {
  options.max_connections = 2;
  start_server();
  std::list<TestHandler::Held> held;
  auto first = std::make_unique<TestClient>(server->port());
  TestClient second(server->port());
  for (TestClient* client : {first.get(), &second}) {
    client->get("/held");
    held.push_back(hold());
  }
  {
    TestClient third(server->port());
    third.get("/echo");
    EXPECT_EQ(third.read_response().status, 503U);
    EXPECT_TRUE(third.read_eof());
  }
  first.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  TestClient fourth(server->port());
  fourth.get("/echo");
  EXPECT_EQ(fourth.read_response().status, 200U);
}

TEST_F(HttpRequestTest, ConnectionCloseIsHonoured) {
  start_server();
  for (const char* request :
       {"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n", "GET /echo HTTP/1.0\r\n\r\n"}) {
    const TestResponse response = refused(request);
    EXPECT_EQ(response.status, 200U);
  }
  TestClient client(server->port());
  for (int i = 0; i < 2; ++i) {
    client.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(client.read_response().headers["connection"], "keep-alive");
  }
}

}  // namespace
}  // namespace ultraspeed::net
