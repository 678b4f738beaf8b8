#include "hub/blob_hash.h"

#include <gtest/gtest.h>

namespace ultraspeed::hub {
namespace {

std::string hash_of(HashKind kind, std::string_view text) {
  BlobHash hash(kind, text.size());
  for (const char& c : text) hash.update(std::as_bytes(std::span(&c, 1)));
  return hash.hex();
}

// The values of sha256sum and of git hash-object.
TEST(BlobHash, IsSha256OrGits) {
  EXPECT_EQ(hash_of(HashKind::kSha256, "hello\n"),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  EXPECT_EQ(hash_of(HashKind::kGitSha1, "hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(hash_of(HashKind::kGitSha1, ""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(BlobHash, NamesAreEtags) {
  const std::string sha1(40, 'a'), sha256(64, 'b');
  EXPECT_EQ(parse_blob_name(sha1)->kind, HashKind::kGitSha1);
  EXPECT_EQ(parse_blob_name("\"" + sha256 + "\"")->kind, HashKind::kSha256);
  EXPECT_EQ(parse_blob_name("W/\"" + sha1 + "\"")->hex, sha1);
  for (const std::string& wrong :
       {std::string(), std::string("\""), std::string(39, 'a'), std::string(41, 'a'),
        std::string(40, 'A'), std::string(40, 'g'), "../" + std::string(37, 'a')}) {
    EXPECT_FALSE(parse_blob_name(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace ultraspeed::hub
