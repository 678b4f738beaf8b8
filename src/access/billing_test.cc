// From a reservation to the ledger: prices, restarts, totals and the export.
#include "access/billing.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <map>

#include "access/audit.h"
#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

class BillingTest : public testing::Test, protected AccessFixture {
 protected:
  BillingTest() {
    add_user("ann");
    secret = add_key("ann");
    open();
  }

  void open() {
    billing.reset();
    billing = value_of(Billing::open(*database, clock, config));
  }
  Identity identity(Tier tier = Tier::kFast) {
    return value_of(gate.decide({RouteClass::kGenerate, {secret, "", ""}, tier}));
  }
  Reservation reserve(Tier tier, uint32_t input_tokens = 100, uint32_t max_output_tokens = 1000) {
    return value_of(
        billing->reserve(identity(tier), {"tiny", tier, input_tokens, max_output_tokens, false}));
  }
  std::vector<LedgerRow> rows() {
    std::vector<LedgerRow> all;
    EXPECT_TRUE(ledger.visit({}, [&](const LedgerRow& row) -> Status {
      all.push_back(row);
      return {};
    }));
    return all;
  }

  std::string secret;
  std::unique_ptr<Billing> billing;
  Ledger ledger{*database};
};

TEST_F(BillingTest, ARequestHasOneRow) {
  Reservation fast = reserve(Tier::kFast);
  clock.advance(milliseconds(1500));
  fast.deliver({40, 10, 64});
  EXPECT_EQ(fast.finish(Finish::kComplete).text(), "0.0010488");
  EXPECT_TRUE(rows().empty());
  EXPECT_EQ(value_of(billing->commit()), 1U);
  EXPECT_EQ(value_of(billing->commit()), 0U);
  ASSERT_EQ(rows().size(), 1U);
  const LedgerRow row = rows()[0];
  EXPECT_EQ(row.request_id, fast.id().text());
  EXPECT_EQ(row.account, "ann");
  EXPECT_EQ(row.key, value_of(keys.find(secret)).public_part);
  EXPECT_EQ(row.model, "tiny");
  EXPECT_EQ(row.tier, "fast");
  EXPECT_EQ(row.multiplier.text(), "3");
  EXPECT_EQ(row.tokens.cached_input, 64U);
  EXPECT_EQ(row.tokens.input, 36U);
  EXPECT_EQ(row.tokens.output, 40U);
  EXPECT_EQ(row.price.text(), "0.0010488");  // 3 * (64 * 0.025 + 36 * 3 + 40 * 6) / 10^6
  EXPECT_EQ(row.duration_ms, 1500);
  EXPECT_EQ(row.accepted_length_thousandths(), 4000U);
  EXPECT_EQ(row.finish, "complete");
}

TEST_F(BillingTest, ARowIsNotReplaced) {
  Reservation first = reserve(Tier::kFast);
  first.deliver({40, 10, 64});
  first.finish(Finish::kComplete);
  value_of(billing->commit());
  const LedgerRow row = rows()[0];
  const auto replace = [&](const char* id, const std::string& request_id) {
    return database->write([&](SQLite::Database& sql) -> Status {
      sql.exec(
          fmt::format("INSERT OR REPLACE INTO ledger SELECT {}, '{}', begun_ms, duration_ms, "
                      "account_id, key_id, model, tier, multiplier_thousandths, 0, 0, 0, 0, "
                      "num_steps, finish FROM ledger",
                      id, request_id));
      return {};
    });
  };
  const Status replaced = replace("id", "other");
  ASSERT_FALSE(replaced);
  EXPECT_NE(replaced.error().message.find("the ledger is append-only"), std::string::npos);
  EXPECT_TRUE(replace("NULL", row.request_id));  // does nothing
  ASSERT_EQ(rows().size(), 1U);
  EXPECT_EQ(rows()[0].price, row.price);
  EXPECT_EQ(rows()[0].id, row.id);
}

TEST_F(BillingTest, StandardCostsAThird) {
  Reservation standard = reserve(Tier::kStandard);
  standard.deliver({40, 40, 64});
  EXPECT_EQ(standard.finish(Finish::kComplete).text(), "0.0003496");
}

