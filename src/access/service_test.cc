// The whole service: many threads at once, one server a database, and what its own thread writes.
#include "access/service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "access/test_support.h"
#include "support/scale.h"

namespace ultraspeed::access {
namespace {

class ServiceTest : public testing::Test {
 protected:
  void open(const AccessConfig& config) {
    service.reset();
    service = value_of(Service::open(config, clock, [this](const Error&) { ++num_reports; }));
  }
  std::string approved_key(const std::string& name, const KeyLimits& limits) {
    const Application made = value_of(service->applications().submit({name, kPassword, "", name}));
    value_of(service->applications().decide(made.id, ApplicationState::kApproved, "admin", ""));
    KeySpec spec;
    spec.account = name;
    spec.name = name;
    spec.limits = limits;
    return value_of(service->keys().create(spec, name, {10})).secret;
  }

  const test::TemporaryDirectory folder;
  FakeClock clock;
  std::atomic<int> num_reports = 0;
  std::unique_ptr<Service> service;
};

TEST_F(ServiceTest, ManyThreadsAreBilledExactly) {
  AccessConfig config = test_config(folder.path());
  config.max_requests_in_flight = 64;
  open(config);
  const KeyLimits limits{0, 0, 0, std::nullopt, std::nullopt};
  const std::vector<std::string> secrets = {approved_key("ann", limits),
                                            approved_key("bob", limits)};
  const int num_requests = test::scaled(400);
  std::atomic<int64_t> units = 0, num_rows = 0;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < num_requests; ++i) {
        const Tier tier = i % 2 == 0 ? Tier::kFast : Tier::kStandard;
        const auto identity = service->decide(
            {RouteClass::kGenerate, {secrets[static_cast<size_t>(t) % 2], "", ""}, tier});
        US_CHECK(identity.has_value(), "{}", identity.error().message);
        auto request = service->reserve(*identity, {"tiny", tier, 10, 100, false});
        if (!request) continue;  // all slots wait for their rows
        for (uint32_t n = 1; n <= static_cast<uint32_t>(i % 7); ++n) request->deliver({n, 1, 5});
        units += request->finish(Finish::kComplete).units;
        ++num_rows;
        if (i % 16 == 0) US_CHECK(service->flush().has_value(), "flush");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(service->flush());
  Money sum;
  uint64_t num_written = 0;
  for (const DayTotal& total : value_of(service->ledger().totals({}, {}))) {
    sum = *sum.plus(total.price);
    num_written += total.num_requests;
  }
  EXPECT_EQ(sum.units, units);
  EXPECT_EQ(num_written, static_cast<uint64_t>(num_rows));
  EXPECT_GT(num_rows, num_requests);
  EXPECT_EQ(num_reports, 0);
}

TEST_F(ServiceTest, AccountsMakeKeysWithTheConfiguredLimits) {
  AccessConfig config = test_config(folder.path());
  config.limits.budget = Money{5};
  config.max_keys_per_account = 1;
  open(config);
  const Application made = value_of(service->applications().submit({"ann", kPassword, "", "x"}));
  const NewKey key = value_of(service->create_own_key(made.account, "mine"));
  EXPECT_EQ(key.key.kind, KeyKind::kPayAsYouGo);
  EXPECT_EQ(value_of(service->keys().find(key.secret)).limits.budget, Money{5});
  EXPECT_EQ(outcome(service->create_own_key(made.account, "more")), "409 too_many_keys");
}

TEST_F(ServiceTest, OneServerHasADatabaseHoweverItIsNamed) {
  const AccessConfig config = test_config(folder.path());
  open(config);
  const auto error_of_second = [this](const AccessConfig& second) {
    const auto opened = Service::open(second, clock, nullptr);
    return opened ? "" : opened.error().message;
  };
  AccessConfig other = config;
  other.journal_file += "2";
  const std::string expected = config.database_file +
                               ".lock: another server has the lock of the access database; stop "
                               "it, or give this one its own in [access]";
  EXPECT_EQ(error_of_second(other), expected);
  other.database_file = folder.path() + "/link.db";
  std::filesystem::create_symlink(config.database_file, other.database_file);
  EXPECT_EQ(error_of_second(other), expected);
  EXPECT_TRUE(Database::open(other.database_file).has_value());  // as the command line does
  service.reset();
  EXPECT_EQ(error_of_second(other), "");
}

TEST_F(ServiceTest, OneServerHasAJournal) {
  const AccessConfig config = test_config(folder.path());
  open(config);
  AccessConfig other = config;
  other.database_file += "2";
  const auto second = Service::open(other, clock, nullptr);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another server has the delivery journal"),
            std::string::npos);
}

TEST_F(ServiceTest, ItsThreadWritesWithoutBeingAsked) {
  open(test_config(folder.path()));
  const std::string secret = approved_key("ann", {});
  const Identity identity =
      value_of(service->decide({RouteClass::kGenerate, {secret, "", ""}, Tier::kFast}));
  value_of(service->reserve(identity, {"tiny", Tier::kFast, 1, 1, false}))
      .finish(Finish::kComplete);
  const auto is_written = [&] { return !value_of(service->ledger().totals({}, {})).empty(); };
  for (int i = 0; i < 600 && !is_written(); ++i) std::this_thread::sleep_for(milliseconds(50));
  EXPECT_TRUE(is_written());
}

TEST_F(ServiceTest, EndingWritesWhatHasFinished) {
  const AccessConfig config = test_config(folder.path());
  open(config);
  const std::string secret = approved_key("ann", {});
  const Identity identity =
      value_of(service->decide({RouteClass::kGenerate, {secret, "", ""}, Tier::kFast}));
  value_of(service->reserve(identity, {"tiny", Tier::kFast, 1, 1, false}))
      .finish(Finish::kComplete);
  open(config);
  EXPECT_EQ(service->recovery().num_settled, 0U);
  EXPECT_EQ(value_of(service->ledger().totals({}, {})).size(), 1U);
}

TEST_F(ServiceTest, ReportsATroubleOnce) {
  open(test_config(folder.path()));
  const std::string secret = approved_key("ann", {});
  const Identity identity =
      value_of(service->decide({RouteClass::kGenerate, {secret, "", ""}, Tier::kFast}));
  value_of(service->database().write([](SQLite::Database& sql) -> Result<int> {
    sql.exec("CREATE TRIGGER no BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END");
    return 0;
  }));
  value_of(service->reserve(identity, {"tiny", Tier::kFast, 1, 1, false}))
      .finish(Finish::kComplete);
  for (int i = 0; i < 600 && num_reports == 0; ++i) std::this_thread::sleep_for(milliseconds(50));
  std::this_thread::sleep_for(milliseconds(1200));
  EXPECT_EQ(num_reports, 1);
}

}  // namespace
}  // namespace ultraspeed::access
