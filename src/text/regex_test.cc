// Oniguruma's syntax through PCRE2: what is translated, what is refused, and the limits.
#include "text/regex.h"

#include <gtest/gtest.h>

#include <chrono>

#include "text/regex_syntax.h"

namespace ultraspeed::text {
namespace {

// All matches of a pattern, joined by "|".
std::string matches(std::string_view pattern, std::string_view subject) {
  const Result<Regex> regex = Regex::compile(pattern);
  if (!regex) return regex.error().message;
  RegexMatcher matcher(*regex);
  std::string found;
  for (size_t from = 0;;) {
    const auto match = matcher.find(subject, from);
    if (!match) return match.error().message;
    if (!*match) return found;
    if (!found.empty()) found += '|';
    found += subject.substr((*match)->begin, (*match)->end - (*match)->begin);
    from = (*match)->end;
  }
}

TEST(Regex, WhiteSpaceIsUnicodesWhiteSpace) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    if (c >= 0x4000 && c % 97 != 0) continue;  // no white space up there: a sample is enough
    const bool is_space = (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 ||
                          c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
                          c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
    std::string text;
    append_utf8(c, text);
    static const Regex space = *Regex::compile("^(?:\\s|[\\s])$");
    static const Regex other = *Regex::compile("^(?:\\S|x)(?<=[\\S])(?<![^\\S])$");
    static RegexMatcher space_matcher(space);
    static RegexMatcher other_matcher(other);
    const bool matches_space = space_matcher.find(text, 0)->has_value();
    const bool matches_other = other_matcher.find(text, 0)->has_value();
    ASSERT_EQ(matches_space, is_space) << static_cast<uint32_t>(c);
    ASSERT_EQ(matches_other, !is_space) << static_cast<uint32_t>(c);
  }
}

TEST(Regex, TranslatedConstructs) {
  EXPECT_EQ(matches("(?i:'s|'LL)|\\p{L}+", "it'S we'll"), "it|'S|we|'ll");
  EXPECT_EQ(matches("\\p{N}{1,3}", "1234567"), "123|456|7");
  EXPECT_EQ(matches("\\p{N}{2,}|x{2}", "1234 xx"), "1234|xx");
  EXPECT_EQ(matches("x{|{,|}|]|a{1,", "x{{,}]a{1,"), "x{|{,|}|]|a{1,");
  EXPECT_EQ(matches("\\w+", "a_b \xC3\xA9t\xC3\xA9 \xC2\xBD \xE2\x92\xB6!"),
            "a_b|\xC3\xA9t\xC3\xA9|\xC2\xBD|\xE2\x92\xB6");
  EXPECT_EQ(matches("\\W+", "a+- b"), "+- ");
  EXPECT_EQ(matches("[^\\w ]", "a+ b"), "+");
  EXPECT_EQ(matches("^b$", "a\nb\nc"), "b");  // Ruby's anchors are those of lines
  EXPECT_EQ(matches("\\Aa|c\\z", "aca\nc"), "a|c");
  EXPECT_EQ(matches("\\v|\\x41|\\x{1F642}|\\u00e9|\\t", "\n\vA\xF0\x9F\x99\x82\xC3\xA9\t"),
            "\v|A|\xF0\x9F\x99\x82|\xC3\xA9|\t");
  EXPECT_EQ(matches("[\\v\\x41\\u00E9]", "\n\vA\xC3\xA9"), "\v|A|\xC3\xA9");
  EXPECT_EQ(matches("\\p{Han}+", "\xE6\x97\xA5 \xE3\x80\x81"), "\xE6\x97\xA5");
  EXPECT_EQ(matches("[\\p{^L}]|\\P{^Lu}", "a1B"), "1|B");
  EXPECT_EQ(matches("[\\s-x]+|[-\\d]+", "a -x 1-"), " -x |1-");
  EXPECT_EQ(matches("[\\d\\-a-c]+", "b-1z"), "b-1");
  EXPECT_EQ(matches("(a|b)(?=c)|(?<!a)d|(?<=a)e|(?>x*)y", "ac bd ad ae xxy"), "a|d|e|xxy");
  EXPECT_EQ(matches("a++b|a?+c|a", "aabac"), "aab|ac");
  EXPECT_EQ(matches("\\.\\\xC3\xA9", ".\xC3\xA9"), ".\xC3\xA9");
  EXPECT_EQ(matches(".", "\n\r"), "\r");  // a newline is LF alone
}

TEST(Regex, RefusedConstructsAreNamed) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"a(?<name>b)", "'(?' other than"},
      {"(?i)a", "'(?' other than"},
      {"a(*SKIP)", "'(*...)' at byte 1"},
      {"\\bword", "'\\b' at byte 0"},
      {"a\\1", "'\\1' at byte 1"},
      {"\\h", "'\\h'"},
      {"\\R", "'\\R'"},
      {"\\Q", "'\\Q'"},
      {"a\\", "'\\' at the end"},
      {"\\pL", "'\\p' without {}"},
      {"\\p{L", "'\\p' without {}"},
      {"\\p{L*}", "'\\p{L*}'"},
      {"\\p{Z1}", "'\\p{Z1}'"},
      {"\\xff", "of this '\\x'"},
      {"\\x{}", "of this '\\x'"},
      {"\\x{41", "of this '\\x'"},
      {"\\u12", "of this '\\x'"},
      {"[a[b]]", "'[' inside of a character class at byte 2"},
      {"[a&&b]", "'&&' inside of a character class"},
      {"[]", "'[]'"},
      {"[^]]", "'[]'"},
      {"[abc", "'[' without ']'"},
      {"[\\W]", "'\\W' at byte 1"},
      {"[a-\\s]", "'-' before a set"},
      {"a{1,2}+", "of a quantifier after '{n,m}' at byte 6"},
      {"a{1}?", "of a quantifier after '{n,m}'"},
      {"a{,2}", "'{,n}'"},
      {"\\p{Klingon}", "does not compile"},
      {"(a", "does not compile"},
      {"*a", "does not compile"},
  };
  for (const auto& [pattern, expected] : cases) {
    const Result<Regex> regex = Regex::compile(pattern);
    ASSERT_FALSE(regex.has_value()) << pattern;
    EXPECT_NE(regex.error().message.find(expected), std::string::npos)
        << pattern << ": " << regex.error().message;
  }
}

