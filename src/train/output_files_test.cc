// What was there stays until what replaces it is whole, and errors say why.
#include "train/output_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "support/temporary_directory.h"

namespace ultraspeed::train {
namespace {

class OutputFiles : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

  std::string text_at(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  size_t num_files() const {
    const std::filesystem::directory_iterator files(directory_.path());
    return static_cast<size_t>(std::distance(files, {}));
  }

  test::TemporaryDirectory directory_;
};

TEST_F(OutputFiles, ErrorsSayWhy) {
  EXPECT_EQ(write_file(path("none/x"), {"a"}).error().message,
            path("none/x") + ": cannot write: No such file or directory");
  EXPECT_EQ(write_file("/dev/full", {"a"}).error().message,
            "/dev/full: cannot write: No space left on device");
  std::filesystem::create_directory(path("folder"));
  EXPECT_EQ(check_file(path("folder")).error().message,
            path("folder") + ": cannot write: Is a directory");
  ASSERT_TRUE(write_file(path("file"), {"a"}));
  EXPECT_NE(check_folder(path("file")).error().message.find("cannot make the folder"),
            std::string::npos);
  EXPECT_NE(check_file(path("file/x")).error().message.find("Not a directory"), std::string::npos);
}

TEST_F(OutputFiles, ChecksMakeFoldersAndChangeNoFile) {
  ASSERT_TRUE(write_file(path("file"), {"a", "", "bc"}));
  EXPECT_TRUE(check_file(path("file")));
  EXPECT_EQ(text_at("file"), "abc");
  EXPECT_TRUE(check_file(path("new/folder/file")));
  EXPECT_TRUE(std::filesystem::is_empty(path("new/folder")));
  EXPECT_TRUE(check_folder(path("other/folder")));
  EXPECT_TRUE(std::filesystem::is_empty(path("other/folder")));
}

TEST_F(OutputFiles, AFileIsReplacedAtOnce) {
  ASSERT_TRUE(replace_file(path("file"), {"old"}));
  std::filesystem::create_directory(path("file.new"));  // nothing can be written there
  EXPECT_NE(replace_file(path("file"), {"young"}).error().message.find("Is a directory"),
            std::string::npos);
  EXPECT_EQ(text_at("file"), "old");
  std::filesystem::remove(path("file.new"));
  ASSERT_TRUE(replace_file(path("file"), {"young"}));
  EXPECT_EQ(text_at("file"), "young");
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(OutputFiles, AFolderKeepsItsFilesUntilAllOthersAreWhole) {
  ASSERT_TRUE(write_file(path("a"), {"old a"}) && write_file(path("card"), {"mine"}));
  {
    auto folder = FolderWriter::create(directory_.path());
    ASSERT_TRUE(folder && folder->write("a", "young a"));
    std::filesystem::create_directory(path("b.new"));
    EXPECT_FALSE(folder->write("b", "young b"));
    EXPECT_EQ(text_at("a"), "old a");
  }
  std::filesystem::remove(path("b.new"));
  EXPECT_EQ(num_files(), 2u);  // nothing half written stays
  auto folder = FolderWriter::create(directory_.path());
  ASSERT_TRUE(folder && folder->write("a", "young a") && folder->write("b", "young b"));
  EXPECT_EQ(text_at("a"), "old a");
  ASSERT_TRUE(folder->finish());
  EXPECT_EQ(text_at("a") + text_at("b") + text_at("card"), "young ayoung bmine");
  EXPECT_EQ(num_files(), 3u);
}

}  // namespace
}  // namespace ultraspeed::train