// Keys cost nothing, so what is offered to an account is for all of its keys.
TEST_F(BillingTest, AllKeysOfAnAccountShareItsLimits) {
  config.limits = {4, 300, 2, Money{1'000'000'000}, std::nullopt};
  open();
  KeySpec spec{"ann", "another"};
  spec.limits = config.limits;
  const std::string second = value_of(keys.create(spec, "ann", {10})).secret;
  const std::string third = value_of(keys.create(spec, "ann", {10})).secret;
  const auto asked = [&](const std::string& key, uint32_t input, uint32_t output) {
    const Identity who =
        value_of(gate.decide({RouteClass::kGenerate, {key, "", ""}, Tier::kStandard}));
    return billing->reserve(who, {"tiny", Tier::kStandard, input, output, false});
  };
  {
    const auto first = asked(second, 10, 10);
    const auto other = asked(third, 10, 10);
    EXPECT_EQ(outcome(asked(third, 10, 10)), "429 too_many_at_once");
    EXPECT_EQ(asked(third, 10, 10).error().message,
              "The account may have 2 answers under way, and has 2.");
  }
  EXPECT_EQ(outcome(asked(third, 290, 1)), "429 too_many_tokens");
  // The budget: 10^9 units are 166 tokens of output at 6 * 10^6 units.
  {
    auto all = asked(second, 0, 1000);
    EXPECT_EQ(all->max_output_tokens(), 166U);
    all->deliver({.output_tokens = 100, .num_steps = 100, .cached_input_tokens = 0});
    all->finish(Finish::kComplete);
  }
  EXPECT_EQ(asked(third, 0, 1000)->max_output_tokens(), 66U);
  const auto counted = [&](const std::string& key) {
    return billing->count_request(value_of(gate.decide({RouteClass::kModels, {key, "", ""}})));
  };
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(outcome(counted(i % 2 == 0 ? second : third)), "200");
  }
  EXPECT_EQ(outcome(counted(third)), "429 too_many_requests");
  // Another process knows what was spent.
  ASSERT_TRUE(billing->commit());
  open();
  EXPECT_EQ(asked(third, 0, 1000)->max_output_tokens(), 66U);
}

// Its allowance is paid for; what it uses is no money of the account's.
TEST_F(BillingTest, ATokenPlanHasItsAllowanceAlone) {
  config.limits.budget = Money{600'000'000};  // 100 tokens of output
  open();
  KeySpec plan{"ann", "plan", KeyKind::kTokenPlan};
  plan.limits.allowance_tokens = 1000;
  KeySpec spec{"ann", "paying"};
  spec.limits = config.limits;
  const std::string planned = value_of(keys.create(plan, "ann", {10})).secret;
  const std::string paying = value_of(keys.create(spec, "ann", {10})).secret;
  const auto use = [&](const std::string& key, uint32_t output) {
    const Identity who =
        value_of(gate.decide({RouteClass::kGenerate, {key, "", ""}, Tier::kStandard}));
    Reservation one = value_of(billing->reserve(who, {"tiny", Tier::kStandard, 0, output}));
    one.deliver({one.max_output_tokens(), 1, 0});
    const uint32_t had = one.max_output_tokens();
    one.finish(Finish::kComplete);
    return had;
  };
  EXPECT_EQ(use(planned, 500), 500U);
  EXPECT_EQ(use(paying, 60), 60U);
  EXPECT_EQ(use(planned, 300), 300U);
  EXPECT_EQ(use(paying, 60), 40U);
  EXPECT_EQ(use(planned, 300), 200U);
  ASSERT_TRUE(billing->commit());
  open();
  EXPECT_EQ(outcome(billing->reserve(
                value_of(gate.decide({RouteClass::kGenerate, {paying, "", ""}, Tier::kStandard})),
                {"tiny", Tier::kStandard, 0, 1})),
            "402 budget_used_up");
}

TEST_F(BillingTest, NothingDeliveredCostsNothing) {
  reserve(Tier::kFast).finish(Finish::kDisconnected);
  ASSERT_TRUE(billing->commit());
  EXPECT_EQ(rows()[0].price, Money{0});
  EXPECT_EQ(rows()[0].tokens.input, 0U);
  EXPECT_EQ(rows()[0].finish, "disconnected");
}

TEST_F(BillingTest, WhatIsDroppedHasFailed) {
  {
    Reservation dropped = reserve(Tier::kFast);
    dropped.deliver({1, 1, 0});
  }
  ASSERT_TRUE(billing->commit());
  EXPECT_EQ(rows()[0].finish, "failed");
  EXPECT_EQ(rows()[0].tokens.output, 1U);
}

TEST_F(BillingTest, AChatIsFreeAndInTheLedger) {
  Identity user = identity();
  user.key_id = 0;
  Reservation chat = value_of(billing->reserve(user, {"tiny", Tier::kFast, 100, 1000, true}));
  chat.deliver({50, 10, 0});
  EXPECT_EQ(chat.finish(Finish::kComplete), Money{0});
  ASSERT_TRUE(billing->commit());
  EXPECT_EQ(rows()[0].tokens.output, 50U);
  EXPECT_EQ(rows()[0].key, "");
  EXPECT_EQ(rows()[0].price, Money{0});
}

TEST_F(BillingTest, WhatAKilledServerLeftIsSettledOnce) {
  const RequestId id = [&] {
    auto* const lost = new Reservation(reserve(Tier::kFast));  // as a killed process leaves it
    lost->deliver({7, 2, 0});
    const RequestId lost_id = lost->id();
    std::filesystem::copy_file(config.journal_file, config.journal_file + ".copy");
    delete lost;
    return lost_id;
  }();
  billing.reset();  // without commit()
  std::filesystem::rename(config.journal_file + ".copy", config.journal_file);
  for (int i = 0; i < 2; ++i) {
    std::filesystem::copy_file(config.journal_file, config.journal_file + ".copy",
                               std::filesystem::copy_options::overwrite_existing);
    open();
    EXPECT_EQ(billing->recovery().num_settled, i == 0 ? 1U : 0U);
    EXPECT_EQ(billing->recovery().num_known, i == 0 ? 0U : 1U);
    billing.reset();
    std::filesystem::rename(config.journal_file + ".copy", config.journal_file);
  }
  ASSERT_EQ(rows().size(), 1U);
  EXPECT_EQ(rows()[0].request_id, id.text());
  EXPECT_EQ(rows()[0].finish, "killed");
  EXPECT_EQ(rows()[0].tokens.output, 7U);
  EXPECT_EQ(value_of(keys.find(secret)).spent, rows()[0].price);
  EXPECT_EQ(value_of(read_audit(*database, 1))[0].detail,
            "0 billed now, 1 before, 0 unreadable and not billed");
}

TEST_F(BillingTest, WhatFinishedAndWasNotWrittenKeepsItsEnd) {
  Reservation done = reserve(Tier::kFast);
  done.deliver({7, 2, 0});
  done.finish(Finish::kComplete);
  open();
  EXPECT_EQ(billing->recovery().num_settled, 1U);
  EXPECT_EQ(rows()[0].finish, "complete");
}

TEST_F(BillingTest, AJournalOfAnotherDatabaseIsRefused) {
  Reservation done = reserve(Tier::kFast);
  done.finish(Finish::kComplete);
  billing.reset();
  AccessConfig other = config;
  other.database_file += ".other";
  const auto empty = value_of(Database::open(other.database_file));
  const auto opened = Billing::open(*empty, clock, other);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("cannot bill what an earlier server left there"),
            std::string::npos);
  EXPECT_NE(opened.error().message.find("move the journal away"), std::string::npos);
}

