// WebSockets over real loopback sockets: messages, limits, pings, and every way in which one ends.
#include "net/web_socket.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "net/test_server.h"
#include "net/test_web_socket.h"

namespace ultraspeed::net {
namespace {

// Answers each message with itself; "many" with messages without end, "close" with a close.
class EchoSocket final : public WebSocketHandler {
 public:
  void on_open(std::weak_ptr<WebSocket> opened) override { socket = std::move(opened); }
  void on_message(std::string text) override {
    const auto open = socket.lock();
    if (open == nullptr) return;
    if (text == "close") return open->close(CloseCode::kPolicyViolation, "as you wish");
    const int count = text == "many" ? 10000 : 1;
    for (int i = 0; i < count; ++i) open->send(count == 1 ? text : std::string(1000, 'x'));
  }
  void on_close(CloseReason reason) override {
    ++num_closed;
    closed.set(reason);
  }

  std::weak_ptr<WebSocket> socket;
  std::atomic<int> num_closed = 0;
  Awaited<CloseReason> closed;
};

class UpgradingHandler final : public HttpHandler {
 public:
  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override {
    if (!request.wants_web_socket) return writer->send({200, {}, "plain"});
    if (request.path() == "/no") return writer->send({403, {}, "no"});
    writer->upgrade(echo, {{"X-Test", "yes"}});
  }
  HttpResponse error_response(const HttpRequest&, unsigned status,
                              std::string_view message) override {
    return {status, {}, std::string(message)};
  }

