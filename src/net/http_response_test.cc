// Answers: streams, back-pressure, clients that hang up, threads, and the end of the server.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "net/http_message.h"
#include "net/sse.h"
#include "net/test_client.h"
#include "net/test_server.h"

namespace ultraspeed::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class HttpResponseTest : public HttpServerTest {
 protected:
  void watch(const std::shared_ptr<ResponseWriter>& writer) {
    writer->on_close([this](CloseReason reason) { closed.set(reason); });
  }
  void expect_closed(CloseReason expected) {
    CloseReason reason{};
    ASSERT_TRUE(closed.wait(&reason)) << "on_close was not called";
    EXPECT_EQ(close_reason_text(reason), close_reason_text(expected));
  }

  Awaited<CloseReason> closed;
};

TEST_F(HttpResponseTest, StreamArrivesPieceByPiece) {
  start_server();
  TestClient client(server->port());
  for (int round = 0; round < 2; ++round) {  // the connection survives a stream
    client.get("/held");
    const auto held = hold();
    held.writer->start_stream({200, {{"Content-Type", "text/plain"}}, ""});
    TestResponse head = client.read_head();
    EXPECT_EQ(head.status, 200U);
    EXPECT_EQ(head.headers["transfer-encoding"], "chunked");
    EXPECT_EQ(head.headers["content-type"], "text/plain");
    for (const char* piece : {"one", "two", "three"}) {
      held.writer->write(piece);
      EXPECT_EQ(client.read_chunk(), piece);  // before the next one is written
    }
    held.writer->write("");
    held.writer->finish();
    EXPECT_EQ(client.read_chunk(), std::nullopt);
    held.writer->write("late");
    held.writer->finish();
    held.writer->send({200, {}, "late"});
  }
  client.get("/echo");
  EXPECT_EQ(client.read_response().body, "GET /echo ");
}

TEST_F(HttpResponseTest, StreamToHttp10EndsWithTheConnection) {
  start_server();
  TestClient client(server->port());
  client.send("GET /held HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto held = hold();
  held.writer->start_stream({200, {}, ""});
  held.writer->write("one ");
  held.writer->write("two");
  held.writer->finish();
  TestResponse response = client.read_response();
  EXPECT_EQ(response.body, "one two");
  EXPECT_EQ(response.headers["connection"], "close");
}

TEST_F(HttpResponseTest, HeadOfAStreamHasNoBody) {
  start_server();
  TestClient client(server->port());
  client.send("HEAD /held HTTP/1.1\r\n\r\n");
  const auto held = hold();
  held.writer->start_stream({200, {}, ""});
  held.writer->write("body");
  held.writer->finish();
  EXPECT_EQ(client.read_head().status, 200U);
  client.get("/echo");
  EXPECT_EQ(client.read_response().body, "GET /echo ");
}

TEST_F(HttpResponseTest, HangUpIsSeenWithoutWriting) {
  start_server();
  for (const bool is_reset : {false, true}) {
    for (const bool is_stream : {false, true}) {
      TestClient client(server->port());
      client.get("/held");
      const auto held = hold();
      watch(held.writer);
      if (is_stream) held.writer->start_stream({200, {}, ""});
      const auto begin = steady_clock::now();
      is_reset ? client.reset() : client.close();
      expect_closed(CloseReason::kClientClosed);
      EXPECT_LT(steady_clock::now() - begin, milliseconds(2000));
      held.writer->write("nobody reads this");
      held.writer->finish();
    }
  }
  TestClient client(server->port());
  client.get("/echo");
  EXPECT_EQ(client.read_response().status, 200U);
}

TEST_F(HttpResponseTest, HangUpIsSeenBehindAPipelinedRequest) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  watch(held.writer);
  client.get("/echo");
  client.close();
  expect_closed(CloseReason::kClientClosed);
}

TEST_F(HttpResponseTest, HangUpIsSeenBehindManyBytes) {
  start_server();
  for (const size_t size : {size_t{100'000}, size_t{1'000'000}}) {
    TestClient client(server->port());
    client.get("/held");
    const auto held = hold();
    Awaited<CloseReason> lost;
    held.writer->on_close([&](CloseReason reason) { lost.set(reason); });
    client.send(std::string(size, 'x'));
    client.close();
    CloseReason reason{};
    ASSERT_TRUE(lost.wait(&reason)) << size;
    EXPECT_EQ(reason, CloseReason::kClientClosed);
  }
}

TEST_F(HttpResponseTest, BehindTooManyBytesTheConnectionEndsWithTheAnswer) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  client.send(std::string(1'000'000, 'x'));
  held.writer->send({200, {}, "answer"});
  EXPECT_EQ(client.read_response().body, "answer");
  EXPECT_TRUE(client.read_eof());
}

TEST_F(HttpResponseTest, WatchingALostConnectionReportsIt) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  client.close();
  std::this_thread::sleep_for(milliseconds(200));
  watch(held.writer);
  expect_closed(CloseReason::kClientClosed);
}