TEST_F(BillingTest, AFullDiskAtStartKeepsTheJournal) {
  Reservation done = reserve(Tier::kFast);
  done.deliver({7, 2, 0});
  done.finish(Finish::kComplete);
  billing.reset();
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto opened = Billing::open(*database, clock, config);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(opened);
  const std::string& message = opened.error().message;
  EXPECT_EQ(message.find("move"), std::string::npos) << message;
  EXPECT_NE(message.find("keep the journal"), std::string::npos) << message;
  open();
  EXPECT_EQ(billing->recovery().num_settled, 1U);
}

TEST_F(BillingTest, SlotsAreLimitedAndComeBack) {
  std::vector<Reservation> running;
  running.reserve(8);
  for (int i = 0; i < 8; ++i) running.push_back(reserve(Tier::kFast));
  secret = add_key("ann");
  const auto ninth = billing->reserve(identity(), {"tiny", Tier::kFast, 1, 1, false});
  EXPECT_EQ(outcome(ninth), "503 too_many_requests_in_flight");
  running.clear();
  EXPECT_EQ(value_of(billing->commit()), 8U);
  reserve(Tier::kFast).finish(Finish::kComplete);
}

TEST_F(BillingTest, AFailedCommitIsMadeUpFor) {
  reserve(Tier::kFast).finish(Finish::kComplete);
  const auto set_read_only = [&](bool is_on) {
    value_of(database->write([&](SQLite::Database& sql) -> Result<int> {
      sql.exec(
          is_on ? "CREATE TRIGGER no BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END"
                : "DROP TRIGGER no");
      return 0;
    }));
  };
  set_read_only(true);
  EXPECT_FALSE(billing->commit().has_value());
  set_read_only(false);
  EXPECT_EQ(value_of(billing->commit()), 1U);
}

