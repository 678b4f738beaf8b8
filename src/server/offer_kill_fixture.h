// A serving process is killed by SIGKILL again and again while clients read streams, hang up, or
// take whole answers. Each answer names its row of the ledger, and its log-probabilities name its
// tokens: what was counted here is compared with what the ledger has in the end, to the unit. Of a
// request that the kill met between a write and its record the ledger may have less, never more.
#pragma once

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
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "access/test_support.h"
#include "server/server.h"
#include "server/test_model.h"

namespace ultraspeed::server {

class OfferKillTest : public testing::Test {
 protected:
  static constexpr int kNumClients = 8;
  static constexpr int64_t kCachedPrice = 25'000, kInputPrice = 3'000'000,
                           kOutputPrice = 6'000'000;  // units, of the seed's prices

  // What one client was given of an answer.
  struct Got {
    uint64_t output_tokens = 0;
    uint64_t last_tokens = 0;  // of these, with the last bytes: what a record may be behind
    bool is_fast = false;
  };
  // What the ledger has.
  struct Tally {
    size_t num_rows = 0, num_exact = 0, num_less = 0;  // beside what clients got
    std::map<std::string, int> finishes;
    int64_t price = 0;
    uint64_t cached_tokens = 0;
    std::map<std::string, uint64_t> tokens, steps;  // by tier
  };

