// A serving process is killed by SIGKILL again and again while clients read streams, hang up, or
// take whole answers. Each answer names its row of the ledger, and its log-probabilities name its
// tokens: what was counted here is compared with what the ledger has in the end, to the unit. Of a
// request that the kill met between a write and its record the ledger may have less, never more.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <mutex>
#include <thread>

#include "access/test_support.h"
#include "server/fake_engine.h"
#include "server/server.h"
#include "server/test_model.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using access::value_of;

constexpr int kNumKills = 30;  // 240 with US_TEST_SCALE=8, over 10^5 requests
constexpr int kNumClients = 8;
constexpr int64_t kInputPrice = 3'000'000, kOutputPrice = 6'000'000;  // units, of the seed's prices

// What one client was given of an answer.
struct Got {
  uint32_t input_tokens = 0;
  uint32_t output_tokens = 0;
  bool is_fast = false;
  bool is_whole = false;
};

size_t count(std::string_view text, std::string_view what) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string_view::npos; at += what.size()) {
    ++found;
  }
  return found;
}

std::string header(std::string_view head, std::string_view name) {
  const size_t at = head.find(name);
  if (at == std::string_view::npos) return {};
  const size_t begin = at + name.size() + 2;
  return std::string(head.substr(begin, head.find("\r\n", begin) - begin));
}

class OfferKillTest : public testing::Test {
 protected:
  OfferKillTest() {
    // Settled and committed as a server does it; the clock is the machine's.
    config.window = {0, 100'000};
    config.max_requests_in_flight = 4096;
    config.limits = {};
    const auto service = value_of(open_service());
    value_of(service->accounts().create_administrator("admin", access::kPassword));
    access::KeySpec spec;
    spec.account = spec.name = "admin";
    spec.limits = {0, 0, 0, {}, {}};
    key = value_of(service->keys().create(spec, "admin", 100)).secret;
  }

  Result<std::unique_ptr<access::Service>> open_service() {
    return access::Service::open(config, clock, [](const Error&) {});
  }

  // In the child: serves until it is killed, and tells its port.
  void serve(int port_pipe) {
    spdlog::set_level(spdlog::level::off);
    FakeEngine engine;
    engine.reply = test_ids("The quick brown fox jumps over the lazy dog, and then it sleeps.");
    engine.reply.push_back(kTestStopId);
    engine.tokens_per_step = 3;
    engine.step_delay_us = 100;
    engine.records_starts = false;
    auto service = value_of(open_service());
    ServedModel model;
    model.name = "tiny";
    model.fast_name = "tiny-ultraspeed";
    model.engine = &engine;
    model.tokenizer = &test_tokenizer();
    model.defaults.stop_ids = {kTestStopId};
    ServerOptions options;
    options.service = service.get();
    options.access.has_accounts = true;
    auto server = value_of(Server::start(model, options));
    const uint16_t port = server->port();
    US_CHECK(write(port_pipe, &port, sizeof port) == sizeof port, "no parent");
    pause();
  }

  // Requests until the server is gone.
  void ask_until_killed(uint16_t port, uint32_t seed) {
    for (uint32_t i = seed;; i += 7) {
      if (!ask(port, i)) return;
    }
  }

  // False: there is no server any more.
  bool ask(uint16_t port, uint32_t i) {
    const int file = connect_to(port);
    if (file < 0) return false;
    Got got;
    got.is_fast = i % 3 == 0;
    const bool is_stream = i % 5 != 0;
    const bool hangs_up = is_stream && i % 4 == 0;
    const std::string body =
        fmt::format(R"({{"model":"{}","prompt":"Once","max_tokens":{},"logprobs":0,"stream":{}}})",
                    got.is_fast ? "tiny-ultraspeed" : "tiny", 1 + i % 20, is_stream);
    const std::string request = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{}",
        key, body.size(), body);
    std::string bytes;
    bool is_sent = send(file, request.data(), request.size(), MSG_NOSIGNAL) ==
                   static_cast<ssize_t>(request.size());
    char buffer[4096];
    bool has_hung_up = false;
    for (ssize_t size; is_sent && (size = recv(file, buffer, sizeof buffer, 0)) > 0;) {
      bytes.append(buffer, static_cast<size_t>(size));
      if (hangs_up && !has_hung_up && count(bytes, "\"text\":") > i % 6) {
        shutdown(file, SHUT_WR);  // and reads what the socket had taken
        has_hung_up = true;
      }
    }
    close(file);
    note(bytes, is_stream, got);
    return is_sent && !bytes.empty();
  }

