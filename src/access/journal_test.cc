// The delivery journal: what survives a process, a torn write, and a damaged file.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "access/delivery_journal.h"
#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

constexpr size_t kFileHeaderBytes = 256;
constexpr size_t kSlotBytes = 240;
constexpr size_t kRequestOffset = 16;  // in a slot
constexpr size_t kRecordsOffset = 160;
constexpr size_t kRecordBytes = 40;

class JournalTest : public testing::Test {
 protected:
  DeliveryJournal opened() {
    auto journal = DeliveryJournal::open(path);
    US_CHECK(journal.has_value(), "{}", journal.error().message);
    return *std::move(journal);
  }
  DeliveryJournal fresh(uint32_t num_slots = 4) {
    DeliveryJournal journal = opened();
    US_CHECK(journal.reset(num_slots).has_value(), "{}", path);
    return journal;
  }
  static JournalRequest request(uint64_t id) {
    JournalRequest made;
    made.id.words = {id, 7};
    made.account_id = 3;
    made.key_id = 4;
    made.begun_ms = 5;
    made.rates = {1, 2, 3};
    made.input_tokens = 100;
    made.set_model("tiny");
    return made;
  }
  void write_bytes(size_t offset, const std::string& bytes) const {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << bytes;
  }
  void replace_file(const std::string& contents) const {
    std::ofstream(path) << contents;
    chmod(path.c_str(), 0600);
  }
  std::string error_of_open() const {
    const auto journal = DeliveryJournal::open(path);
    return journal ? "" : journal.error().message;
  }

  const test::TemporaryDirectory folder;
  const std::string path = folder.path() + "/journal";
};

TEST_F(JournalTest, RemembersWhatWasRecordedLast) {
  {
    DeliveryJournal journal = fresh();
    journal.begin(0, request(1));
    for (uint32_t i = 1; i <= 5; ++i) journal.record(0, {10, i, i, 0, i});
    journal.begin(1, request(2));
    journal.begin(2, request(3));
    journal.release(2);
    EXPECT_EQ(journal.entry(0).progress.output_tokens, 5U);
  }
  const DeliveryJournal journal = opened();
  ASSERT_EQ(journal.left_behind().size(), 2U);
  const JournalEntry& first = journal.left_behind()[0];
  EXPECT_EQ(first.request.id, request(1).id);
  EXPECT_EQ(first.request.model_name(), "tiny");
  EXPECT_EQ(first.request.rates.output, 3);
  EXPECT_EQ(first.progress.output_tokens, 5U);
  EXPECT_EQ(first.progress.cached_input_tokens, 10U);
  EXPECT_EQ(journal.left_behind()[1].progress.output_tokens, 0U);
  EXPECT_EQ(journal.num_unreadable(), 0U);
}

TEST_F(JournalTest, ASlotsNextRequestHasNothingOfTheLast) {
  {
    DeliveryJournal journal = fresh(1);
    journal.begin(0, request(1));
    journal.record(0, {0, 50, 1, 0, 0});
    journal.record(0, {0, 60, 1, 0, 0});
    journal.release(0);
    journal.begin(0, request(2));
    EXPECT_EQ(journal.entry(0).progress.output_tokens, 0U);
  }
  EXPECT_EQ(opened().left_behind().at(0).progress.output_tokens, 0U);
}

// Whichever bytes of the record that was being written are wrong, the one before it holds.
TEST_F(JournalTest, OfATornRecordTheOneBeforeHolds) {
  {
    DeliveryJournal journal = fresh(1);
    journal.begin(0, request(1));
    for (uint32_t i = 1; i <= 4; ++i) journal.record(0, {0, i, i, 0, i});
  }
  std::ifstream file(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  const size_t records = kFileHeaderBytes + kRecordsOffset;
  const size_t newest = records + kRecordBytes;  // the second place has the 2nd and the 4th
  rc::check([&] {
    const auto begin = *rc::gen::inRange<size_t>(0, kRecordBytes);
    const auto length = *rc::gen::inRange<size_t>(1, kRecordBytes - begin + 1);
    std::string torn = whole;
    for (size_t i = 0; i < length; ++i) {
      torn[newest + begin + i] = static_cast<char>(*rc::gen::inRange(0, 256));
    }
    write_bytes(0, torn);
    const uint32_t expected = torn == whole ? 4 : 3;
    RC_ASSERT(opened().left_behind().at(0).progress.output_tokens == expected);
  });
}

TEST_F(JournalTest, ARequestThatCannotBeReadIsNotBilled) {
  {
    DeliveryJournal journal = fresh(2);
    journal.begin(0, request(1));
    journal.record(0, {0, 4, 1, 0, 0});
    journal.begin(1, request(2));
  }
  write_bytes(kFileHeaderBytes + kRequestOffset + 30, "x");
  const DeliveryJournal journal = opened();
  EXPECT_EQ(journal.num_unreadable(), 1U);
  EXPECT_EQ(journal.left_behind().size(), 1U);
}

TEST_F(JournalTest, BelongsToOneProcess) {
  const DeliveryJournal journal = fresh();
  EXPECT_NE(error_of_open().find("another server has the delivery journal"), std::string::npos);
}

TEST_F(JournalTest, IsForItsOwnerAlone) {
  umask(0);
  fresh();
  struct stat status = {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(static_cast<size_t>(status.st_size), kFileHeaderBytes + 4 * kSlotBytes);
}

TEST_F(JournalTest, OneThatOthersMayReadIsRefused) {
  fresh();
  chmod(path.c_str(), 0644);
  EXPECT_EQ(error_of_open(), path + ": others may read it (mode 644); run chmod 600 on it");
}

TEST_F(JournalTest, OneThatWasNeverStartedIsEmpty) {
  replace_file("");
  EXPECT_TRUE(opened().left_behind().empty());
  replace_file(std::string(1000, '\0'));
  EXPECT_TRUE(opened().left_behind().empty());
}

TEST_F(JournalTest, OtherFilesAreRefused) {
  for (const std::string& text :
       {std::string("hello"), std::string(10'000, 'x'), std::string(100, '\0')}) {
    replace_file(text);
    EXPECT_NE(error_of_open().find("no delivery journal of this program"), std::string::npos);
  }
  std::filesystem::remove(path);
  fresh();
  std::ofstream(path, std::ios::app) << "x";
  EXPECT_NE(error_of_open().find("no delivery journal"), std::string::npos);
  EXPECT_NE(DeliveryJournal::open(folder.path() + "/a/b").error().message.find("cannot create"),
            std::string::npos);
}

TEST_F(JournalTest, LongModelNamesAreCut) {
  JournalRequest made = request(1);
  made.set_model(std::string(100, 'm'));
  EXPECT_EQ(made.model_name(), std::string(68, 'm'));
}

}  // namespace
}  // namespace ultraspeed::access
