// A process that serves requests is killed by SIGKILL at random moments, in the middle of whatever
// it does: opening, settling, reserving, delivering, committing. What the ledger has in the end is
// compared with what the other end of a socket received, to the unit.
//
// A message tells how many tokens of a request are delivered with it. The child counts beside (in
// memory that outlives it) whether it is between sending one and recording it: a request killed
// there is in doubt, and may be billed one message less. Every other one has exactly its tokens.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <random>
#include <thread>

#include "access/billing.h"
#include "access/test_support.h"
#include "support/scale.h"

namespace ultraspeed::access {
namespace {

constexpr int kNumKills = 250;
constexpr uint32_t kInputTokens = 100;
constexpr uint32_t kMaxOutputTokens = 60;

struct Message {
  RequestId id;
  uint32_t output_tokens;
  uint32_t cached_input_tokens;
  uint32_t is_fast;
};

// Shared with the child.
struct Doubt {
  RequestId id;  // whose message is under way
  bool is_open;
};

// What the parent knows of a request.
struct Received {
  uint32_t output_tokens = 0, tokens_before = 0, cached_input_tokens = 0;
  bool is_fast = false;
  bool is_in_doubt = false;
};

struct RequestUnderWay {
  std::unique_ptr<Reservation> reservation;
  Tier tier = Tier::kFast;
  Reservation::Delivery delivered;
};

// Serves until it is killed.
class Child {
 public:
  Child(const AccessConfig& config, const Identity& identity, int socket, Doubt* doubt,
        uint32_t seed)
      : config_(config), identity_(identity), socket_(socket), doubt_(doubt), random_(seed) {}

  [[noreturn]] void serve() {
    const auto database = value_of(Database::open(config_.database_file));
    const auto billing = value_of(Billing::open(*database, clock_, config_));
    std::vector<RequestUnderWay> running;
    for (;;) {
      if (running.size() < 6 && !begin(*billing, &running)) {
        value_of(billing->commit());  // all others have finished and wait for their rows
        continue;
      }
      const size_t which = random(static_cast<uint32_t>(running.size()));
      if (random(8) == 0 || running[which].delivered.output_tokens + 5 > kMaxOutputTokens) {
        running[which].reservation->finish(random(3) == 0 ? Finish::kDisconnected
                                                          : Finish::kComplete);
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
      } else {
        deliver(&running[which]);
      }
      if (random(200) == 0) value_of(billing->commit());
    }
  }

 private:
  uint32_t random(uint32_t end) { return static_cast<uint32_t>(random_() % end); }

  // Whether there was a slot.
  bool begin(Billing& billing, std::vector<RequestUnderWay>* running) {
    RequestUnderWay request;
    request.tier = random(2) == 0 ? Tier::kFast : Tier::kStandard;
    request.delivered.cached_input_tokens = random(kInputTokens + 1);
    auto reservation =
        billing.reserve(identity_, {"tiny", request.tier, kInputTokens, kMaxOutputTokens, false});
    if (!reservation) return false;
    request.reservation = std::make_unique<Reservation>(*std::move(reservation));
    running->push_back(std::move(request));
    return true;
  }

  void deliver(RequestUnderWay* request) {
    request->delivered.output_tokens += 1 + random(5);
    ++request->delivered.num_steps;
    const Message message{request->reservation->id(), request->delivered.output_tokens,
                          request->delivered.cached_input_tokens,
                          request->tier == Tier::kFast ? 1U : 0U};
    doubt_->id = message.id;
    __atomic_store_n(&doubt_->is_open, true, __ATOMIC_SEQ_CST);
    if (send(socket_, &message, sizeof message, MSG_NOSIGNAL) != sizeof message) _exit(1);
    request->reservation->deliver(request->delivered);
    __atomic_store_n(&doubt_->is_open, false, __ATOMIC_SEQ_CST);
  }