  explicit OfferKillTest(std::string prompt) : prompt_(std::move(prompt)) {
    // Settled and committed as a server does it; the clock is the machine's.
    config_.window = {0, 100'000};
    config_.max_requests_in_flight = 4096;
    config_.limits = {};
    const auto service = access::value_of(open_service());
    access::value_of(service->accounts().create_administrator("admin", access::kPassword));
    access::KeySpec spec;
    spec.account = spec.name = "admin";
    spec.limits = {0, 0, 0, {}, {}};
    key_ = access::value_of(service->keys().create(spec, "admin", {100})).secret;
  }

  // In the process that will be killed: the engine, which lives as long as that.
  virtual engine::Engine& open_engine() = 0;

  // Kills it within about `longest_ms` of service.
  void run_and_kill(uint32_t round, uint32_t longest_ms) {
    int ports[2];
    ASSERT_EQ(pipe(ports), 0);
    const pid_t child = fork();
    if (child == 0) {
      serve(ports[1]);
      _exit(1);
    }
    close(ports[1]);  // or a child that cannot serve is waited for
    uint16_t port = 0;
    ASSERT_EQ(read(ports[0], &port, sizeof port), ssize_t{sizeof port});
    std::vector<std::thread> clients;
    for (uint32_t i = 0; i < kNumClients; ++i) {
      clients.emplace_back([&, i] { ask_until_killed(port, round * 1000 + i * 131); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + round * 97 % longest_ms));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    for (std::thread& client : clients) client.join();
    close(ports[0]);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }

  // Once all were killed: every row against what its client got.
  Tally compare() {
    const auto service = access::value_of(open_service());  // settles what the last one left
    EXPECT_EQ(num_refused_, 0);
    Tally tally;
    EXPECT_TRUE(service->ledger().visit({}, [&](const access::LedgerRow& row) -> Status {
      compare(row, &tally);
      return {};
    }));
    EXPECT_TRUE(received_.empty()) << received_.size() << " answers are not in the ledger";
    EXPECT_EQ(access::value_of(service->keys().list(std::nullopt, 100))[0].spent.units,
              tally.price);
    EXPECT_GT(tally.num_exact, tally.num_rows / 2);
    std::cout << tally.num_rows << " rows: " << tally.num_exact << " as received, "
              << tally.num_less << " less, " << tally.num_rows - tally.num_exact - tally.num_less
              << " of which nothing came; " << tally.finishes["complete"] << " complete, "
              << tally.finishes["disconnected"] << " disconnected, " << tally.finishes["killed"]
              << " killed under way\n";
    return tally;
  }

 private:
  Result<std::unique_ptr<access::Service>> open_service() {
    return access::Service::open(config_, clock_, [](const Error&) {});
  }

  // In the child: serves until it is killed, and tells its port.
  void serve(int port_pipe) {
    spdlog::set_level(spdlog::level::off);
    auto service = access::value_of(open_service());
    ServedModel model;
    model.name = "tiny";
    model.fast_name = "tiny-ultraspeed";
    model.engine = &open_engine();
    model.tokenizer = &test_tokenizer();
    model.defaults.stop_ids = {kTestStopId};
    ServerOptions options;
    options.service = service.get();
    options.access.has_accounts = true;
    auto server = access::value_of(Server::start(model, options));
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
    const bool is_fast = i % 3 == 0;
    const bool is_stream = i % 5 != 0;
    const bool hangs_up = is_stream && i % 4 == 0;
    const std::string body =
        fmt::format(R"({{"model":"{}","prompt":"{}","max_tokens":{},"logprobs":0,"stream":{}}})",
                    is_fast ? "tiny-ultraspeed" : "tiny", prompt_, 1 + i % 20, is_stream);
    const std::string request = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{}",
        key_, body.size(), body);
    std::string bytes;
    bool is_sent = send(file, request.data(), request.size(), MSG_NOSIGNAL) ==
                   static_cast<ssize_t>(request.size());
    char buffer[65536];  // holds any write of the server's
    size_t last_begin = 0;
    bool has_hung_up = false;
    for (ssize_t size; is_sent && (size = recv(file, buffer, sizeof buffer, 0)) > 0;) {
      last_begin = is_stream ? bytes.size() : 0;
      bytes.append(buffer, static_cast<size_t>(size));
      if (hangs_up && !has_hung_up && count(bytes, "\"text\":") > i % 6) {
        shutdown(file, SHUT_WR);  // and reads what the socket had taken
        has_hung_up = true;
      }
    }
    close(file);
    note(bytes, last_begin, is_fast);
    return is_sent && !bytes.empty();
  }

  // `last_begin`: where the bytes begin that came last.
  void note(std::string_view bytes, size_t last_begin, bool is_fast) {
    const size_t head_end = bytes.find("\r\n\r\n");
    if (head_end == std::string_view::npos) return;
    const std::string id = header(bytes.substr(0, head_end), "X-Ledger-Id");
    const std::lock_guard lock(mutex_);
    if (id.empty()) {
      ++num_refused_;
      return;
    }
    // Streams have a list of tokens in each event, whole answers one.
    constexpr std::string_view kList = "\"tokens\":[";
    Got got{0, 0, is_fast};
    for (size_t at = head_end; (at = bytes.find(kList, at)) != std::string_view::npos;) {
      const size_t num_tokens = num_strings(bytes.substr(at + kList.size()));
      got.output_tokens += num_tokens;
      if (at >= last_begin) got.last_tokens += num_tokens;
      at += kList.size();
    }
    EXPECT_TRUE(received_.emplace(id, got).second) << id;
  }

  void compare(const access::LedgerRow& row, Tally* tally) {
    ++tally->num_rows;
    ++tally->finishes[row.finish];
    tally->price += row.price.units;
    tally->cached_tokens += row.tokens.cached_input;
    tally->tokens[row.tier] += row.tokens.output;
    tally->steps[row.tier] += row.num_steps;
    const int64_t price = row.tokens.cached_input * kCachedPrice + row.tokens.input * kInputPrice +
                          row.tokens.output * kOutputPrice;
    EXPECT_EQ(row.price.units, price * (row.tier == "fast" ? 3 : 1)) << row.request_id;
    EXPECT_EQ(row.tokens.cached_input + row.tokens.input,
              row.tokens.output == 0 ? 0 : num_prompt_tokens_)
        << row.request_id;
    const auto found = received_.find(row.request_id);
    if (found == received_.end()) {
      EXPECT_EQ(row.price.units, 0) << row.request_id << " paid, and nobody has an answer";
      return;
    }
    const Got& got = found->second;
    EXPECT_EQ(row.tier, got.is_fast ? "fast" : "standard");
    if (row.tokens.output == got.output_tokens) {
      ++tally->num_exact;
    } else {
      EXPECT_LT(row.tokens.output, got.output_tokens) << row.request_id;
      EXPECT_GE(row.tokens.output + got.last_tokens, got.output_tokens) << row.request_id;
      EXPECT_EQ(row.finish, "killed") << row.request_id;
      ++tally->num_less;
    }
    received_.erase(found);
  }

  static size_t count(std::string_view text, std::string_view what) {
    size_t found = 0;
    for (size_t at = 0; (at = text.find(what, at)) != std::string_view::npos; at += what.size()) {
      ++found;
    }
    return found;
  }

  // Of a JSON list of strings, behind its bracket; 0: it has no end.
  static size_t num_strings(std::string_view list) {
    size_t num_quotes = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      if (list[i] == '"') ++num_quotes;
      if (list[i] == '\\') ++i;
      if (list[i] == ']' && num_quotes % 2 == 0) return num_quotes / 2;
    }
    return 0;
  }

  static std::string header(std::string_view head, std::string_view name) {
    const size_t at = head.find(name);
    if (at == std::string_view::npos) return {};
    const size_t begin = at + name.size() + 2;
    return std::string(head.substr(begin, head.find("\r\n", begin) - begin));
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

  const std::string prompt_;
  const size_t num_prompt_tokens_ = test_ids(prompt_).size();
  test::TemporaryDirectory folder_;
  access::AccessConfig config_ = access::test_config(folder_.path());
  const access::SystemClock clock_;
  std::string key_;
  std::mutex mutex_;
  std::map<std::string, Got> received_;
  int num_refused_ = 0;
};

}  // namespace ultraspeed::server
