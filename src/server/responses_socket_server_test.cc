// The WebSocket mode of /v1/responses through the whole server.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "net/test_web_socket.h"
#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

using Socket = net::TestWebSocket;

class ResponsesSocketServerTest : public ServerTest {
 protected:
  Socket connect(std::string_view headers = {}) const {
    return Socket(server->port(), "/v1/responses", headers);
  }
  // `fields` follow the model and a short input.
  static void create(Socket& socket, std::string_view fields = R"("store":false)") {
    socket.send(
        fmt::format(R"({{"type":"response.create","model":"tiny","input":"Hi",{}}})", fields));
  }
  // Answers do not end by themselves.
  void start_endless() {
    engine.is_endless = true;
    engine.step_delay_us = 100;
    start();
  }
  void begin_two_streams(Socket& socket) {
    for (const char* stream : {"a", "b"}) {
      create(socket, fmt::format(R"("stream_id":"{}")", stream));
    }
    ASSERT_TRUE(engine.wait_for_starts(2));
  }
  static Json read(Socket& socket) {
    const std::string text = socket.read();
    EXPECT_FALSE(text.empty()) << "the connection ended";
    return text.empty() ? Json::object() : Json::parse(text);
  }
  // The events of one response, up to its last one or an error.
  static std::vector<Json> read_all(Socket& socket) {
    std::vector<Json> all;
    do {
      all.push_back(read(socket));
    } while (!all.back().empty() && all.back()["type"] != "error" &&
             all.back()["type"] != "response.completed" &&
             all.back()["type"] != "response.failed" &&
             all.back()["type"] != "response.incomplete");
    return all;
  }
  static Json turn(Socket& socket, std::string_view fields = R"("store":false)") {
    create(socket, fields);
    const Json last = read_all(socket).back();
    EXPECT_EQ(last["type"], "response.completed") << last;
    return last.value("response", Json::object());
  }
  static std::string behind(const Json& response, std::string_view fields = R"("store":false)") {
    return fmt::format(R"("previous_response_id":{},{})", response["id"].dump(), fields);
  }
  static void expect_error_event(const Json& event, unsigned status, std::string_view code) {
    EXPECT_EQ(event["type"], "error") << event;
    EXPECT_EQ(event["status"], status) << event;
    EXPECT_EQ(event["error"]["code"], code) << event;
  }
  std::string prompt_of(size_t start) const {
    return test_tokenizer().decode(engine.starts().at(start).prompt);
  }
};

TEST_F(ResponsesSocketServerTest, SendsTheEventsOfAStream) {
  says("<think>Hm.</think>Hello, world.");
  start();
  Socket socket = connect("X-Request-Id: mine\r\n");
  EXPECT_EQ(socket.handshake().status, 101U);
  EXPECT_EQ(socket.handshake().headers.at("x-request-id"), "mine");
  create(socket, R"("store":false,"seed":1)");
  std::vector<Json> events = read_all(socket);
  std::vector<Json> streamed = named_events(
      post("/v1/responses", R"({"model":"tiny","input":"Hi","stream":true,"store":false,"seed":1})")
          .body);
  ASSERT_EQ(events.size(), streamed.size());
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]["type"], streamed[i]["type"]);
    EXPECT_EQ(events[i]["sequence_number"], i);
    EXPECT_EQ(events[i].value("delta", ""), streamed[i].value("delta", ""));
  }
  EXPECT_EQ(events.back()["response"]["output_text"], "Hello, world.");
  EXPECT_TRUE(events[0]["headers"]["X-Request-Id"].is_string()) << events[0];
  EXPECT_FALSE(events[1].contains("headers"));
}

TEST_F(ResponsesSocketServerTest, TurnsContinueWhatIsNotStored) {
  says("<think></think>Hello.");
  start();
  Socket socket = connect();
  Json response = turn(socket);
  for (size_t i = 1; i < 4; ++i) {
    response = turn(socket, behind(response));
    std::vector<int32_t> known = engine.starts()[i - 1].prompt;
    known.insert(known.end(), engine.reply.begin(), engine.reply.end());
    EXPECT_TRUE(prompt_of(i).starts_with(test_tokenizer().decode(known))) << prompt_of(i);
  }
  const std::string id = response["id"].get<std::string>();
  EXPECT_EQ(get("/v1/responses/" + id).status, 404U);
  Socket other = connect();
  create(other, behind(response));
  expect_error_event(read(other), 400, "previous_response_not_found");
  expect_error(
      post("/v1/responses", fmt::format(R"({{"model":"tiny","input":"i",{}}})", behind(response))),
      400, "previous_response_not_found", id);
}