TEST_F(HttpResponseTest, CompleteAnswerIsNotReportedAsLost) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  watch(held.writer);
  held.writer->send({200, {}, "done"});
  EXPECT_EQ(client.read_response().body, "done");
  client.close();
  CloseReason reason{};
  EXPECT_FALSE(closed.wait(&reason, 200));
}

TEST_F(HttpResponseTest, ClientThatDoesNotReadIsDropped) {
  options.max_queued_bytes = 100'000;
  start_server();
  TestClient client(server->port(), 4096);
  client.get("/held");
  const auto held = hold();
  watch(held.writer);
  held.writer->start_stream({200, {}, ""});
  const std::string piece(10'000, 'x');
  CloseReason reason{};
  bool is_closed = false;
  for (int i = 0; i < 5000 && !is_closed; ++i) {
    held.writer->write(piece);
    is_closed = closed.wait(&reason, 1);
  }
  ASSERT_TRUE(is_closed);
  EXPECT_EQ(reason, CloseReason::kSlowReader);
}

TEST_F(HttpResponseTest, WriteWithoutProgressTimesOut) {
  options.write_timeout_ms = 200;
  start_server();
  TestClient client(server->port(), 4096);
  client.get("/held");
  const auto held = hold();
  held.writer->start_stream({200, {}, ""});
  watch(held.writer);
  for (int i = 0; i < 100; ++i) held.writer->write(std::string(9'000, 'x'));
  CloseReason reason{};
  if (!closed.wait(&reason, 1000)) {  // the kernel's buffers took all of it: fill them
    for (int i = 0; i < 600; ++i) {
      held.writer->write(std::string(9'000, 'x'));
      std::this_thread::sleep_for(milliseconds(1));
    }
    ASSERT_TRUE(closed.wait(&reason));
  }
  EXPECT_EQ(reason, CloseReason::kSlowReader);
}

TEST_F(HttpResponseTest, LargeAnswerToASlowReaderArrivesWhole) {
  start_server();
  TestClient client(server->port(), 4096);
  client.get("/held");
  const auto held = hold();
  const std::string body(8 << 20, 'x');
  held.writer->send({200, {}, body});
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_EQ(client.read_response().body.size(), body.size());
}

TEST_F(HttpResponseTest, SaysWhenTheSocketHasAcceptedEverything) {
  start_server();
  TestClient client(server->port(), 4096);
  for (int i = 0; i < 2; ++i) {
    client.get("/held");
    auto held = hold();
    Awaited<int> accepted;
    held.writer->start_stream({200, {}, ""});
    held.writer->write("short");
    held.writer->when_sent([&] { accepted.set(1); });
    int what = 0;
    ASSERT_TRUE(accepted.wait(&what));
    const std::string body(8 << 20, 'x');  // more than sockets take without a reader
    held.writer->write(body);
    held.writer->when_sent([&] { accepted.set(2); });
    held.writer->finish();
    held.writer->when_sent([&] { accepted.set(3); });
    EXPECT_FALSE(accepted.wait(&what, 200));
    EXPECT_EQ(client.read_response().body.size(), body.size() + 5);
    while (what < 3) ASSERT_TRUE(accepted.wait(&what));
    held.writer->when_sent([&] { accepted.set(4); });
    ASSERT_TRUE(accepted.wait(&what));
    EXPECT_EQ(what, 4);
  }
}

TEST_F(HttpResponseTest, NeverSaysThatALostClientHasEverything) {
  start_server();
  auto client = std::make_unique<TestClient>(server->port(), 4096);
  client->get("/held");
  const auto held = hold();
  watch(held.writer);
  const auto kept = std::make_shared<int>();
  std::atomic<bool> was_told = false;
  held.writer->start_stream({200, {}, ""});
  held.writer->write(std::string(8 << 20, 'x'));
  held.writer->when_sent([&was_told, kept] { was_told = true; });
  client->reset();
  CloseReason reason{};
  ASSERT_TRUE(closed.wait(&reason));
  held.writer->write("more");
  held.writer->when_sent([&was_told, kept] { was_told = true; });
  Awaited<bool> after;
  server->post([&] { after.set(true); });
  bool is_after = false;
  ASSERT_TRUE(after.wait(&is_after));
  EXPECT_FALSE(was_told);
  EXPECT_EQ(kept.use_count(), 1);
}

TEST_F(HttpResponseTest, DroppedWriterGivesAnErrorOrCutsTheStream) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  hold();  // and forget
  EXPECT_EQ(client.read_response().status, 500U);
  EXPECT_TRUE(client.read_eof());

  TestClient stream(server->port());
  stream.get("/held");
  {
    const auto held = hold();
    held.writer->start_stream({200, {}, ""});
    held.writer->write("part");
  }
  EXPECT_EQ(stream.read_head().status, 200U);
  EXPECT_EQ(stream.read_chunk(), "part");
  EXPECT_EQ(stream.read_line(), "");  // no last chunk
}

TEST_F(HttpResponseTest, KeepaliveFillsSilence) {
  options.keepalive_interval_ms = 100;
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  held.writer->start_stream({200, {}, std::string(kSsePing)});
  client.read_head();
  EXPECT_EQ(client.read_chunk(), kSsePing);
  EXPECT_EQ(client.read_chunk(), kSsePing);
  held.writer->finish();
  EXPECT_EQ(client.read_chunk(), std::nullopt);
}

TEST_F(HttpResponseTest, ThreadsWriteToTheirOwnClients) {
  start_server();
  constexpr int kClients = 8;
  constexpr int kWrites = 500;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    auto client = std::make_unique<TestClient>(server->port());
    client->get("/held");
    const auto held = hold();
    threads.emplace_back([writer = held.writer, i] {
      writer->start_stream({200, {}, ""});
      for (int k = 0; k < kWrites; ++k) writer->write(fmt::format("{}:{} ", i, k));
      writer->finish();
    });
    threads.emplace_back([client = std::move(client), i] {
      std::string expected;
      for (int k = 0; k < kWrites; ++k) expected += fmt::format("{}:{} ", i, k);
      const TestResponse response = client->read_response();
      EXPECT_TRUE(response.body == expected) << response.body.size();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(HttpResponseTest, PostedFunctionsRunInOrder) {
  start_server();
  std::vector<int> order;
  Awaited<bool> done;
  for (int i = 0; i < 10; ++i) server->post([&order, i] { order.push_back(i); });
  server->post([&done] { done.set(true); });
  bool value = false;
  ASSERT_TRUE(done.wait(&value));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  server->stop(0);
  server->post([] { FAIL() << "ran after stop()"; });
}

TEST_F(HttpResponseTest, StopLetsAnswersEnd) {
  start_server();
  TestClient idle(server->port());
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  held.writer->start_stream({200, {}, ""});
  held.writer->write("first");
  std::thread stopper([&] { server->stop(5000); });
  EXPECT_TRUE(idle.read_eof());
  held.writer->write(" second");
  held.writer->finish();
  EXPECT_EQ(client.read_response().body, "first second");
  EXPECT_TRUE(client.read_eof());
  client.close();
  stopper.join();
}

TEST_F(HttpResponseTest, StopCutsAnswersAtTheDeadline) {
  start_server();
  TestClient client(server->port());
  client.get("/held");
  const auto held = hold();
  watch(held.writer);
  const auto begin = steady_clock::now();
  server->stop(100);
  EXPECT_LT(steady_clock::now() - begin, milliseconds(3000));
  expect_closed(CloseReason::kServerStopped);
  EXPECT_EQ(client.read_line(), "");
  server.reset();
  held.writer->send({200, {}, "after the end of the server"});
}

TEST_F(HttpResponseTest, ListenReportsWhyItFailed) {
  start_server();
  HttpOptions taken = options;
  taken.port = server->port();
  const auto in_use = HttpServer::listen(taken, handler);
  ASSERT_FALSE(in_use);
  EXPECT_EQ(in_use.error().code, ErrorCode::kIo);
  EXPECT_NE(in_use.error().message.find("in use"), std::string::npos) << in_use.error().message;

  HttpOptions unknown;
  unknown.host = "256.1.1.1.invalid";
  const auto no_host = HttpServer::listen(unknown, handler);
  ASSERT_FALSE(no_host);
  EXPECT_EQ(no_host.error().code, ErrorCode::kInvalidArgument);
}

TEST(SseTest, EveryLineIsAField) {
  std::string out;
  append_sse_event(out, "{\"a\":1}");
  EXPECT_EQ(out, "data: {\"a\":1}\n\n");
  out.clear();
  append_sse_event(out, "one\ntwo\r\nthree\rfour\n");
  EXPECT_EQ(out, "data: one\ndata: two\ndata: three\ndata: four\ndata: \n\n");
}

TEST(HttpMessageTest, HeaderValuesCannotBreakOut) {
  const std::string head = response_head(429, {{"X-A", "b\r\nX-Evil: 1"}}, {});
  EXPECT_NE(head.find("X-A: b??X-Evil: 1\r\n"), std::string::npos) << head;
  EXPECT_TRUE(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_EQ(reason_phrase(299), "Status");
}

}  // namespace
}  // namespace ultraspeed::net
