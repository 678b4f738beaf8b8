// ultraspeed admin: from the first administrator to an export, and what it says of mistakes.
#include <gtest/gtest.h>

#include <filesystem>

#include "access/applications.h"
#include "access/database.h"
#include "e2e/cli.h"
#include "support/temporary_directory.h"

namespace ultraspeed::test {
namespace {

class Admin : public testing::Test {
 protected:
  Admin() {
    config = write_text(folder.path(), "a.toml",
                        "[access]\ndatabase = 'a.db'\npassword_memory_bytes = 8192\n");
  }
  Finished admin(std::vector<std::string> words, const std::string& input = "") const {
    words.insert(words.begin(), {"admin", "--config", config});
    return run_cli(words, input);
  }
  Finished init() const {
    return admin({"init", "root", "--password-file", "-"}, "a long password\n");
  }

  const TemporaryDirectory folder;
  std::string config;
};

TEST_F(Admin, MakesAnAdministratorAndKeys) {
  EXPECT_EQ(init().output, "administrator root made in " + folder.path() + "/a.db\n");
  EXPECT_NE(init().errors.find("there is an administrator, 'root'"), std::string::npos);
  const Finished key = admin({"keys", "create", "root", "--name", "x", "--plan-tokens", "5"});
  EXPECT_TRUE(key.output.starts_with("tp-")) << key.output << key.errors;
  const std::string list = admin({"keys", "list"}).output;
  const std::string public_part = key.output.substr(3, 12);
  EXPECT_NE(list.find(public_part + "  root     x     token-plan  works"), std::string::npos)
      << list;
  EXPECT_EQ(list.find(key.output.substr(16, 20)), std::string::npos);
  EXPECT_EQ(admin({"keys", "revoke", public_part}).output,
            "key " + public_part + " of root is revoked\n");
  EXPECT_EQ(admin({"reset-password", "root", "--password-file", "-"}, "another password").exit_code,
            0);
  const std::string audit = admin({"audit"}).output;
  for (const char* action :
       {"create administrator", "create key", "revoke key", "reset password"}) {
    EXPECT_NE(audit.find(action), std::string::npos) << audit;
  }
}

TEST_F(Admin, ALimitOnFilesIsAFullDisk) {
  const Finished ended =
      run_process({{"/bin/sh", "-c", R"(ulimit -f 8; exec "$0" admin --config "$1" audit)",
                    binary_path(), config},
                   "",
                   {}});
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_NE(ended.errors.find("a.db: cannot be read and written"), std::string::npos)
      << ended.errors;
}

TEST_F(Admin, DecidesApplications) {
  access::AccessConfig offer;
  offer.password_cost = {1, 8192};
  offer.window.last_day = 2 * offer.window.last_day;
  const access::SystemClock clock;
  const auto database = access::Database::open(folder.path() + "/a.db");
  ASSERT_TRUE(database.has_value()) << database.error().message;
  access::Applications applications(**database, clock, offer);
  for (const char* name : {"ann", "bob", "eve"}) {
    ASSERT_TRUE(applications.submit({name, "a long password", "", name}).has_value());
  }
  EXPECT_EQ(admin({"approve", "2"}).output, "application 2 of bob is approved\n");
  const Finished declined = admin({"decline", "1", "3", "9", "--reason", "a flood"});
  EXPECT_EQ(declined.output,
            "application 1 of ann is declined\napplication 3 of eve is declined\n");
  EXPECT_EQ(declined.errors, "ultraspeed: there is no application 9\n");
}

TEST_F(Admin, PrintsTheLedger) {
  EXPECT_EQ(admin({"ledger", "totals"}).output.substr(0, 12), "day  account");
  EXPECT_EQ(admin({"ledger", "export", "--last-day", "2026-06-09"}).output.substr(0, 14),
            "id,request_id,");
  const std::string file = folder.path() + "/out.csv";
  EXPECT_EQ(admin({"ledger", "export", "--out", file}).output, "");
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(Admin, SaysWhatIsWrong) {
  EXPECT_EQ(admin({"approve", "7"}).errors, "ultraspeed: there is no application 7\n");
  EXPECT_EQ(admin({"ledger", "totals", "--first-day", "today"}).errors,
            "ultraspeed: 'today' is no day; expected one like 2026-06-09\n");
  EXPECT_EQ(admin({"init", "root", "--password-file", "-"}, "short").errors,
            "ultraspeed: the password has 5 bytes; expected 12 to 256\n");
  EXPECT_NE(admin({"keys", "create", "nobody", "--name", "x"}).errors.find("no account 'nobody'"),
            std::string::npos);
  config = write_text(folder.path(), "b.toml", "port = 1\n");
  EXPECT_NE(admin({"audit"}).errors.find("no [access] section"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
