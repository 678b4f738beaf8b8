// What a WebSocket of /v1/responses makes of its messages: order, streams, limits, errors, the end.
#include "server/responses_socket.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/json_fields.h"

namespace ultraspeed::server {
namespace {

class KeptSocket final : public net::WebSocket {
 public:
  void send(std::string text) override { sent.push_back(Json::parse(text)); }
  void when_sent(std::function<void()> callback) override { callback(); }
  void close(net::CloseCode code, std::string) override { closed = code; }

  std::vector<Json> sent;
  std::optional<net::CloseCode> closed;
};

class ResponsesSocketTest : public testing::Test {
 protected:
  struct Asked {
    Json body;
    std::shared_ptr<net::ResponseWriter> writer;
  };

  ResponsesSocketTest() {
    ResponsesSocket::Host host;
    host.parse = [this](const std::string& text, ResponsesSocket::TakeJson take) {
      parses.push_back([text, take = std::move(take)] { take(parse_json_object(text)); });
      if (parses_at_once) parse();
    };
    host.answer = [this](Json body, size_t, std::shared_ptr<net::ResponseWriter> writer) {
      asked.push_back({std::move(body), std::move(writer)});
    };
    host.close = [this](std::vector<Json> unanswered) {
      ++num_closed;
      num_unanswered += unanswered.size();
    };
    socket = std::make_shared<ResponsesSocket>(std::move(host), waiting);
    socket->on_open(kept);
  }
  void parse() { std::exchange(parses.front(), nullptr)(), parses.pop_front(); }
  void create(std::string_view fields) {
    socket->on_message(R"({"type":"response.create")" + std::string(fields) + "}");
  }
  const Json& last() const { return kept->sent.back(); }

  bool parses_at_once = true;
  std::deque<std::function<void()>> parses;
  std::deque<Asked> asked;
  int num_closed = 0;
  size_t num_unanswered = 0;
  std::shared_ptr<ResponsesSocket::WaitingBytes> waiting =
      std::make_shared<ResponsesSocket::WaitingBytes>(ResponsesSocket::WaitingBytes{10'000});
  std::shared_ptr<KeptSocket> kept = std::make_shared<KeptSocket>();
  std::shared_ptr<ResponsesSocket> socket;
};

TEST_F(ResponsesSocketTest, RequestsWithoutAStreamIdTakeTurns) {
  create(R"(,"input":"a","stream":false)");
  create(R"(,"input":"b")");
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].body, Json::parse(R"({"input":"a","stream":true})"));
  asked[0].writer->start_stream({});
  asked[0].writer->write("{\"n\":1}\n{\"n\":2}\n");
  EXPECT_EQ(kept->sent.size(), 2U);
  EXPECT_EQ(last(), Json({{"n", 2}}));
  asked[0].writer->finish();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[1].body["input"], "b");
  asked[0].writer->write("{\"n\":3}\n");  // too late
  EXPECT_EQ(kept->sent.size(), 2U);
}

TEST_F(ResponsesSocketTest, StreamsRunAtOnceAndAreNamed) {
  create(R"(,"input":"a","stream_id":"x")");
  create(R"(,"input":"b","stream_id":"y\"")");
  create(R"(,"input":"c","stream_id":"x")");
  ASSERT_EQ(asked.size(), 2U);
  asked[1].writer->write("{\"n\":1}\n");
  EXPECT_EQ(last(), Json({{"n", 1}, {"stream_id", "y\""}}));
  asked[0].writer->finish();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[2].body, Json::parse(R"({"input":"c","stream":true})"));
}

TEST_F(ResponsesSocketTest, WrongMessagesHarmNobody) {
  create(R"(,"input":"a","stream_id":"x")");
  for (const char* wrong : {"{", "[]", "{}", R"({"type":"response.cancel"})", R"({"type":1})",
                            R"({"type":"response.create","stream_id":1})"}) {
    kept->sent.clear();
    socket->on_message(wrong);
    ASSERT_EQ(kept->sent.size(), 1U) << wrong;
    EXPECT_EQ(last()["type"], "error");
    EXPECT_EQ(last()["status"], 400);
    EXPECT_TRUE(last()["error"]["message"].is_string() && last()["error"].contains("code"));
    EXPECT_TRUE(last()["headers"].is_object());
  }
  socket->on_message(R"({"type":"x","stream_id":"y"})");
  EXPECT_EQ(last()["stream_id"], "y");
  create(R"(,"stream_id":")" + std::string(300, 'x') + '"');
  EXPECT_EQ(last()["error"]["param"], "stream_id");
  asked[0].writer->write("{\"n\":1}\n");
  EXPECT_EQ(last(), Json({{"n", 1}, {"stream_id", "x"}}));
  EXPECT_FALSE(kept->closed);
}

