// Incremental text equals the text of the whole, and stop strings end it at the same place however
// it came.
#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "support/scale.h"
#include "text/text_stream.h"
#include "text/tokenizer_test_support.h"

namespace ultraspeed::text {
namespace {

using Ids = std::vector<int32_t>;

// Any ids: special tokens, parts of characters, ids without a token.
Ids random_ids(RandomText& random, uint32_t max_count) {
  Ids ids;
  for (uint32_t i = random.below(max_count + 1); i > 0; --i) {
    const uint32_t kind = random.below(4);
    if (kind == 0) ids.push_back(static_cast<int32_t>(random.below(12300)));
    if (kind == 1) ids.push_back(static_cast<int32_t>(random.below(26)));        // the special ones
    if (kind >= 2) ids.push_back(static_cast<int32_t>(26 + random.below(256)));  // single bytes
  }
  return ids;
}

TEST(Detokenizer, MakesUpTheDecodingOfAnyIds) {
  RandomText random(21);
  for (int i = 0; i < test::scaled(5000); ++i) {
    const Ids ids = random_ids(random, 30);
    const bool skip_special = random.below(2) == 1;
    Detokenizer detokenizer(bundled_tokenizer(), skip_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string delta = detokenizer.push(id);
      ASSERT_TRUE(is_valid_utf8(delta));
      text += delta;
    }
    text += detokenizer.finish();
    ASSERT_EQ(text, bundled_tokenizer().decode(ids, skip_special));
    ASSERT_EQ(detokenizer.finish(), "");
  }
}

TEST(Detokenizer, ShowsACharacterWithItsLastByte) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push('a'), "a");
  EXPECT_EQ(detokenizer.push(0xF0), "");
  EXPECT_EQ(detokenizer.push(0x9F), "");
  EXPECT_EQ(detokenizer.push(0x99), "");
  EXPECT_EQ(detokenizer.push(0x82), "\xF0\x9F\x99\x82");
  EXPECT_EQ(detokenizer.push(0xC3), "");
  EXPECT_EQ(detokenizer.push('b'),
            "\xEF\xBF\xBD"
            "b");  // the character never came
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.push(258), "\xEF\xBF\xBD<end>");
  EXPECT_EQ(detokenizer.push(0xE2), "");
  EXPECT_EQ(detokenizer.finish(), "\xEF\xBF\xBD");
}

TEST(Detokenizer, ASkippedTokenDoesNotBreakACharacter) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.push(0xC3), "");
  EXPECT_EQ(detokenizer.push(258), "");
  EXPECT_EQ(detokenizer.push(0xA9), "\xC3\xA9");
}

StopStrings stops(const std::vector<std::string>& strings) {
  auto result = StopStrings::create(strings);
  EXPECT_TRUE(result.has_value());
  return *std::move(result);
}

// The end of the first stop string to end, and its size (the longest of those): 0, 0 if none.
std::pair<size_t, size_t> find_stop(const std::string& text,
                                    const std::vector<std::string>& strings) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : strings) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {end, longest};
  }
  return {0, 0};
}

// The longest end of the text that a stop string begins with.
size_t open_bytes(const std::string& text, const std::vector<std::string>& strings) {
  size_t longest = 0;
  for (const std::string& stop : strings) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.ends_with(stop.substr(0, n))) longest = std::max(longest, n);
    }
  }
  return longest;
}

TEST(StopScanner, AgreesWithItsDefinitionInAnyChunks) {
  RandomText random(22);
  const std::vector<std::string> letters = {"a", "a", "b", "\xC3\xA9", "\n"};
  const auto word = [&](uint32_t min, uint32_t max) {
    std::string text;
    for (uint32_t i = min + random.below(max - min + 1); i > 0; --i) {
      text += letters[random.below(static_cast<uint32_t>(letters.size()))];
    }
    return text;
  };
  int num_stopped = 0;
  for (int i = 0; i < test::scaled(20000); ++i) {
    std::vector<std::string> strings;
    for (uint32_t n = random.below(4); n > 0; --n) strings.push_back(word(1, 5));
    const bool include_stop = random.below(2) == 1;
    StopScanner scanner(stops(strings), include_stop);
    const std::string text = word(0, 24);
    const auto [stop_end, stop_bytes] = find_stop(text, strings);
    std::string shown;
    bool stopped = false;
    for (size_t offset = 0; offset < text.size();) {
      const size_t size_bytes = std::min<size_t>(random.below(5), text.size() - offset);
      const TextDelta delta = scanner.push(text.substr(offset, size_bytes));
      offset += size_bytes;
      shown += delta.text;
      stopped = delta.stopped;
      ASSERT_EQ(stopped, stop_bytes > 0 && offset >= stop_end);
      const size_t open = open_bytes(text.substr(0, offset), strings);
      ASSERT_TRUE(stopped || shown.size() == offset - open);
    }
    const TextDelta rest = scanner.finish();
    ASSERT_EQ(rest.stopped, stopped);
    shown += rest.text;
    const size_t end = stop_bytes == 0 ? text.size() : stop_end - (include_stop ? 0 : stop_bytes);
    ASSERT_EQ(shown, text.substr(0, end));
    num_stopped += stopped ? 1 : 0;
  }
  EXPECT_GT(num_stopped, test::at_least(2000));
}