TEST_F(ResponsesSocketServerTest, ContinuesWhatIsStored) {
  start();
  const Json first = parse(post("/v1/responses", R"({"model":"tiny","input":"Hi"})"));
  Socket socket = connect();
  const Json local = turn(socket, behind(first));
  const Json kept = turn(socket, behind(local, R"("store":true)"));
  EXPECT_EQ(get("/v1/responses/" + kept["id"].get<std::string>()).status, 200U);
  EXPECT_EQ(get("/v1/responses/" + local["id"].get<std::string>()).status, 404U);
}

// Two at once from the same response, each on a stream of its own.
TEST_F(ResponsesSocketServerTest, Forks) {
  says("<think></think>Hello.");
  engine.tokens_per_step = 1;
  start();
  Socket socket = connect();
  const Json first = turn(socket);
  engine.is_paused = true;
  for (const char* stream : {"a", "b"}) {
    create(socket, behind(first, fmt::format(R"("store":false,"stream_id":"{}")", stream)));
  }
  ASSERT_TRUE(engine.wait_for_starts(3));
  EXPECT_EQ(engine.num_active(), 2U);
  engine.is_paused = false;
  std::map<std::string, Json> last;
  while (last["a"].is_null() || last["b"].is_null()) {
    const Json event = read(socket);
    const std::string stream = event.value("stream_id", "");
    ASSERT_TRUE(stream == "a" || stream == "b") << event;
    if (event["type"] == "response.completed") last[stream] = event["response"];
  }
  EXPECT_NE(last["a"]["id"], last["b"]["id"]);
  EXPECT_EQ(engine.starts()[1].prompt, engine.starts()[2].prompt);
  EXPECT_EQ(last["b"]["previous_response_id"], first["id"]);
  turn(socket, behind(last["a"]));
}

// The prompt of a turn that is to come is computed; the turn continues it.
TEST_F(ResponsesSocketServerTest, WarmsUp) {
  says("<think></think>Hello.");
  start();
  Socket socket = connect();
  const Json warm = turn(socket, R"("store":false,"generate":false)");
  EXPECT_EQ(warm["output"], Json::array());
  EXPECT_EQ(warm["status"], "completed");
  EXPECT_EQ(engine.starts()[0].params.max_tokens, 1U);
  EXPECT_EQ(turn(socket, behind(warm))["output_text"], "Hello.");
}

TEST_F(ResponsesSocketServerTest, AClientThatLeavesCancelsItsRequests) {
  start_endless();
  Socket socket = connect();
  ASSERT_NO_FATAL_FAILURE(begin_two_streams(socket));
  socket.client().reset();
  EXPECT_TRUE(engine.wait_for_cancels(2));
  EXPECT_EQ(engine.num_active(), 0U);
  server->stop(1000);
  int num_logged = 0;
  for (const std::string& line : log_lines()) {
    num_logged += line.find(" WebSocket /v1/responses ") != std::string::npos;
  }
  EXPECT_EQ(num_logged, 2);
}

// What the close of a socket begins with is enough; the connection itself ends later.
TEST_F(ResponsesSocketServerTest, AClosingSocketCancelsItsRequestsAtOnce) {
  start_endless();
  for (const uint8_t opcode : {Socket::kClose, Socket::kBinary}) {
    Socket socket = connect();
    create(socket, R"("stream_id":"a")");
    ASSERT_TRUE(engine.wait_for_starts(opcode == Socket::kClose ? 1 : 2));
    socket.send_frame(opcode, "");
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(engine.wait_for_cancels(opcode == Socket::kClose ? 1 : 2));
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(time.count(), 1.0);
  }
}

// The two events that a stream begins with repeat what was asked.
TEST_F(ResponsesSocketServerTest, LongEchoesMakeNoSlowReader) {
  start();
  Socket socket = connect();
  const std::string long_text(1'500'000, 'a');
  turn(socket, fmt::format(R"("tools":[{{"type":"web_search","x":"{}"}}])", long_text));
}

