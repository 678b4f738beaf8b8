#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/large_memory.h"
#include "base/mapped_file.h"
#include "base/result.h"

namespace ultraspeed {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return make_error(ErrorCode::kInvalidArgument, "{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) {
  US_ASSIGN(const int once, half(value));
  US_TRY(half(once));
  return half(once);
}

TEST(Result, PropagatesTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
  EXPECT_EQ(quarter(5).error().code, ErrorCode::kInvalidArgument);
}

TEST(CheckDeathTest, PrintsValues) {
  EXPECT_DEATH(US_CHECK(1 == 2, "one is {}", 1), "1 == 2: one is 1");
}

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "mapped_" + std::to_string(getpid());
    std::ofstream(path_, std::ios::binary) << std::string(3 * 4096, 'x');
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::string path_;
};

TEST_F(MappedFileTest, ReadsAndRefusesRangesOutside) {
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file);
  std::array<std::byte, 16> out = {};
  ASSERT_TRUE(file->read(100, out));
  EXPECT_EQ(out[15], std::byte{'x'});
  EXPECT_EQ(file->read(3 * 4096 - 15, out).error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(file->read(~uint64_t{0}, out).error().code, ErrorCode::kInvalidData);
}

TEST_F(MappedFileTest, ReadsRowsAndCountsTheirBytes) {
  std::string text(1000, '.');
  for (size_t row = 0; row < 5; ++row)
    text.replace(10 + row * 100, 3, 3, static_cast<char>('a' + row));
  std::ofstream(path_) << text;
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file);
  std::array<char, 15> out = {};
  const auto bytes = std::as_writable_bytes(std::span(out));
  ASSERT_TRUE(file->read_rows({.offset = 10, .count = 5, .row_bytes = 3, .stride = 100}, bytes));
  EXPECT_EQ(std::string_view(out.data(), out.size()), "aaabbbcccdddeee");
  EXPECT_EQ(file->bytes_read(), 15U);
  EXPECT_TRUE(file->read_rows({.offset = 597, .count = 5, .row_bytes = 3, .stride = 100}, bytes));
  const auto past =
      file->read_rows({.offset = 598, .count = 5, .row_bytes = 3, .stride = 100}, bytes);
  EXPECT_EQ(past.error().code, ErrorCode::kInvalidData);
  EXPECT_EQ(file->bytes_read(), 30U);
  EXPECT_TRUE(file->read_rows({.offset = 5000, .count = 0}, {}));
}

// Every change moves the time of change, also one that sets the other times back.
TEST_F(MappedFileTest, StampsTellFilesApart) {
  const FileStamp before = MappedFile::open(path_)->stamp();
  EXPECT_EQ(before, FileStamp::of(path_).value());
  EXPECT_EQ(before.size_bytes, 3U * 4096);
  const auto modified = std::filesystem::last_write_time(path_);
  // The file system's clock may stand still for a tick.
  for (int i = 0; i < 100 && FileStamp::of(path_).value() == before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::ofstream(path_, std::ios::binary) << std::string(3 * 4096, 'y');
    std::filesystem::last_write_time(path_, modified);
  }
  const FileStamp after = FileStamp::of(path_).value();
  EXPECT_EQ(after.inode, before.inode);
  EXPECT_EQ(after.modified_ns, before.modified_ns);
  EXPECT_GT(after.changed_ns, before.changed_ns);
  EXPECT_EQ(FileStamp::of(path_ + ".none").error().code, ErrorCode::kIo);
}

TEST_F(MappedFileTest, ForgottenPagesAreReadAgainAndNotCounted) {
  constexpr size_t kBytes = 40'000'000;
  std::ofstream(path_) << std::string(kBytes, 'x');
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file) << file.error().message;
  const auto mapped_bytes = [] {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("RssFile:")) return std::stoul(line.substr(8)) * 1024;
    }
    return 0UL;
  };
  const size_t before = mapped_bytes();
  std::vector<std::byte> piece(100'000);
  for (size_t offset = 0; offset < kBytes; offset += piece.size()) {
    ASSERT_TRUE(file->read(offset, piece));
    ASSERT_EQ(piece.back(), std::byte{'x'});
  }
  EXPECT_GT(mapped_bytes(), before + kBytes / 2);
  for (size_t offset = 0; offset < kBytes; offset += piece.size()) {
    file->forget(offset, piece.size());
  }
  EXPECT_LT(mapped_bytes(), before + 1'000'000);
  ASSERT_TRUE(file->read(kBytes - 1, std::span(piece).first(1)));
  EXPECT_EQ(piece.front(), std::byte{'x'});
  file->forget(kBytes - 1, 100);  // past the end, and behind it: nothing to forget
  file->forget(kBytes, 100);
  file->forget(0, 0);
}

TEST_F(MappedFileTest, TruncationWhileMappedIsAnError) {
  auto file = MappedFile::open(path_);
  ASSERT_TRUE(file);
  std::filesystem::resize_file(path_, 4096);
  std::vector<std::byte> out(4096);
  EXPECT_TRUE(file->read(0, out));
  for (int i = 0; i < 3; ++i) {
    const auto status = file->read(4096, out);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_NE(status.error().message.find("truncated while in use"), std::string::npos);
  }
  std::thread other([&] { EXPECT_FALSE(file->read(8192, out)); });
  other.join();
}

TEST_F(MappedFileTest, MissingFileAndDirectoryAreErrors) {
  EXPECT_EQ(MappedFile::open(path_ + ".none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(MappedFile::open(testing::TempDir()).error().code, ErrorCode::kIo);
}

TEST_F(MappedFileTest, AFifoIsAnErrorAtOnce) {
  const std::string fifo = path_ + ".fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const auto file = MappedFile::open(fifo);
  std::filesystem::remove(fifo);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().message, fifo + ": not a regular file");
}

TEST(LargeMemory, IsZeroedWritableAndMovable) {
  auto memory = LargeMemory::allocate(5 << 20);
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->bytes().size(), size_t{5 << 20});
  EXPECT_EQ(memory->bytes().front(), std::byte{0});
  memory->bytes().back() = std::byte{7};
  LargeMemory moved = *std::move(memory);
  EXPECT_EQ(moved.bytes().back(), std::byte{7});
  EXPECT_TRUE(memory->bytes().empty());
  EXPECT_TRUE(LargeMemory::allocate(0)->bytes().empty());
}

TEST(LargeMemory, TooMuchIsAnErrorWithTheSize) {
  const auto memory = LargeMemory::allocate(size_t{1} << 62);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(memory.error().message.find("4611686018427387904 bytes"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed
