// Files and token ids as users give them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "apps/files.h"
#include "apps/prompt.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

TEST(Files, KeepEveryByte) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/file";
  std::string contents(200'000, 'x');
  contents += std::string("\0\r\n", 3);
  ASSERT_TRUE(write_file(path, contents));
  EXPECT_EQ(read_file(path).value(), contents);
  ASSERT_TRUE(write_file(path, "short"));
  EXPECT_EQ(read_file(path).value(), "short");
}

TEST(Files, ErrorsNameTheFile) {
  const test::TemporaryDirectory directory;
  const auto missing = read_file(directory.path() + "/none");
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().message,
            directory.path() + "/none: cannot open: No such file or directory");
  EXPECT_EQ(read_file(directory.path()).error().code, ErrorCode::kIo);  // a folder
  EXPECT_NE(write_file(directory.path() + "/a/b", "").error().message.find("/a/b"),
            std::string::npos);
}

TEST(ParseJson, KeepsTheOrderOfKeys) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": 2})", "x")->dump(), R"({"b":1,"a":2})");
}

TEST(ParseJson, RefusesTextThatIsNoJsonOrTooDeep) {
  const auto broken = parse_json("[1,\n 2,]", "list.json");
  ASSERT_FALSE(broken);
  EXPECT_TRUE(
      broken.error().message.starts_with("list.json: not valid JSON: parse error at line 2"))
      << broken.error().message;
  EXPECT_TRUE(parse_json(std::string(60, '[') + std::string(60, ']'), "x"));
  EXPECT_FALSE(parse_json(std::string(70, '[') + std::string(70, ']'), "x"));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '['), "x"));
  EXPECT_FALSE(parse_json("", "x"));
}

TEST(ParseTokenIds, TakesCommasAndSpaces) {
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(parse_token_ids("1,2 3,\n4", "--ids").value(), (Ids{1, 2, 3, 4}));
  EXPECT_EQ(parse_token_ids(" 2147483647 ", "--ids").value(), (Ids{2147483647}));
  for (const char* bad : {"", " , ", "x", "1,2x", "-1", "1.5", "2147483648", "0x10"}) {
    const auto ids = parse_token_ids(bad, "--ids");
    ASSERT_FALSE(ids) << bad;
    EXPECT_TRUE(ids.error().message.starts_with("--ids: ")) << ids.error().message;
  }
}

}  // namespace
}  // namespace ultraspeed::apps
