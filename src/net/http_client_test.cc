// The client against the real server, and against bytes that no server should send.
#include "net/http_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "net/recording_response.h"
#include "net/test_server.h"

namespace ultraspeed::net {
namespace {

using std::chrono::milliseconds;

std::unique_ptr<HttpClient> make_client(uint16_t port, ClientOptions options = {}) {
  auto client = HttpClient::create({"127.0.0.1", port, ""}, options);
  EXPECT_TRUE(client);
  return std::move(*client);
}

// Answers one connection with these bytes and closes it.
class ScriptedPeer {
 public:
  explicit ScriptedPeer(std::string bytes) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this, bytes = std::move(bytes)] {
      const int connection = accept(listener_, nullptr, nullptr);
      char request[4096];
      EXPECT_GT(recv(connection, request, sizeof request, 0), 0);
      EXPECT_EQ(send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(bytes.size()));
      close(connection);
    });
  }
  ~ScriptedPeer() {
    thread_.join();
    close(listener_);
  }
  ScriptedPeer(const ScriptedPeer&) = delete;
  ScriptedPeer& operator=(const ScriptedPeer&) = delete;

  uint16_t port = 0;

 private:
  const int listener_;
  std::thread thread_;
};

std::shared_ptr<RecordingResponse> response_to(const std::string& bytes) {
  const ScriptedPeer peer(bytes);
  const auto client = make_client(peer.port);
  const auto response = std::make_shared<RecordingResponse>();
  client->send({"GET", "/", {}, ""}, response);
  client->run();
  EXPECT_EQ(response->num_ends + (response->failure ? 1 : 0), 1);
  return response;
}

using HttpClientTest = HttpServerTest;

TEST_F(HttpClientTest, ManyRequestsAtOnce) {
  start_server();
  const auto client = make_client(server->port());
  std::vector<std::shared_ptr<RecordingResponse>> responses;
  for (int i = 0; i < 50; ++i) {
    responses.push_back(std::make_shared<RecordingResponse>());
    client->send({"POST", "/echo", {{"X-A", "b"}}, fmt::to_string(i)}, responses.back());
  }
  client->run();
  for (int i = 0; i < 50; ++i) {
    const RecordingResponse& response = *responses[static_cast<size_t>(i)];
    EXPECT_EQ(response.status, 200U);
    EXPECT_EQ(response.body, fmt::format("POST /echo {}", i));
    EXPECT_EQ(response.num_ends, 1);
    const auto is_test_header = [](const Header& h) {
      return h.name == "X-Test" && h.value == "yes";
    };
    EXPECT_EQ(std::count_if(response.headers.begin(), response.headers.end(), is_test_header), 1);
  }
}

TEST_F(HttpClientTest, StreamsArrivePieceByPiece) {
  start_server();
  const auto client = make_client(server->port());
  const auto response = std::make_shared<RecordingResponse>();
  Awaited<int> seen;
  response->on_piece = [&seen] { seen.set(1); };
  client->send({"POST", "/held", {{"Authorization", "Bearer k"}}, "body"}, response);
  std::thread peer([&] {
    const auto held = hold();
    EXPECT_EQ(held.request.header("Authorization"), "Bearer k");
    EXPECT_EQ(held.request.body, "body");
    held.writer->start_stream({200, {}, ""});
    for (const char* piece : {"one ", "two ", "three"}) {
      held.writer->write(piece);
      int count = 0;
      EXPECT_TRUE(seen.wait(&count)) << piece << " did not arrive before the next piece";
    }
    held.writer->finish();
  });
  client->run();
  peer.join();
  EXPECT_EQ(response->body, "one two three");
  EXPECT_EQ(response->num_ends, 1);
}

TEST_F(HttpClientTest, ClosesWhenTheRestIsNotWanted) {
  start_server();
  const auto client = make_client(server->port());
  const auto response = std::make_shared<RecordingResponse>();
  response->max_body = 3;
  client->send({"GET", "/held", {}, ""}, response);
  Awaited<CloseReason> closed;
  std::thread peer([&] {
    const auto held = hold();
    held.writer->on_close([&closed](CloseReason reason) { closed.set(reason); });
    held.writer->start_stream({200, {}, ""});
    held.writer->write("enough");
    CloseReason reason{};
    EXPECT_TRUE(closed.wait(&reason)) << "the server saw no end";
  });
  client->run();
  peer.join();
  EXPECT_EQ(response->body, "enough");
  EXPECT_EQ(response->num_ends, 0);
  EXPECT_FALSE(response->failure);
}