  std::shared_ptr<EchoSocket> echo = std::make_shared<EchoSocket>();
};

class WebSocketTest : public ServerWithHandler<UpgradingHandler> {
 protected:
  TestWebSocket connect() const { return TestWebSocket(server->port(), "/"); }
  void expect_closed(CloseReason expected) {
    CloseReason reason{};
    ASSERT_TRUE(handler.echo->closed.wait(&reason)) << "the handler was not told";
    EXPECT_EQ(reason, expected);
    EXPECT_EQ(handler.echo->num_closed, 1);
  }
};

TEST_F(WebSocketTest, EchoesMessages) {
  start_server();
  TestWebSocket socket = connect();
  EXPECT_EQ(socket.handshake().status, 101U);
  EXPECT_EQ(socket.handshake().headers.at("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  EXPECT_EQ(socket.handshake().headers.at("x-test"), "yes");
  for (const size_t size : std::vector<size_t>{1, 125, 126, 65535, 65536, 300000}) {
    const std::string text(size, 'a');
    socket.send(text);
    EXPECT_EQ(socket.read(), text);
  }
  socket.send_frame(TestWebSocket::kText, "in two ", false);
  socket.send_frame(TestWebSocket::kPing, "between");
  socket.send_frame(0, "frames");
  const auto pong = socket.read_frame();
  ASSERT_TRUE(pong);
  EXPECT_EQ(pong->opcode, TestWebSocket::kPong);
  EXPECT_EQ(pong->payload, "between");
  EXPECT_EQ(socket.read(), "in two frames");
  socket.send_frame(TestWebSocket::kClose, "\x03\xE8");
  EXPECT_EQ(socket.read_close(), 1000);
  EXPECT_TRUE(socket.client().read_eof());
  socket.client().close();
  expect_closed(CloseReason::kClientClosed);
}

// The request is answered as any other; the connection goes on.
TEST_F(WebSocketTest, RefusedUpgrades) {
  start_server();
  TestWebSocket socket(server->port(), "/no");
  EXPECT_EQ(socket.handshake().status, 403U);
  EXPECT_EQ(socket.client().read_bytes(2), "no");
  socket.client().get("/");
  EXPECT_EQ(socket.client().read_response().body, "plain");
  TestClient old(server->port());
  old.send(
      "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  EXPECT_EQ(old.read_head().status, 426U);
  expect_closed(CloseReason::kClientClosed);
}

// A frame may come in the same packet as the request.
TEST_F(WebSocketTest, ReadsWhatFollowsTheRequest) {
  start_server();
  TestClient client(server->port());
  client.send(
      "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      "\x81\x82\x01\x01\x01\x01ih");
  EXPECT_EQ(client.read_head().status, 101U);
  EXPECT_EQ(client.read_bytes(4), "\x81\x02hi");
}

TEST_F(WebSocketTest, WhatIsWrongIsClosedWithItsCode) {
  options.max_body_bytes = 1000;
  struct Case {
    uint8_t opcode;
    std::string payload;
    uint16_t code;
  };
  for (const Case& wrong :
       {Case{TestWebSocket::kText, std::string(1001, 'x'), 1009},
        Case{TestWebSocket::kText, "\xC3\x28", 1007}, Case{TestWebSocket::kBinary, "bytes", 1003},
        Case{3, "reserved", 1002}}) {
    handler.echo = std::make_shared<EchoSocket>();
    start_server();
    TestWebSocket socket = connect();
    socket.send("first");
    EXPECT_EQ(socket.read(), "first");
    socket.send_frame(wrong.opcode, wrong.payload);
    EXPECT_EQ(socket.read_close(), wrong.code);
    socket.client().close();
    CloseReason reason{};
    EXPECT_TRUE(handler.echo->closed.wait(&reason)) << wrong.code;
  }
}

TEST_F(WebSocketTest, SeesTheClientHangUp) {
  start_server();
  {
    TestWebSocket socket = connect();
    socket.send("hi");
    EXPECT_EQ(socket.read(), "hi");
    socket.client().reset();
  }
  expect_closed(CloseReason::kClientClosed);
}

TEST_F(WebSocketTest, ServerCloses) {
  start_server();
  TestWebSocket socket = connect();
  socket.send("first");
  socket.send("close");
  EXPECT_EQ(socket.read(), "first");
  EXPECT_EQ(socket.read_close(), 1008);
  socket.send_frame(TestWebSocket::kClose, "\x03\xF0");
  EXPECT_TRUE(socket.client().read_eof());
  expect_closed(CloseReason::kServerStopped);
}

// A client that does not answer a close is not waited for.
TEST_F(WebSocketTest, StopsWithTheServer) {
  start_server();
  TestWebSocket socket = connect();
  socket.send("hi");
  EXPECT_EQ(socket.read(), "hi");
  server->stop(500);
  EXPECT_EQ(socket.read_close(), 1001);
  EXPECT_TRUE(socket.client().read_eof());
  expect_closed(CloseReason::kServerStopped);
}

TEST_F(WebSocketTest, SlowReadersAreDropped) {
  options.max_queued_bytes = 100'000;
  start_server();
  TestWebSocket socket = connect();
  socket.send("many");
  expect_closed(CloseReason::kSlowReader);
}

TEST_F(WebSocketTest, SlowWritersAreClosed) {
  options.body_timeout_ms = 100;
  start_server();
  TestWebSocket socket = connect();
  socket.send_frame(TestWebSocket::kText, "begin", false);
  EXPECT_EQ(socket.read_close(), 1008);
}

TEST_F(WebSocketTest, MessagesThatArriveCount) {
  options.max_unread_bytes = 100'000;
  start_server();
  TestWebSocket first = connect();
  first.send_frame(TestWebSocket::kText, std::string(70'000, 'x'), false);
  TestWebSocket second = connect();
  second.send_frame(TestWebSocket::kText, std::string(70'000, 'x'), false);
  const uint16_t code = second.read_close();
  EXPECT_EQ(code, 1013);
}

TEST_F(WebSocketTest, PingsAndClosesTheSilent) {
  options.keepalive_interval_ms = 50;
  options.web_socket_idle_timeout_ms = 400;
  start_server();
  TestWebSocket socket = connect();
  const auto ping = socket.read_frame();
  ASSERT_TRUE(ping);
  EXPECT_EQ(ping->opcode, TestWebSocket::kPing);
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(600)) {
    const auto next = socket.read_frame();  // as long as it answers, it is not idle
    ASSERT_TRUE(next && next->opcode == TestWebSocket::kPing);
    socket.send_frame(TestWebSocket::kPong, next->payload);
  }
  EXPECT_EQ(socket.read_close(), 1001);
}

}  // namespace
}  // namespace ultraspeed::net