TEST_F(BillingTest, BudgetsOutliveTheProcess) {
  KeySpec spec;
  spec.limits.budget = value_of(Money::parse("0.00018"));  // 10 tokens of output at 3 x 6
  secret = add_key("ann", spec);
  Reservation first = reserve(Tier::kFast, 0, 1000);
  EXPECT_EQ(first.max_output_tokens(), 10U);
  first.deliver({4, 1, 0});
  first.finish(Finish::kComplete);
  ASSERT_TRUE(billing->commit());
  open();
  EXPECT_EQ(reserve(Tier::kFast, 0, 1000).max_output_tokens(), 6U);
}

// What keys have spent, totals and rows are three ways to the same sums.
TEST_F(BillingTest, TotalsAreTheSumsOfRows) {
  KeySpec spec;
  spec.limits = {0, 0, 0, std::nullopt, std::nullopt};
  const std::string first = add_key("ann", spec);
  const std::string second = add_key("ann", spec);
  rc::check([&] {
    const int num_requests = *rc::gen::inRange(1, 30);
    for (int i = 0; i < num_requests; ++i) {
      secret = *rc::gen::inRange(0, 2) == 0 ? first : second;
      clock.advance(std::chrono::minutes(*rc::gen::inRange(1, 600)));
      if (clock.now() >= config.window.end(config.calendar)) {
        clock.set(config.window.begin(config.calendar));
      }
      const Tier tier = *rc::gen::inRange(0, 2) == 0 ? Tier::kStandard : Tier::kFast;
      Reservation request = reserve(tier, 50, 100);
      const auto output = static_cast<uint32_t>(*rc::gen::inRange(0, 101));
      if (output > 0) request.deliver({output, 1, 20});
      request.finish(Finish::kComplete);
      RC_ASSERT(billing->commit().has_value());
    }
    std::map<std::tuple<int64_t, std::string, std::string>, Money> sums;
    std::map<std::string, Money> spent;
    for (const LedgerRow& row : rows()) {
      Money& sum = sums[{config.calendar.day_of(row.begun), row.key, row.tier}];
      sum = *sum.plus(row.price);
      spent[row.key] = *spent[row.key].plus(row.price);
    }
    const auto totals = value_of(ledger.totals({}, config.calendar));
    RC_ASSERT(totals.size() == sums.size());
    for (const DayTotal& total : totals) {
      const Money sum = sums[{total.day, total.key, total.tier}];
      RC_ASSERT(sum == total.price);
    }
    for (const Key& key : value_of(keys.list(std::nullopt, 100))) {
      RC_ASSERT(key.spent == spent[key.public_part]);
    }
  });
}

TEST_F(BillingTest, TotalsAreByLocalDayAndFiltered) {
  clock.set(UtcTime(std::chrono::days(20620)) + std::chrono::hours(23));
  for (int i = 0; i < 2; ++i) {
    Reservation request = reserve(Tier::kFast, 0, 10);
    request.deliver({10, 1, 0});
    request.finish(Finish::kComplete);
    clock.advance(std::chrono::hours(2));
  }
  ASSERT_TRUE(billing->commit());
  EXPECT_EQ(value_of(ledger.totals({}, {})).size(), 2U);
  const auto shanghai = value_of(ledger.totals({}, Calendar(std::chrono::hours(8))));
  ASSERT_EQ(shanghai.size(), 1U);
  EXPECT_EQ(day_text(shanghai[0].day), "2026-06-17");
  EXPECT_EQ(shanghai[0].num_requests, 2U);
  EXPECT_EQ(shanghai[0].output_tokens, 20U);
  EXPECT_EQ(shanghai[0].price.text(), "0.00036");
  const UtcTime midnight{std::chrono::days(20621)};
  EXPECT_EQ(value_of(ledger.totals({{}, midnight, {}}, {})).size(), 1U);
  EXPECT_EQ(value_of(ledger.totals({{}, {}, midnight}, {})).size(), 1U);
  EXPECT_EQ(value_of(ledger.totals({99, {}, {}}, {})).size(), 0U);
}

