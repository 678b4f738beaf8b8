// How added tokens are found: longest first, whole words, with the white space they swallow.
#include "text/added_tokens.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace ultraspeed::text {
namespace {

// "text|#id:text|..." of the pieces.
std::string describe(const AddedTokenFinder& finder, std::string_view text,
                     const std::vector<ByteRange>& plain = {}) {
  std::string description;
  size_t covered = 0;
  for (const AddedTokenPiece& piece : finder.split(text, plain)) {
    EXPECT_EQ(piece.range.begin, covered);
    covered = piece.range.end;
    if (!description.empty()) description += '|';
    if (piece.id != AddedTokenPiece::kText) description += fmt::format("#{}:", piece.id);
    description += text.substr(piece.range.begin, piece.range.end - piece.range.begin);
  }
  EXPECT_EQ(covered, text.size());
  return description;
}

TEST(AddedTokens, TheLongestWins) {
  const AddedTokenFinder finder({{.content = "<a", .id = 1},
                                 {.content = "<a>", .id = 2},
                                 {.content = "<ab", .id = 3},
                                 {.content = "b", .id = 4}});
  EXPECT_EQ(describe(finder, "x<a>b<ab<ac<"), "x|#2:<a>|#4:b|#3:<ab|#1:<a|c<");
  EXPECT_EQ(describe(finder, ""), "");
  EXPECT_EQ(describe(AddedTokenFinder(), "<a"), "<a");
}

TEST(AddedTokens, PlainRangesAreLeftAlone) {
  const AddedTokenFinder finder({{.content = "<a", .id = 1}, {.content = "<a>", .id = 2}});
  EXPECT_EQ(describe(finder, "<a><a><a>", {{3, 6}}), "#2:<a>|<a>|#2:<a>");
  EXPECT_EQ(describe(finder, "<a><a>", {{2, 4}}), "#1:<a|><a>");
  EXPECT_EQ(describe(finder, "<a>", {{0, 1}, {1, 3}}), "<a>");
}

TEST(AddedTokens, SingleWords) {
  const AddedTokenFinder finder({{.content = "on", .id = 1, .single_word = true}});
  EXPECT_EQ(describe(finder, "on, go on on"), "#1:on|, go |#1:on| |#1:on");
  EXPECT_EQ(describe(finder, "one son son1 on_ \xC3\xA9on"), "one son son1 on_ \xC3\xA9on");
  EXPECT_EQ(describe(finder, "on\xCC\x81 on\xE2\x80\x8D on\xE2\x92\xB6 on\xE2\x82\xAC"),
            "on\xCC\x81 on\xE2\x80\x8D on\xE2\x92\xB6 |#1:on|\xE2\x82\xAC");
}

TEST(AddedTokens, Strips) {
  const AddedTokenFinder finder(
      {{.content = "<l>", .id = 1, .lstrip = true}, {.content = "<r>", .id = 2, .rstrip = true}});
  EXPECT_EQ(describe(finder, "a \xE3\x80\x80<l> b"), "a|#1: \xE3\x80\x80<l>| b");
  EXPECT_EQ(describe(finder, "a <r>\xC2\xA0\n b"), "a |#2:<r>\xC2\xA0\n |b");
  EXPECT_EQ(describe(finder, "<r>  <l>"), "#2:<r>  |#1:<l>");
  EXPECT_EQ(describe(finder, "  <l>"), "#1:  <l>");
  EXPECT_EQ(describe(finder, "<r>  "), "#2:<r>  ");
  EXPECT_EQ(describe(finder, "\xE1\xA0\x8E<l>"), "\xE1\xA0\x8E|#1:<l>");  // U+180E is no space
}

}  // namespace
}  // namespace ultraspeed::text