TEST_F(ResponsesSocketTest, ErrorsOfARequestEndItsTurn) {
  create(R"(,"stream_id":"x")");
  create(R"(,"stream_id":"x")");
  asked[0].writer->send({429,
                         {{"Content-Type", "application/json"}, {"Retry-After", "2"}},
                         R"({"error":{"message":"later"}})"});
  EXPECT_EQ(last(), Json::parse(R"({"type":"error","status":429,"error":{"message":"later"},
                                    "headers":{"Retry-After":"2"},"stream_id":"x"})"));
  ASSERT_EQ(asked.size(), 2U);
  asked[1].writer.reset();  // without an answer
  EXPECT_EQ(last()["status"], 500);
  create(R"(,"stream_id":"x")");
  EXPECT_EQ(asked.size(), 3U);
}

TEST_F(ResponsesSocketTest, RequestsThatWaitAreBounded) {
  for (size_t i = 0; i < ResponsesSocket::kMaxRequests; ++i) create("");
  EXPECT_TRUE(kept->sent.empty());
  create("");
  EXPECT_EQ(last()["status"], 429);
  EXPECT_EQ(last()["error"]["code"], "rate_limit_exceeded");
  asked[0].writer->finish();
  kept->sent.clear();
  create(R"(,"input":")" + std::string(9'900, 'x') + '"');
  EXPECT_EQ(last()["status"], 429);
  create("");
  EXPECT_EQ(kept->sent.size(), 1U);
}

// Others' waiting messages count, but for the first of a connection.
TEST_F(ResponsesSocketTest, WaitingBytesAreThoseOfAllConnections) {
  waiting->sum = waiting->most;
  create("");
  ASSERT_EQ(asked.size(), 1u);
  create("");
  EXPECT_EQ(last()["error"]["code"], "rate_limit_exceeded") << last();
  waiting->sum = 0;
  create("");
  EXPECT_GT(waiting->sum, 0u);
  socket->on_close(net::CloseReason::kClientClosed);
  EXPECT_EQ(waiting->sum, 0u);
  EXPECT_EQ(num_unanswered, 1u);
}

TEST_F(ResponsesSocketTest, MessagesKeepTheirOrderWhileTheyAreRead) {
  parses_at_once = false;
  create(R"(,"input":"a","stream_id":"x")");
  create(R"(,"input":"b","stream_id":"y")");
  EXPECT_EQ(parses.size(), 1U);
  parse();
  EXPECT_EQ(parses.size(), 1U);
  parse();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].body["input"], "a");
}

TEST_F(ResponsesSocketTest, TheEndCancelsWhatIsUnderWay) {
  create(R"(,"stream_id":"x")");
  create(R"(,"stream_id":"x")");
  create(R"(,"stream_id":"y")");
  std::vector<net::CloseReason> reasons;
  for (Asked& one : asked) {
    one.writer->on_close([&](net::CloseReason reason) { reasons.push_back(reason); });
  }
  parses_at_once = false;
  create("");
  socket->on_close(net::CloseReason::kClientClosed);
  EXPECT_EQ(reasons, std::vector(2, net::CloseReason::kClientClosed));
  EXPECT_EQ(num_closed, 1);
  parse();
  asked[0].writer->finish();
  asked[1].writer->on_close([&](net::CloseReason reason) { reasons.push_back(reason); });
  EXPECT_EQ(reasons.size(), 3U);
  EXPECT_EQ(asked.size(), 2U);
  EXPECT_TRUE(kept->sent.empty());
}

TEST_F(ResponsesSocketTest, DrainsWhenNothingIsUnderWay) {
  create("");
  socket->drain();
  EXPECT_FALSE(kept->closed);
  asked[0].writer->finish();
  EXPECT_EQ(kept->closed, net::CloseCode::kGoingAway);
}

}  // namespace
}  // namespace ultraspeed::server
