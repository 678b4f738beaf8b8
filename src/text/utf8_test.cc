// UTF-8 decoding against the Unicode Standard's examples, and range mapping through edits.
#include "text/utf8.h"

#include <gtest/gtest.h>

namespace ultraspeed::text {
namespace {

std::string lossy(std::string_view bytes) {
  return replace_malformed(bytes).text;
}

TEST(Utf8, EveryScalarValueRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string bytes;
    append_utf8(c, bytes);
    const Utf8Piece piece = first_utf8_piece(bytes);
    ASSERT_EQ(piece.kind, Utf8Kind::kCharacter) << static_cast<uint32_t>(c);
    ASSERT_EQ(piece.code_point, c);
    ASSERT_EQ(piece.size_bytes, bytes.size());
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const Utf8Piece prefix = first_utf8_piece(std::string_view(bytes).substr(0, cut));
      ASSERT_EQ(prefix.kind, Utf8Kind::kCutOff);
      ASSERT_EQ(prefix.size_bytes, cut);
    }
  }
}

TEST(Utf8, MalformedBytesBecomeOneReplacementPerMaximalSubpart) {
  const std::string r(kReplacementCharacter);
  // Unicode Standard 15, tables 3-8 to 3-11.
  EXPECT_EQ(lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(lossy("a\xF0\x9F\x98"), "a" + r);
  EXPECT_EQ(lossy("plain \xC3\xA9"), "plain \xC3\xA9");
}

TEST(Utf8, RangesFollowTheirText) {
  // "a" <FF> "b" <E2 82> "c": each malformed piece becomes three bytes.
  const RewrittenText rewritten = replace_malformed(
      "a\xFF"
      "b\xE2\x82"
      "c");
  ASSERT_EQ(rewritten.edits.size(), 2u);
  const std::vector<ByteRange> mapped =
      map_ranges({{0, 1}, {1, 2}, {2, 4}, {5, 6}}, rewritten.edits);
  ASSERT_EQ(mapped.size(), 4u);
  EXPECT_EQ(mapped[0].begin, 0u);
  EXPECT_EQ(mapped[0].end, 1u);
  EXPECT_EQ(mapped[1].begin, 1u);
  EXPECT_EQ(mapped[1].end, 4u);
  EXPECT_EQ(mapped[2].begin, 4u);  // ends inside the second edit: covers all of it
  EXPECT_EQ(mapped[2].end, 8u);
  EXPECT_EQ(mapped[3].begin, 8u);
  EXPECT_EQ(mapped[3].end, 9u);
}

TEST(Utf8, ARangeInsideAnEditCoversItsReplacement) {
  const std::vector<TextEdit> edits = {{{2, 8}, {2, 5}}};
  const std::vector<ByteRange> mapped = map_ranges({{4, 5}, {9, 10}}, edits);
  EXPECT_EQ(mapped[0].begin, 2u);
  EXPECT_EQ(mapped[0].end, 5u);
  EXPECT_EQ(mapped[1].begin, 6u);
  EXPECT_EQ(mapped[1].end, 7u);
}

}  // namespace
}  // namespace ultraspeed::text