TEST_F(BillingTest, TotalsFollowTheClocksThatArePutForward) {
  config.window = {0, 100'000};
  // 23:30 and 0:30 in Berlin before they are, 23:30 and 0:30 after.
  for (const char* day : {"2026-03-28", "2026-03-29"}) {
    const int hour_of_midnight = day == std::string_view("2026-03-28") ? 23 : 22;
    clock.set(UtcTime(std::chrono::days(*parse_day(day))) + std::chrono::hours(hour_of_midnight) -
              std::chrono::minutes(30));
    for (int i = 0; i < 2; ++i) {
      Reservation request = reserve(Tier::kFast, 0, 10);
      request.deliver({10, 1, 0});
      request.finish(Finish::kComplete);
      clock.advance(std::chrono::hours(1));
    }
  }
  ASSERT_TRUE(billing->commit());
  std::map<std::string, uint64_t> requests;
  const Calendar berlin = value_of(Calendar::of_zone("Europe/Berlin"));
  for (const DayTotal& total : value_of(ledger.totals({}, berlin))) {
    requests[day_text(total.day)] = total.num_requests;
  }
  EXPECT_EQ(requests, (std::map<std::string, uint64_t>{
                          {"2026-03-28", 1}, {"2026-03-29", 2}, {"2026-03-30", 1}}));
}

TEST_F(BillingTest, TheExportIsWhatSpreadsheetsRead) {
  Reservation request =
      value_of(billing->reserve(identity(), {"=cmd|'/c calc'!A1", Tier::kFast, 100, 10, false}));
  request.deliver({10, 4, 64});
  request.finish(Finish::kDisconnected);
  ASSERT_TRUE(billing->commit());
  std::string csv;
  ASSERT_TRUE(ledger.export_csv({}, [&](std::string_view line) -> Status {
    csv += line;
    return {};
  }));
  const std::string expected = fmt::format(
      "id,request_id,begun_utc,account,key,model,tier,multiplier,cached_input_tokens,input_tokens,"
      "output_tokens,price,duration_ms,accepted_length,finish\r\n"
      "1,{},2026-06-16T00:00:00Z,ann,{},'=cmd|'/c calc'!A1,fast,3,64,36,10,0.0005088,0,2.500,"
      "disconnected\r\n",
      request.id().text(), csv_cell(rows()[0].key));
  EXPECT_EQ(csv, expected);
}

TEST_F(BillingTest, ManyRowsAreReadInPortions) {
  std::vector<JournalEntry> entries(2500);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].request.id.words = {i, 1};
    entries[i].request.account_id = 1;
  }
  EXPECT_EQ(value_of(ledger.append(entries)), 2500U);
  EXPECT_EQ(value_of(ledger.append(entries)), 0U);
  EXPECT_EQ(rows().size(), 2500U);
}

TEST(CsvTest, CellsThatBeginAFormulaAreText) {
  EXPECT_EQ(csv_cell("plain"), "plain");
  EXPECT_EQ(csv_cell("=1+1"), "'=1+1");
  EXPECT_EQ(csv_cell("+1"), "'+1");
  EXPECT_EQ(csv_cell("-1"), "'-1");
  EXPECT_EQ(csv_cell("@x"), "'@x");
  EXPECT_EQ(csv_cell("\t=1"), "'\t=1");
  EXPECT_EQ(csv_cell("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_cell("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(csv_cell("=\"a\"\r\n"), "\"'=\"\"a\"\"\r\n\"");
  EXPECT_EQ(csv_cell(""), "");
}

}  // namespace
}  // namespace ultraspeed::access
