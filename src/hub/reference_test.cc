#include "hub/reference.h"

#include <gtest/gtest.h>

namespace ultraspeed::hub {
namespace {

std::string parsed(std::string_view text) {
  const auto reference = parse_reference(text);
  return reference ? reference->id + " at " + reference->revision : "none";
}

TEST(ModelReference, ReadsNamesAndRevisions) {
  EXPECT_EQ(parsed("Qwen/Qwen3-8B"), "Qwen/Qwen3-8B at main");
  EXPECT_EQ(parsed("z-lab/Qwen3-8B-DFlash-b16@v1.0"), "z-lab/Qwen3-8B-DFlash-b16 at v1.0");
  EXPECT_EQ(parsed("a/b@refs/pr/7"), "a/b at refs/pr/7");
  EXPECT_EQ(parse_reference("a/b@main")->text(), "a/b");
  EXPECT_EQ(parse_reference("a/b@x")->text(), "a/b@x");
}

TEST(ModelReference, PathsAreNone) {
  for (const char* path :
       {"",     "model",    "./a/b",  "../a",     "/a/b",     "~/a",    "a/b/c",      "a/",
        "/b",   "a/.b",     "a/b.",   "-a/b",     "a/b--c",   "a/b..c", "a/b.git",    "a b/c",
        "a/b@", "a/b@../x", "a/b@/x", "a/b@x//y", "a/b@x\\y", "a/b@.",  "\xC3\xA4/b", "a/b\n"}) {
    EXPECT_EQ(parsed(path), "none") << path;
  }
  EXPECT_EQ(parsed("a/" + std::string(97, 'b')), "none");
}

TEST(InsidePath, IsBelowItsFolder) {
  for (const char* path : {"a", "a/b.json", "..a/b", "a b", "dflash/config.json"}) {
    EXPECT_TRUE(is_inside_path(path)) << path;
  }
  for (const char* path :
       {"", ".", "..", "/a", "a/", "a//b", "a/../b", "../a", "a/..", "a\\b", "a\nb", "./a"}) {
    EXPECT_FALSE(is_inside_path(path)) << path;
  }
  EXPECT_FALSE(is_inside_path(std::string_view("a\0b", 3)));
  EXPECT_FALSE(is_inside_path(std::string(256, 'a')));
}

}  // namespace
}  // namespace ultraspeed::hub
