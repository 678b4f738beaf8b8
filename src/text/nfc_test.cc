// NFC against utf8proc's own whole-string function, known cases, and its edits.
#include "text/nfc.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <chrono>
#include <cstdlib>

#include "base/check.h"
#include "support/scale.h"
#include "text/tokenizer_test_support.h"

namespace ultraspeed::text {
namespace {

std::string nfc(std::string_view text) {
  return normalize_nfc(text).text;
}

std::string nfc_by_utf8proc(const std::string& text) {
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &out,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  US_CHECK(size >= 0, "{}", size);
  std::string result(reinterpret_cast<const char*>(out), static_cast<size_t>(size));
  std::free(out);
  return result;
}

TEST(Nfc, KnownCases) {
  EXPECT_EQ(nfc(""), "");
  EXPECT_EQ(nfc("plain ASCII"), "plain ASCII");
  EXPECT_EQ(nfc("e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(nfc("e\xCC\xA3\xCC\x82"), "\xE1\xBB\x87");  // two marks, one character
  EXPECT_EQ(nfc("e\xCC\x82\xCC\xA3"), "\xE1\xBB\x87");  // in the other order
  EXPECT_EQ(nfc("\xE2\x84\xAB"), "\xC3\x85");           // angstrom sign
  EXPECT_EQ(nfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"), "\xED\x95\x9C");  // Hangul
  EXPECT_EQ(nfc("\xE0\xA5\x98"), "\xE0\xA4\x95\xE0\xA4\xBC");              // composition exclusion
  EXPECT_EQ(nfc("=\xCC\xB8"), "\xE2\x89\xA0");  // an ASCII symbol composes
  EXPECT_EQ(nfc("\xCC\x81x"), "\xCC\x81x");     // a mark at the begin
  EXPECT_EQ(nfc(std::string_view("\0e\xCC\x81", 4)), std::string_view("\0\xC3\xA9", 3));
}

TEST(Nfc, AgreesWithUtf8proc) {
  RandomText random(41);
  for (int i = 0; i < test::scaled(3000); ++i) {
    std::string text = random.text(12);
    for (uint32_t n = random.below(6); n > 0; --n) {
      append_utf8(0x300 + random.below(0x70), text);
      if (random.below(3) == 0) append_utf8(0xA0 + random.below(0x3000), text);
    }
    ASSERT_EQ(nfc(text), nfc_by_utf8proc(text)) << text;
    ASSERT_EQ(nfc(nfc(text)), nfc(text));
  }
}

// Between edits the text is unchanged, and the edits lie on character borders.
TEST(Nfc, EditsDescribeTheChange) {
  RandomText random(42);
  int num_edits = 0;
  for (int i = 0; i < test::scaled(2000); ++i) {
    const std::string source = random.text(12);
    const RewrittenText result = normalize_nfc(source);
    size_t source_end = 0;
    size_t target_end = 0;
    for (const TextEdit& edit : result.edits) {
      ASSERT_EQ(source.substr(source_end, edit.source.begin - source_end),
                result.text.substr(target_end, edit.target.begin - target_end));
      source_end = edit.source.end;
      target_end = edit.target.end;
      ASSERT_TRUE(is_valid_utf8(source.substr(0, source_end)));
      ASSERT_TRUE(is_valid_utf8(result.text.substr(0, target_end)));
      ++num_edits;
    }
    ASSERT_EQ(source.substr(source_end), result.text.substr(target_end));
    ASSERT_EQ(result.edits.empty(), result.text == source);
  }
  EXPECT_GT(num_edits, test::at_least(500));
}

TEST(Nfc, AnEditIsAsSmallAsTheChange) {
  const RewrittenText result = normalize_nfc("x\xE6\x97\xA5\xE2\x84\xAB\xE6\x97\xA5y e\xCC\x81");
  ASSERT_EQ(result.edits.size(), 2u);
  EXPECT_EQ(result.edits[0].source.begin, 4u);
  EXPECT_EQ(result.edits[0].source.end, 7u);
  EXPECT_EQ(result.edits[0].target.begin, 4u);
  EXPECT_EQ(result.edits[0].target.end, 6u);
  EXPECT_EQ(result.edits[1].source.begin, 12u);
  EXPECT_EQ(result.edits[1].target.end, 13u);
}

// A run of marks in the worst order, where a bubble sort would take minutes.
TEST(Nfc, LongRunsOfMarksAreNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += "\xCC\x81";  // class 230
  for (int i = 0; i < 200000; ++i) text += "\xCC\xA3";  // class 220, which comes first
  const auto begin = std::chrono::steady_clock::now();
  const std::string result = nfc(text);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_TRUE(result.starts_with("\xE1\xBA\xA1\xCC\xA3"));  // a with dot below, then the others
  EXPECT_TRUE(result.ends_with("\xCC\x81"));
}

}  // namespace
}  // namespace ultraspeed::text