  const AccessConfig& config_;
  const Identity& identity_;
  const int socket_;
  Doubt* const doubt_;
  std::mt19937 random_;
  SystemClock clock_;
};

class KillTest : public testing::Test {
 protected:
  // The database is closed again: SQLite's connections do not survive a fork.
  KillTest() {
    config.max_requests_in_flight = 256;
    const auto database = value_of(Database::open(config.database_file));
    value_of(Accounts(*database, clock,
                      {std::chrono::hours(1), std::chrono::minutes(1), config.password_cost, 1, 1})
                 .create_administrator("admin", kPassword));
    Keys keys(*database, clock);
    KeySpec spec{"admin", "test"};
    spec.limits = {0, 0, 0, std::nullopt, std::nullopt};
    const Key key = value_of(keys.create(spec, "admin", {1})).key;
    identity = {key.account, key.id, key.public_part, key.kind, key.limits, {}, 0};
    void* const page =
        mmap(nullptr, sizeof(Doubt), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    US_CHECK(page != MAP_FAILED, "mmap");
    doubt = new (page) Doubt{};
  }

  // One child, killed after a while, wherever it is.
  void run_child(uint32_t seed, std::chrono::microseconds life) {
    int sockets[2];
    US_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0, "socketpair");
    doubt->is_open = false;
    const pid_t child = fork();
    if (child == 0) Child(config, identity, sockets[1], doubt, seed).serve();
    close(sockets[1]);
    std::thread killer([&] {
      std::this_thread::sleep_for(life);
      kill(child, SIGKILL);
    });
    for (Message message; recv(sockets[0], &message, sizeof message, 0) == sizeof message;) {
      note(message);
    }
    killer.join();
    int status = 0;
    waitpid(child, &status, 0);
    close(sockets[0]);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    const auto found = received.find(doubt->id.text());
    if (!doubt->is_open || found == received.end()) return;
    found->second.is_in_doubt = true;
    ++num_in_doubt;
  }

  void note(const Message& message) {
    Received& request = received[message.id.text()];
    request.tokens_before = request.output_tokens;
    request.output_tokens = message.output_tokens;
    request.cached_input_tokens = message.cached_input_tokens;
    request.is_fast = message.is_fast != 0;
  }

  const test::TemporaryDirectory folder;
  AccessConfig config = test_config(folder.path());
  const SystemClock clock;
  Identity identity;
  Doubt* doubt = nullptr;
  std::map<std::string, Received> received;
  int num_in_doubt = 0;
};

// In units, from the prices of the seed, without the code under test.
int64_t independent_price(const Received& request, uint32_t output_tokens) {
  if (output_tokens == 0) return 0;
  const int64_t cached = request.cached_input_tokens;
  const int64_t price =
      cached * 25'000 + (kInputTokens - cached) * 3'000'000 + int64_t{output_tokens} * 6'000'000;
  return price * (request.is_fast ? 3 : 1);
}

TEST_F(KillTest, TheLedgerIsWhatWasReceived) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < test::scaled(kNumKills); ++i) {
    // Many in the first moments, when it opens and settles.
    const uint32_t longest_us = i % 4 == 0 ? 8'000 : 60'000;
    run_child(static_cast<uint32_t>(random()), std::chrono::microseconds(random() % longest_us));
  }
  const auto database = value_of(Database::open(config.database_file));
  value_of(Billing::open(*database, clock, config));  // settles what the last one left

  int64_t sum = 0, num_rows = 0, num_billed = 0;
  std::map<std::string, int> finishes;
  ASSERT_TRUE(Ledger(*database).visit({}, [&](const LedgerRow& row) -> Status {
    ++num_rows;
    ++finishes[row.finish];
    sum += row.price.units;
    if (row.tokens.output == 0) {
      EXPECT_EQ(row.price.units, 0);
      const auto found = received.find(row.request_id);
      // Its only message was in doubt, or it sent none.
      EXPECT_TRUE(found == received.end() ||
                  (found->second.is_in_doubt && found->second.tokens_before == 0));
      received.erase(row.request_id);
      return {};
    }
    const auto found = received.find(row.request_id);
    if (found == received.end()) {
      ADD_FAILURE() << "nobody received anything of " << row.request_id;
      return {};
    }
    ++num_billed;
    const Received& request = found->second;
    if (row.tokens.output != request.output_tokens) {
      EXPECT_TRUE(request.is_in_doubt) << row.request_id;
      EXPECT_EQ(row.tokens.output, request.tokens_before);
    }
    EXPECT_EQ(row.price.units, independent_price(request, row.tokens.output)) << row.request_id;
    received.erase(found);  // a second row of it would be one of nobody
    return {};
  }));
  EXPECT_TRUE(received.empty()) << received.size() << " requests are not in the ledger";
  EXPECT_EQ(value_of(Keys(*database, clock).list(std::nullopt, 100))[0].spent.units, sum);
  EXPECT_GT(finishes["killed"], kNumKills / 4);
  EXPECT_GT(num_billed, kNumKills * 10);
  std::cout << num_rows << " rows, " << num_billed << " billed, " << finishes["killed"]
            << " killed under way, " << finishes["disconnected"] << " disconnected, "
            << num_in_doubt << " in doubt\n";
}

}  // namespace
}  // namespace ultraspeed::access
