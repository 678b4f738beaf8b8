// How requests are read: small ones do not wait for large ones, and those whose senders have left
// are not read.
#include <gtest/gtest.h>

#include <chrono>
#include <list>
#include <string>

#include "server/server_fixture.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using std::chrono::steady_clock;

// Takes some hundred times as long to read as a small request.
std::string large_body() {
  const size_t size = test::kIsSanitized ? 600 << 10 : 4 << 20;
  std::string text;
  while (text.size() < size) text += "One more sentence of a long text. ";
  return fmt::format(R"({{"model":"tiny","prompt":"{}"}})", text);
}

class ReadingTest : public ServerTest {
 protected:
  // Of one large request after another.
  steady_clock::duration time_to_read(const std::string& body) {
    const auto begin = steady_clock::now();
    for (int i = 0; i < 2; ++i) EXPECT_EQ(post("/tokenize", body).status, 200u);
    return (steady_clock::now() - begin) / 2;
  }
  // So many clients that wait for the answer to the same request.
  std::list<Client> send(int count, const std::string& body) const {
    std::list<Client> clients;
    for (int i = 0; i < count; ++i) {
      clients.emplace_back(server->port());
      clients.back().post("/tokenize", body);
    }
    return clients;
  }
};

TEST_F(ReadingTest, SmallRequestsDoNotWaitForLargeOnes) {
  start();
  std::list<Client> large = send(8, large_body());
  const auto begin = steady_clock::now();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(complete().status, 200u);
  const auto small = steady_clock::now() - begin;
  for (Client& client : large) EXPECT_EQ(client.read_response().status, 200u);
  EXPECT_LT(small, (steady_clock::now() - begin) / 2);
}

TEST_F(ReadingTest, WhoHasLeftIsNotRead) {
  start();
  const std::string body = large_body();
  const auto one = time_to_read(body);
  constexpr int kNumLeft = 24;
  send(kNumLeft, body);  // which close at once
  const auto begin = steady_clock::now();
  EXPECT_EQ(post("/tokenize", body).status, 200u);
  EXPECT_LT(steady_clock::now() - begin, one * kNumLeft / 2);
}

TEST_F(ReadingTest, SomeMayAlwaysWait) {
  options.max_queue = 0;
  start();
  std::list<Client> clients = send(8, large_body());
  for (Client& client : clients) EXPECT_EQ(client.read_response().status, 200u);
}

TEST_F(ReadingTest, ManyBytesMayNotWait) {
  const std::string body = large_body();
  options.http.max_unread_bytes = 3 * body.size();
  start();
  std::list<Client> clients = send(12, body);
  int num_refused = 0;
  for (Client& client : clients) {
    const net::TestResponse response = client.read_response();
    if (response.status == 200u) continue;
    EXPECT_TRUE(response.status == 429u || response.status == 503u) << response.body;
    ++num_refused;
  }
  EXPECT_GT(num_refused, 0);
  EXPECT_EQ(post("/tokenize", body).status, 200u);
}

}  // namespace
}  // namespace ultraspeed::server