TEST_F(HttpClientTest, SilenceEndsInATimeout) {
  start_server();
  const auto client = make_client(server->port(), {milliseconds(50)});
  const auto response = std::make_shared<RecordingResponse>();
  client->send({"GET", "/held", {}, ""}, response);
  client->run();
  EXPECT_EQ(response->failure, RequestFailure::kTimeout);
  hold();
}

TEST_F(HttpClientTest, NobodyListens) {
  start_server();
  const uint16_t port = server->port();
  server.reset();
  const auto client = make_client(port);
  const auto response = std::make_shared<RecordingResponse>();
  client->send({"GET", "/", {}, ""}, response);
  client->run();
  EXPECT_EQ(response->failure, RequestFailure::kConnect);
  EXPECT_EQ(response->message, "Connection refused");
}

TEST(HttpClientBytesTest, EndsOfAnswers) {
  EXPECT_EQ(response_to("HTTP/1.1 200 OK\r\n\r\nto the end")->body, "to the end");
  EXPECT_EQ(response_to("HTTP/1.1 200 OK\r\n\r\nto the end")->num_ends, 1);
  const auto cut = response_to("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  EXPECT_EQ(cut->body, "abc");
  EXPECT_EQ(cut->failure, RequestFailure::kLost);
  const auto is = [](const std::string& bytes) { return response_to(bytes)->failure; };
  EXPECT_EQ(is("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), RequestFailure::kLost);
  EXPECT_EQ(is("HTTP/1.1 200 OK\r\nTransfer-"), RequestFailure::kLost);
  EXPECT_EQ(is("SSH-2.0-OpenSSH_9.2\r\n"), RequestFailure::kMalformed);
  EXPECT_EQ(is("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), RequestFailure::kMalformed);
  const std::string long_header = "X: " + std::string(100'000, 'x') + "\r\n\r\n";
  EXPECT_EQ(is("HTTP/1.1 200 OK\r\n" + long_header), RequestFailure::kMalformed);
}

TEST(HttpClientBytesTest, AnAnswerToHeadHasNoBody) {
  const ScriptedPeer peer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
  const auto client = make_client(peer.port);
  const auto response = std::make_shared<RecordingResponse>();
  client->send({"HEAD", "/", {}, ""}, response);
  client->run();
  EXPECT_EQ(response->status, 200U);
  EXPECT_EQ(response->num_ends, 1);
  EXPECT_FALSE(response->failure);
}

TEST_F(HttpClientTest, CallsComeInTheirOrder) {
  start_server();
  const auto client = make_client(server->port());
  std::vector<int> order;
  const auto now = HttpClient::Clock::now();
  client->call_at(now + milliseconds(20), [&] { order.push_back(2); });
  client->call_at(now, [&] {
    order.push_back(1);
    client->call_at(now + milliseconds(40), [&] { order.push_back(3); });
  });
  client->run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_GE(HttpClient::Clock::now() - now, milliseconds(40));
}

TEST(HttpUrlTest, ReadsUrls) {
  const auto read = [](std::string_view text) {
    const auto url = parse_http_url(text);
    return url ? fmt::format("{}{}|{}|{}", url->has_tls ? "TLS " : "", url->host, url->port,
                             url->path)
               : "error";
  };
  EXPECT_EQ(read("http://127.0.0.1:8000"), "127.0.0.1|8000|");
  EXPECT_EQ(read("http://localhost/"), "localhost|80|");
  EXPECT_EQ(read("http://a.b:1/v1//"), "a.b|1|/v1");
  EXPECT_EQ(read("http://[::1]:8000/v1"), "::1|8000|/v1");
  EXPECT_EQ(read("http://[::1]"), "::1|80|");
  EXPECT_EQ(read("https://a.b"), "TLS a.b|443|");
  EXPECT_EQ(read("https://a.b:8000/v1"), "TLS a.b|8000|/v1");
  for (const char* wrong :
       {"", "localhost:8000", "ftp://a", "http://", "http://:8000", "http://a:", "http://a:x",
        "http://a:0", "http://a:65536", "http://a:80x", "http://u@a", "http://a/?q", "http://[::1",
        "http://[::1]8000", "http://a b", "http://a\n"}) {
    const auto url = parse_http_url(wrong);
    ASSERT_FALSE(url) << wrong;
    EXPECT_NE(url.error().message.find("expected http://HOST"), std::string::npos);
  }
}

TEST(HttpUrlTest, UnknownHostsAreErrors) {
  const auto client = HttpClient::create({"no.such.host.invalid", 80, ""}, {});
  ASSERT_FALSE(client);
  EXPECT_NE(client.error().message.find("no.such.host.invalid"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::net