  void note(const std::string& bytes, bool is_stream, Got got) {
    const size_t head_end = bytes.find("\r\n\r\n");
    if (head_end == std::string::npos) return;
    const std::string id = header(std::string_view(bytes).substr(0, head_end), "X-Ledger-Id");
    const std::lock_guard lock(mutex);
    if (id.empty()) {
      ++num_refused;
      return;
    }
    // A token is a chunk of its own in a stream's "tokens" or one of a whole answer's.
    const std::string_view text = std::string_view(bytes).substr(head_end);
    got.output_tokens = 0;
    for (size_t at = 0; (at = text.find("\"tokens\":[", at)) != std::string_view::npos; ++at) {
      const size_t end = text.find(']', at + 10);
      if (end == std::string_view::npos) break;
      const std::string_view list = text.substr(at + 10, end - at - 10);
      got.output_tokens += static_cast<uint32_t>(count(list, "\"") / 2);
    }
    got.is_whole = is_stream ? text.find("[DONE]") != std::string_view::npos : true;
    EXPECT_TRUE(received.emplace(id, got).second) << id;
  }

  static int connect_to(uint16_t port) {
    const int file = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(file, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return file;
    close(file);
    return -1;
  }

  void run_and_kill(uint32_t round) {
    int ports[2];
    ASSERT_EQ(pipe(ports), 0);
    const pid_t child = fork();
    if (child == 0) {
      serve(ports[1]);
      _exit(1);
    }
    uint16_t port = 0;
    ASSERT_EQ(read(ports[0], &port, sizeof port), ssize_t{sizeof port});
    std::vector<std::thread> clients;
    for (uint32_t i = 0; i < kNumClients; ++i) {
      clients.emplace_back([&, i] { ask_until_killed(port, round * 1000 + i * 131); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + round * 97 % 700));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    for (std::thread& client : clients) client.join();
    close(ports[0]);
    close(ports[1]);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }

  test::TemporaryDirectory folder;
  access::AccessConfig config = access::test_config(folder.path());
  const access::SystemClock clock;
  std::string key;
  std::mutex mutex;
  std::map<std::string, Got> received;
  int num_refused = 0;
};

TEST_F(OfferKillTest, TheLedgerIsWhatClientsReceived) {
  for (int i = 0; i < test::scaled(kNumKills); ++i) {
    run_and_kill(static_cast<uint32_t>(i));
    if (HasFatalFailure()) return;
  }
  const auto service = value_of(open_service());  // settles what the last one left
  EXPECT_EQ(num_refused, 0);
  size_t num_rows = 0, num_exact = 0, num_less = 0;
  int64_t sum = 0;
  std::map<std::string, int> finishes;
  ASSERT_TRUE(service->ledger().visit({}, [&](const access::LedgerRow& row) -> Status {
    ++num_rows;
    ++finishes[row.finish];
    sum += row.price.units;
    const int64_t price = (row.tokens.input * kInputPrice + row.tokens.output * kOutputPrice) *
                          (row.tier == "fast" ? 3 : 1);
    EXPECT_EQ(row.price.units, price) << row.request_id;
    const auto found = received.find(row.request_id);
    if (found == received.end()) {
      EXPECT_EQ(row.price.units, 0) << row.request_id << " paid, and nobody has an answer";
      return {};
    }
    const Got& got = found->second;
    EXPECT_EQ(row.tier, got.is_fast ? "fast" : "standard");
    if (row.tokens.output == got.output_tokens) {
      ++num_exact;
    } else {
      EXPECT_LT(row.tokens.output, got.output_tokens) << row.request_id;
      EXPECT_EQ(row.finish, "killed") << row.request_id;
      ++num_less;
    }
    received.erase(found);
    return {};
  }));
  EXPECT_TRUE(received.empty()) << received.size() << " answers are not in the ledger";
  EXPECT_EQ(value_of(service->keys().list(std::nullopt))[0].spent.units, sum);
  EXPECT_GT(num_exact, num_rows / 2);
  EXPECT_GT(finishes["disconnected"], test::scaled(kNumKills));
  std::cout << num_rows << " rows: " << num_exact << " as received, " << num_less << " less, "
            << num_rows - num_exact - num_less << " of which nothing came; " << finishes["complete"]
            << " complete, " << finishes["disconnected"] << " disconnected, " << finishes["killed"]
            << " killed under way\n";
}

}  // namespace
}  // namespace ultraspeed::server