TEST(Regex, LiteralsMatchThemselves) {
  const Result<Regex> regex = Regex::compile_literal("a.*(\xC3\xA9");
  ASSERT_TRUE(regex.has_value());
  RegexMatcher matcher(*regex);
  const auto match = matcher.find("axx a.*(\xC3\xA9", 0);
  ASSERT_TRUE(match.has_value() && match->has_value());
  EXPECT_EQ((*match)->begin, 4u);
  EXPECT_FALSE(matcher.find("a.*(\xC3\xA9", 1)->has_value());
  EXPECT_TRUE(matcher.find("", 0).has_value());
}

TEST(Regex, ExponentialBacktrackingIsAnError) {
  const Result<Regex> regex = Regex::compile("(?:a|a)*[bc]");
  ASSERT_TRUE(regex.has_value());
  RegexMatcher matcher(*regex);
  const auto begin = std::chrono::steady_clock::now();
  const auto match = matcher.find(std::string(60, 'a'), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  ASSERT_FALSE(match.has_value());
  EXPECT_EQ(match.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(match.error().message.find("gave up after byte 0 of a text of 60 bytes"),
            std::string::npos)
      << match.error().message;
}

TEST(Regex, DeepRecursionIsAnErrorNotACrash) {
  const Result<Regex> regex = Regex::compile("(?:(?:a|b)|c)*[de]");
  ASSERT_TRUE(regex.has_value());
  RegexMatcher matcher(*regex);
  const auto match = matcher.find(std::string(10 << 20, 'a'), 0);
  EXPECT_FALSE(match.has_value());
}

}  // namespace
}  // namespace ultraspeed::text