TEST(StopScanner, NothingComesAfterAStop) {
  StopScanner scanner(stops({"END"}));
  EXPECT_EQ(scanner.push("text EN").text, "text ");
  const TextDelta last = scanner.push("D more");
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.text, "");
  EXPECT_EQ(last.stop, "END");
  EXPECT_EQ(scanner.push("more").text, "");
  EXPECT_TRUE(scanner.push("more").stopped);
  EXPECT_EQ(scanner.finish().text, "");
}

TEST(StopStrings, MustBeText) {
  for (const std::string bad : {"", "\xFF", "a\xC3"}) {
    const auto result = StopStrings::create({"fine", bad});
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find("stop string 1"), std::string::npos);
  }
}

TEST(TextStream, JoinsDetokenizingAndStopping) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  TextStream stream(tokenizer, stops({"c\xC3\xA9"}), {});
  EXPECT_EQ(stream.push(256).text, "ab");
  EXPECT_EQ(stream.push(258).text, "");    // special, skipped
  EXPECT_EQ(stream.push(257).text, "ab");  // "abc": the "c" is held back
  EXPECT_EQ(stream.push(0xC3).text, "");
  const TextDelta last = stream.push(0xA9);
  EXPECT_EQ(last.text, "");
  EXPECT_TRUE(last.stopped);
  EXPECT_TRUE(stream.finish().stopped);
}

TEST(TextStream, TheEndReleasesWhatWasHeldBack) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  TextStream stream(tokenizer, stops({"abcd"}), {.skip_special = false});
  EXPECT_EQ(stream.push(257).text, "");
  EXPECT_EQ(stream.push(258).text, "abc<end>");
  EXPECT_EQ(stream.push(256).text, "");
  EXPECT_EQ(stream.push(0xC3).text, "");
  const TextDelta rest = stream.finish();
  EXPECT_EQ(rest.text, "ab\xEF\xBF\xBD");
  EXPECT_FALSE(rest.stopped);
}

TEST(TextStream, ACutOffCharacterMayCompleteAStopString) {
  const Tokenizer tokenizer = make_tokenizer(small_tokenizer_json());
  TextStream stream(tokenizer, stops({"b\xEF\xBF\xBD"}), {.include_stop = true});
  EXPECT_EQ(stream.push(256).text, "a");
  EXPECT_EQ(stream.push(0xC3).text, "");
  const TextDelta rest = stream.finish();
  EXPECT_EQ(rest.text, "b\xEF\xBF\xBD");
  EXPECT_TRUE(rest.stopped);
}

TEST(TextStream, AgreesWithDecodingAndStopping) {
  RandomText random(23);
  for (int i = 0; i < test::scaled(3000); ++i) {
    const Ids ids = random_ids(random, 40);
    const std::string whole = bundled_tokenizer().decode(ids, true);
    std::vector<std::string> strings = {random.text(2) + "x"};
    if (!whole.empty()) {
      const std::string cut = whole.substr(random.below(static_cast<uint32_t>(whole.size())), 4);
      if (is_valid_utf8(cut)) strings.push_back(cut);
    }
    TextStream stream(bundled_tokenizer(), stops(strings), {});
    std::string text;
    bool stopped = false;
    for (const int32_t id : ids) {
      const TextDelta delta = stream.push(id);
      text += delta.text;
      stopped = delta.stopped;
    }
    const TextDelta rest = stream.finish();
    const auto [stop_end, stop_bytes] = find_stop(whole, strings);
    ASSERT_EQ(rest.stopped, stop_bytes > 0);
    ASSERT_TRUE(rest.stopped || !stopped);
    ASSERT_EQ(text + rest.text, stop_bytes == 0 ? whole : whole.substr(0, stop_end - stop_bytes));
  }
}

}  // namespace
}  // namespace ultraspeed::text