TEST_F(ResponsesSocketServerTest, ErrorsAreOfOneRequest) {
  start();
  Socket socket = connect();
  for (const auto& [message, status, code] :
       {std::tuple{"{\"broken", 400, "invalid_json"},
        std::tuple{R"({"type":"response.create","model":"other","input":"i"})", 404,
                   "model_not_found"},
        std::tuple{R"({"type":"response.create","model":"tiny"})", 400, "invalid_value"},
        std::tuple{R"({"type":"response.append"})", 400, "invalid_value"},
        std::tuple{R"({"type":"response.create","model":"tiny","input":"i","background":true})",
                   400, "unsupported_value"}}) {
    socket.send(message);
    expect_error_event(read(socket), static_cast<unsigned>(status), code);
  }
  turn(socket);
  socket.send("\xFF");
  EXPECT_EQ(socket.read_close(), 1007);
}

TEST_F(ResponsesSocketServerTest, MessagesAreBoundedAsBodiesAre) {
  options.http.max_body_bytes = 1000;
  start();
  Socket socket = connect();
  create(socket, fmt::format(R"("metadata":{{"a":"{}"}})", std::string(2000, 'x')));
  EXPECT_EQ(socket.read_close(), 1009);
}

TEST_F(ResponsesSocketServerTest, ChecksWhoConnects) {
  options.access.api_keys = {"secret"};
  options.access.cors_origins = {"https://chat.example"};
  start();
  const auto status = [this](std::string_view headers) {
    return connect(headers).handshake().status;
  };
  EXPECT_EQ(status(""), 401U);
  EXPECT_EQ(status("Authorization: Bearer secret\r\n"), 101U);
  EXPECT_EQ(status("Authorization: Bearer secret\r\nOrigin: https://evil.example\r\n"), 403U);
  EXPECT_EQ(status("Authorization: Bearer secret\r\nOrigin: https://chat.example\r\n"), 101U);
}

// A key sees its own responses alone, also by its sockets.
TEST_F(ResponsesSocketServerTest, KeysShareNothing) {
  options.access.api_keys = {"one", "two"};
  start();
  Socket one = connect("Authorization: Bearer one\r\n");
  Socket two = connect("Authorization: Bearer two\r\n");
  const Json response = turn(one, R"("store":true)");
  create(two, behind(response));
  expect_error_event(read(two), 400, "previous_response_not_found");
  EXPECT_NE(engine.starts()[0].params.cache_domain, "");
}

TEST_F(ResponsesSocketServerTest, PlacesOfAKeyAreThoseOfItsRequests) {
  options.access.max_concurrent_per_key = 2;
  start_endless();
  Socket socket = connect();
  ASSERT_NO_FATAL_FAILURE(begin_two_streams(socket));
  create(socket, R"("stream_id":"c")");
  Json event;
  do {
    event = read(socket);
  } while (event.value("stream_id", "") != "c");
  expect_error_event(event, 429, "rate_limit_exceeded");
  EXPECT_TRUE(event["headers"].contains("Retry-After"));
  engine.is_endless = false;
}

TEST_F(ResponsesSocketServerTest, DrainsWithoutCuttingAnswersOff) {
  engine.step_delay_us = 2000;
  start();
  Socket idle = connect();
  turn(idle);
  Socket busy = connect();
  create(busy);
  ASSERT_TRUE(engine.wait_for_starts(2));
  server->stop(5000);
  EXPECT_EQ(idle.read_close(), 1001);
  EXPECT_EQ(read_all(busy).back()["type"], "response.completed");
  EXPECT_EQ(busy.read_close(), 1001);
}

TEST_F(ResponsesSocketServerTest, OtherRoutesAreNoSockets) {
  start();
  EXPECT_EQ(Socket(server->port(), "/v1/models").handshake().status, 200U);
  EXPECT_EQ(Socket(server->port(), "/v1/completions").handshake().status, 405U);
  expect_error(get("/v1/responses"), 405, "method_not_allowed", "it takes POST");
}

}  // namespace
}  // namespace ultraspeed::server
