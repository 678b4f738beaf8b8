#include "model/fingerprint.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

namespace fs = std::filesystem;

class FingerprintTest : public testing::Test {
 protected:
  void SetUp() override {
    test::GeneratorOptions options;
    options.num_files = 3;
    ASSERT_TRUE(test::write_checkpoint(model_.path(), options));
    shard_ = Checkpoint::open(model_.path())->files()[1].path();
    tick();
  }

  // Until the file system's clock moves.
  static void tick() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

  struct Answer {
    std::string text;
    bool was_read = false;
  };

  // Of the files as they are now. What is kept is not waited for.
  Answer ask(const FingerprintOptions& options = {.settled_s = 0}) const {
    const auto checkpoint = Checkpoint::open(model_.path());
    Fingerprint fingerprint;
    EXPECT_TRUE(checkpoint && fingerprint.add("model", *checkpoint));
    const auto text = fingerprint.text(OutputFolder(kept_.path()), options);
    EXPECT_TRUE(text) << text.error().message;
    return {text.value_or(""), fingerprint.was_read()};
  }

  static void flip(const std::string& path, uint64_t from_end) {
    tick();
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-static_cast<std::streamoff>(from_end), std::ios::end);
    const int value = file.get();
    file.seekp(-static_cast<std::streamoff>(from_end), std::ios::end);
    file.put(static_cast<char>(value ^ 1));
  }

  test::TemporaryDirectory model_, kept_;
  std::string shard_;
};

TEST_F(FingerprintTest, ReadsFilesOnce) {
  const Answer first = ask(), second = ask();
  EXPECT_TRUE(first.was_read);
  EXPECT_FALSE(second.was_read);
  EXPECT_EQ(first.text, second.text);
  for (const char* name : {"model/config.json ", "model/model.safetensors.index.json "}) {
    EXPECT_NE(first.text.find(name), std::string::npos) << first.text;
  }
  const Answer all = ask({.reads_all = true, .settled_s = 0});
  EXPECT_TRUE(all.was_read);
  EXPECT_EQ(all.text, first.text);
}

// The bytes are far from every sample, and size and time of modification are what they were.
TEST_F(FingerprintTest, SeesAnEditThatHides) {
  const std::string before = ask().text;
  const auto modified = fs::last_write_time(shard_);
  const auto size = fs::file_size(shard_);
  flip(shard_, size / 2 + size / 30);
  fs::last_write_time(shard_, modified);
  ASSERT_EQ(fs::file_size(shard_), size);
  ASSERT_EQ(fs::last_write_time(shard_), modified);
  const Answer after = ask();
  EXPECT_TRUE(after.was_read);
  EXPECT_NE(after.text, before);
  flip(shard_, size / 2 + size / 30);
  EXPECT_EQ(ask().text, before);
}

TEST_F(FingerprintTest, KnowsCopiesByTheirBytes) {
  const std::string before = ask().text;
  fs::copy_file(shard_, shard_ + ".copy");
  fs::rename(shard_ + ".copy", shard_);
  const Answer after = ask();
  EXPECT_TRUE(after.was_read);
  EXPECT_EQ(after.text, before);
}

TEST_F(FingerprintTest, ConfigurationCounts) {
  const std::string before = ask().text;
  std::ofstream(model_.path() + "/config.json", std::ios::app) << "\n";
  EXPECT_NE(ask().text, before);
}

// Files that were just written may be written again at the same tick.
TEST_F(FingerprintTest, KeepsNothingOfFreshFiles) {
  EXPECT_TRUE(ask({.settled_s = 3600}).was_read);
  EXPECT_TRUE(fs::is_empty(kept_.path()));
  EXPECT_TRUE(ask().was_read);
  EXPECT_FALSE(fs::is_empty(kept_.path()));
}

TEST_F(FingerprintTest, DamagedTextIsReadAnew) {
  const std::string before = ask().text;
  for (const auto& entry : fs::directory_iterator(kept_.path())) flip(entry.path(), 3);
  const Answer after = ask();
  EXPECT_TRUE(after.was_read);
  EXPECT_EQ(after.text, before);
}

TEST_F(FingerprintTest, FilesThatChangeWhileOpenAreErrors) {
  const auto checkpoint = Checkpoint::open(model_.path());
  Fingerprint fingerprint;
  ASSERT_TRUE(checkpoint && fingerprint.add("model", *checkpoint));
  ASSERT_TRUE(fingerprint.check_unchanged());
  fs::copy_file(shard_, shard_ + ".copy");
  fs::rename(shard_ + ".copy", shard_);
  const Status status = fingerprint.check_unchanged();
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find(shard_), std::string::npos) << status.error().message;
  EXPECT_FALSE(fingerprint.text(OutputFolder(kept_.path()), {}));
}

}  // namespace
}  // namespace ultraspeed::model
