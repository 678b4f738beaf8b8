// Archives: what is written is read back, byte for byte; what is damaged is refused.
#include "apps/tar.h"

#include <gtest/gtest.h>

#include <cstring>

namespace ultraspeed::apps {
namespace {

const std::vector<TarFile> kFiles = {{"report.json", "{}\n"},
                                     {"runs/a.json", std::string(1024, 'a')},
                                     {"runs/" + std::string(95, 'n'), ""}};

std::string error_of(std::string_view archive) {
  const auto files = read_tar(archive, "x.tar");
  EXPECT_FALSE(files);
  if (files) return "";
  EXPECT_EQ(files.error().code, ErrorCode::kInvalidData);
  return files.error().message;
}

// A header whose checksum fits what was changed.
std::string with_header(std::string archive, size_t offset, std::string_view bytes) {
  archive.replace(offset, bytes.size(), bytes);
  archive.replace(148, 8, "        ");
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[i]);
  char digits[8] = {};
  snprintf(digits, sizeof(digits), "%06o", sum);
  archive.replace(148, 7, digits, 7);
  return archive;
}

TEST(Tar, IsReadBack) {
  const std::string archive = write_tar(kFiles);
  EXPECT_EQ(archive.size() % 512, 0u);
  EXPECT_EQ(archive.size(), 512u * (2 + 3 + 1 + 2));
  EXPECT_EQ(archive, write_tar(kFiles));
  const auto files = read_tar(archive, "x.tar");
  ASSERT_TRUE(files) << files.error().message;
  ASSERT_EQ(files->size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*files)[i].name, kFiles[i].name);
    EXPECT_EQ((*files)[i].contents, kFiles[i].contents);
  }
  EXPECT_TRUE(read_tar(write_tar({}), "x.tar").value().empty());
  // Other programs pad archives.
  EXPECT_EQ(read_tar(archive + std::string(10240, '\0'), "x.tar").value().size(), 3u);
}

// As POSIX lays a header out.
TEST(Tar, HasTheFieldsOfUstar) {
  const std::string archive = write_tar({{"a", "bc"}});
  EXPECT_EQ(archive.substr(0, 2), std::string("a\0", 2));
  EXPECT_EQ(archive.substr(100, 8), std::string("0000644\0", 8));
  EXPECT_EQ(archive.substr(124, 12), std::string("00000000002\0", 12));
  EXPECT_EQ(archive.substr(136, 12), std::string("00000000000\0", 12));
  EXPECT_EQ(archive[156], '0');
  EXPECT_EQ(archive.substr(257, 8), std::string("ustar\00000", 8));
  EXPECT_EQ(archive, with_header(archive, 0, ""));  // the checksum
}

TEST(Tar, EveryTruncationIsAnError) {
  const std::string archive = write_tar(kFiles);
  for (size_t size = 0; size < archive.size(); ++size) {
    EXPECT_NE(error_of(std::string_view(archive).substr(0, size)), "") << size;
  }
  EXPECT_EQ(error_of(""), "x.tar: byte 0: the archive ends early: two empty blocks must end it");
  EXPECT_EQ(error_of(std::string_view(archive).substr(0, 1024 + 1024)),
            "x.tar: byte 1024: the archive ends within 'runs/a.json'");
}

TEST(Tar, EveryChangedByteOfAHeaderIsAnError) {
  const std::string archive = write_tar({{"a", "bc"}});
  for (size_t i = 0; i < 512; ++i) {
    if (i == 154 || i == 155) continue;  // what ends the checksum
    std::string changed = archive;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_NE(error_of(changed), "") << i;
  }
}

TEST(Tar, RefusesWhatNoReportHas) {
  const std::string archive = write_tar({{"name", "contents"}});
  const auto changed = [&](size_t offset, std::string_view bytes) {
    return error_of(with_header(archive, offset, bytes));
  };
  EXPECT_EQ(changed(257, "gnutar"),
            "x.tar: byte 0: no header of a ustar archive; expected what 'ultraspeed report' wrote");
  EXPECT_EQ(changed(156, "2"), "x.tar: byte 0: 'name' is no plain file");
  for (const std::string name : {"/etc", "../x", "a/..", "..", "a\nb", "a\x80"}) {
    EXPECT_EQ(changed(0, name + std::string(1, '\0')), "x.tar: byte 0: a name that no report has")
        << name;
  }
  EXPECT_EQ(changed(0, std::string(1, '\0')), "x.tar: byte 0: a name that no report has");
  EXPECT_EQ(changed(345, "p"), "x.tar: byte 0: a name that no report has");
  EXPECT_EQ(changed(124, "00000000003"), "x.tar: byte 0: 'name' does not end with empty bytes");
  EXPECT_EQ(changed(124, "77777777777"), "x.tar: byte 0: the archive ends within 'name'");
  EXPECT_EQ(changed(124, "0000000000x"), "x.tar: byte 0: the archive ends within 'name'");
  EXPECT_EQ(error_of(write_tar({{"a", ""}, {"a", ""}})), "x.tar: byte 1024: 'a' comes twice");
  EXPECT_EQ(error_of(archive + "x"), "x.tar: byte 1024: there is more after the end");
  std::vector<TarFile> many;
  for (int i = 0; i < 1001; ++i) many.push_back({std::to_string(i), ""});
  EXPECT_EQ(error_of(write_tar(many)), "x.tar: byte 512000: more than 1000 files");
}

}  // namespace
}  // namespace ultraspeed::apps
