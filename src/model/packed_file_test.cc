#include "model/packed_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + size);
  return bytes;
}

class PackedFileTest : public testing::Test {
 protected:
  static constexpr std::array<uint64_t, 4> kSizes = {5, 0, 10'000, 4096};

  Status write() {
    US_ASSIGN(auto writer,
              PackedFileWriter::create(folder_, "a.weights", PackedIndex::plan("what", kSizes)));
    for (size_t i = kSizes.size(); i-- > 0;) US_TRY(writer.write(i, pattern(kSizes[i])));
    return writer.finish();
  }

  Status read_all() const {
    US_ASSIGN(const PackedFile file, PackedFile::open(path_));
    for (size_t i = 0; i < kSizes.size(); ++i) {
      std::vector<std::byte> bytes(kSizes[i]);
      US_TRY(file.read(i, bytes));
      EXPECT_EQ(bytes, pattern(kSizes[i]));
    }
    return {};
  }

  void flip(uint64_t offset) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int value = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(value ^ 0x10));
  }

  size_t num_files() const {
    const std::filesystem::directory_iterator files(directory_.path());
    return static_cast<size_t>(std::distance(begin(files), end(files)));
  }

  test::TemporaryDirectory directory_;
  const OutputFolder folder_{directory_.path()};
  const std::string path_ = directory_.path() + "/a.weights";
};

TEST_F(PackedFileTest, ReadsWhatWasWritten) {
  ASSERT_TRUE(write());
  EXPECT_EQ(num_files(), 1U);
  EXPECT_TRUE(read_all());
  const auto index = PackedFile::open(path_)->index();
  EXPECT_TRUE(index.has_shape_of(PackedIndex::plan("what", kSizes)));
  EXPECT_FALSE(index.has_shape_of(PackedIndex::plan("else", kSizes)));
  EXPECT_FALSE(index.has_shape_of(PackedIndex::plan("what", std::span(kSizes).first(3))));
  for (const PackedIndex::Block& block : index.blocks) EXPECT_EQ(block.offset % 4096, 0U);
}

// Of the index and of the blocks; between them is nothing.
TEST_F(PackedFileTest, EveryFlippedByteIsFound) {
  ASSERT_TRUE(write());
  const PackedIndex index = PackedFile::open(path_)->index();
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < index.header().size(); ++i) offsets.push_back(i);
  for (const PackedIndex::Block& block : index.blocks) {
    for (uint64_t i = 0; i < block.bytes; i += 97) offsets.push_back(block.offset + i);
  }
  for (const uint64_t offset : offsets) {
    flip(offset);
    const Status status = read_all();
    ASSERT_FALSE(status) << offset;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidData);
    EXPECT_NE(status.error().message.find(path_), std::string::npos) << status.error().message;
    flip(offset);
  }
  EXPECT_TRUE(read_all());
}

TEST_F(PackedFileTest, EveryOtherLengthIsFound) {
  ASSERT_TRUE(write());
  const uint64_t size = std::filesystem::file_size(path_);
  for (const uint64_t length :
       {size + 1, size - 1, size - 4096, uint64_t{100}, uint64_t{39}, uint64_t{0}}) {
    std::filesystem::resize_file(path_, length);
    EXPECT_FALSE(PackedFile::open(path_)) << length;
  }
}

TEST_F(PackedFileTest, WhatIsNotFinishedIsGone) {
  {
    auto writer = PackedFileWriter::create(folder_, "a.weights", PackedIndex::plan("what", kSizes));
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->write(0, pattern(5)));
    EXPECT_EQ(num_files(), 1U);
  }
  EXPECT_EQ(num_files(), 0U);
}

TEST_F(PackedFileTest, OneWriterAtATime) {
  const auto begin = [&] {
    return PackedFileWriter::create(folder_, "a.weights", PackedIndex::plan("what", kSizes));
  };
  auto first = begin();
  ASSERT_TRUE(first);
  const auto second = begin();
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another process"), std::string::npos);
  remove_abandoned(folder_);  // it is not
  for (size_t i = 0; i < kSizes.size(); ++i) ASSERT_TRUE(first->write(i, pattern(kSizes[i])));
  ASSERT_TRUE(first->finish());
  EXPECT_TRUE(read_all());
}

TEST_F(PackedFileTest, RemovesWhatKilledProcessesLeft) {
  ASSERT_TRUE(write());
  std::ofstream(path_ + ".packing") << "half";
  std::ofstream(directory_.path() + "/other") << "not ours";
  remove_abandoned(folder_);
  EXPECT_EQ(num_files(), 2U);
  EXPECT_TRUE(read_all());
}

TEST_F(PackedFileTest, AFullDiskLeavesNothing) {
  class FullFolder : public OutputFolder {
   public:
    using OutputFolder::OutputFolder;
    Status write_at(const OutputFile& file, uint64_t, std::span<const std::byte>) const override {
      return make_error(ErrorCode::kIo, "{}: cannot write: No space left on device", file.path());
    }
  };
  const FullFolder full(directory_.path());
  {
    auto writer = PackedFileWriter::create(full, "a.weights", PackedIndex::plan("what", kSizes));
    ASSERT_TRUE(writer);
    EXPECT_FALSE(writer->write(0, pattern(5)));
    EXPECT_FALSE(writer->finish());
  }
  EXPECT_EQ(num_files(), 0U);
}

}  // namespace
}  // namespace ultraspeed::model
