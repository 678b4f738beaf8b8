// The server under load, with a scripted engine: many streams and idle connections, many requests,
// clients that vanish, and what it adds to each token's time. US_TEST_SCALE above 1 makes the runs
// as long as docs/serving.md quotes them.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <list>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/server_fixture.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using std::chrono::steady_clock;

int scaled_count(int quick, int whole) {
  return test::test_scale() > 1 ? whole : quick;
}

// How many connections this process can hold both ends of.
size_t max_connections() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<size_t>(limit.rlim_cur) / 2 - 100;
}

size_t resident_bytes() {
  malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

class ServerLoadTest : public ServerTest {
 protected:
  ServerLoadTest() {
    engine.records_starts = false;
    engine.max_sessions = 256;
    spdlog::set_level(spdlog::level::warn);  // the fixture keeps all that is logged
  }
  ~ServerLoadTest() override { spdlog::set_level(spdlog::level::info); }

  // All content of a stream's chunks, in order.
  static std::string content_of(const std::string& body) {
    std::string text;
    for (const std::string& event : events(body)) {
      if (event == "[DONE]") continue;
      const Json json = Json::parse(event);
      for (const Json& choice : json["choices"]) {
        text += choice["delta"].value("content", "");
      }
    }
    return text;
  }
};

TEST_F(ServerLoadTest, StreamsBesideIdleConnectionsLoseNothing) {
  constexpr size_t kNumStreams = 200;
  const size_t num_idle = std::min(size_t{2000}, max_connections() - kNumStreams);
  std::vector<std::string> texts;
  for (size_t i = 0; i < kNumStreams; ++i) {
    std::string text;
    for (size_t word = 0; word < 60; ++word) text += fmt::format("{} of {}, ", word, i);
    texts.push_back(text);
    engine.replies_by_seed.push_back(test_ids(text));
    engine.replies_by_seed.back().push_back(kTestStopId);
  }
  engine.step_delay_us = 1000;
  options.max_queue = kNumStreams;
  start();
  std::list<Client> idle;
  for (size_t i = 0; i < num_idle; ++i) idle.emplace_back(server->port());
  std::vector<std::thread> streams;
  for (size_t i = 0; i < kNumStreams; ++i) {
    streams.emplace_back([&, i] {
      Client client(server->port());
      client.post("/v1/chat/completions", chat_body(fmt::format(R"("stream":true,"seed":{})", i)));
      const net::TestResponse response = client.read_response();
      EXPECT_EQ(response.status, 200u) << response.body;
      EXPECT_EQ(content_of(response.body), texts[i]);
    });
  }
  for (std::thread& stream : streams) stream.join();
  idle.back().get("/health");
  EXPECT_EQ(idle.back().read_response().status, 200u);
}

TEST_F(ServerLoadTest, MemoryIsFlatOverManyRequests) {
  start();
  const int num_requests = scaled_count(6000, 100'000);
  size_t before = 0;
  Client client(server->port());
  for (int i = 0; i < num_requests; ++i) {
    if (i == num_requests / 3) before = resident_bytes();
    client.post("/v1/chat/completions", chat_body(i % 2 == 0 ? R"("stream":true)" : ""));
    ASSERT_EQ(client.read_response().status, 200u) << i;
  }
  const size_t after = resident_bytes();
  EXPECT_LT(after, before + (2 << 20));
  RecordProperty("bytes_before", std::to_string(before));
  RecordProperty("bytes_after", std::to_string(after));
}

TEST_F(ServerLoadTest, ClientsThatVanishLeaveNothingRunning) {
  engine.is_endless = true;
  engine.step_delay_us = 50;
  start();
  std::mt19937 random(1);
  for (int i = 0; i < scaled_count(1500, 10'000); ++i) {
    Client client(server->port());
    const bool is_stream = random() % 2 == 0;
    const std::string fields = fmt::format(R"("stream":{},"n":{})", is_stream, 1 + random() % 3);
    client.post(random() % 2 == 0 ? "/v1/chat/completions" : "/v1/completions",
                random() % 2 == 0 ? chat_body(fields) : completion_body(fields));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    if (random() % 2 == 0) client.reset();
  }
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  while (engine.num_active() > 0 && steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(engine.num_active(), 0u);
  engine.is_endless = false;
  EXPECT_EQ(chat().status, 200u);
}

// From the engine's token to the client's socket, a token a millisecond. The bound is loose, for a
// busy machine; docs/serving.md has what a quiet one shows.
TEST_F(ServerLoadTest, TokensAreDeliveredAtOnce) {
  engine.is_endless = true;
  engine.records_times = true;
  engine.reply = test_ids(" a b c d");  // every token shows
  engine.context = 5000;
  engine.step_delay_us = 940;
  start();
  Client client(server->port());
  const int num_tokens = scaled_count(1000, 4000);
  client.post("/v1/completions",
              completion_body(fmt::format(R"("stream":true,"max_tokens":{})", num_tokens)));
  client.read_head();
  std::vector<steady_clock::time_point> arrivals;
  while (const auto chunk = client.read_chunk()) {
    const auto now = steady_clock::now();
    for (const std::string& event : events(*chunk)) {
      if (event != "[DONE]" && Json::parse(event)["choices"][0]["text"] != "") {
        arrivals.push_back(now);
      }
    }
  }
  const auto made = engine.token_times();
  ASSERT_GE(made.size(), static_cast<size_t>(num_tokens));
  std::vector<double> delays_us;
  for (size_t i = 0; i < std::min(arrivals.size(), made.size()); ++i) {
    delays_us.push_back(std::chrono::duration<double, std::micro>(arrivals[i] - made[i]).count());
  }
  std::ranges::sort(delays_us);
  const double median = delays_us[delays_us.size() / 2];
  const double p99 = delays_us[delays_us.size() * 99 / 100];
  RecordProperty("delay_p50_us", std::to_string(median));
  RecordProperty("delay_p99_us", std::to_string(p99));
  fmt::print("delay of a token: p50 {:.0f} us, p99 {:.0f} us of {}\n", median, p99,
             delays_us.size());
  EXPECT_LT(median, test::kIsSanitized ? 10'000 : 1000);  // on a busy machine, too
}

}  // namespace
}  // namespace ultraspeed::server
