// ultraspeed admin: from the first administrator to an export, and what it says of mistakes.
#include <gtest/gtest.h>

#include <filesystem>

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
