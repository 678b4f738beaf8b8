// Regular expressions: golden cases, errors, and the standard library's judgement on random ones.
#include "grammar/regex.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "grammar/test_support.h"
#include "support/scale.h"

namespace ultraspeed::grammar {
namespace {

TEST(Regex, AcceptsAndRefuses) {
  struct RegexCase {
    std::string pattern;
    std::vector<std::string> accepted;
    std::vector<std::string> refused;
  };
  const std::vector<RegexCase> cases = {
      {"abc", {"abc"}, {"ab", "abcd", ""}},
      {"^a|b$", {"a", "b"}, {"ab"}},
      {"a{2,3}b*c+?d??", {"aac", "aaabbccd"}, {"ac", "aabdd"}},
      {"(?:a|(?<n>b)|(?P<m>c)){2}", {"ab", "cc"}, {"a", "abc"}},
      {R"(\d+\.\d\w\s\S)", {"12.3_ x", "0.0a\tb"}, {"a.1a b", "1.1a  "}},
      {R"([\d\-a-c\]]+)", {"1-a]"}, {"d"}},
      {R"(\D\W)", {"a-", "\xC3\xA9!"}, {"1-", "ab"}},
      {".", {"a", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"}, {"\n", "ab", "\xE2\x82", "\xC3"}},
      {"[^a]", {"b", "\xC3\xA9", "\n"}, {"a", "\xFF", ""}},
      {"[é-ü]x", {"\xC3\xA9x", "\xC3\xBCx"}, {"ex", "\xC3x"}},
      {R"(\u00e9\x41\u{1F600}\uD83D\uDE00)",
       {"\xC3\xA9"
        "A\xF0\x9F\x98\x80\xF0\x9F\x98\x80"},
       {"eA"}},
      {"a{,2}", {"", "aa"}, {"aaa"}},
      {"{a}", {"{a}"}, {"a"}},
      {"x{a}", {"x{a}"}, {"xa"}},
      {"(a|b)*abb", {"abb", "babaabb"}, {"ab", "abba"}},
      {"", {""}, {"a"}},
      {"()|a", {"", "a"}, {"b"}},
      {"[]|a", {"a"}, {""}},
  };
  for (const RegexCase& example : cases) {
    const Grammar grammar = value_or_fail(parse_regex(example.pattern));
    for (const std::string& text : example.accepted) {
      EXPECT_TRUE(matches(grammar, text)) << example.pattern << " should accept " << text;
    }
    for (const std::string& text : example.refused) {
      EXPECT_FALSE(matches(grammar, text)) << example.pattern << " should refuse " << text;
    }
  }
}

TEST(Regex, ErrorsSayWhatAndWhere) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"(a)\\1", "regular expression, byte 4: back references are not supported"},
      {"a(?=b)", "regular expression, byte 1: look-around, flags"},
      {"a(?<!b)", "regular expression, byte 1: look-around, flags"},
      {"(?i)a", "regular expression, byte 0: look-around, flags"},
      {"a\\b", "regular expression, byte 2: word boundaries are not supported"},
      {"\\p{L}", "regular expression, byte 1: \\p{...} is not supported"},
      {"a^b", "regular expression, byte 1: '^' and '$' are supported at the ends"},
      {"a$b", "regular expression, byte 1: '$' is supported at the ends"},
      {"(a$)", "regular expression, byte 2: '^' and '$' are supported at the ends"},
      {"(a", "regular expression, byte 0: '(' without ')'"},
      {"a)", "regular expression, byte 1: ')' without '('"},
      {"*a", "regular expression, byte 0: nothing to repeat"},
      {"a**", "regular expression, byte 2: nothing to repeat"},
      {"a*+", "regular expression, byte 2: possessive quantifiers"},
      {"[a", "regular expression, byte 2: expected ']' to end the class"},
      {"[a-\\d]", "regular expression, byte 2: a range ends in a set"},
      {"a{99999}", "regular expression, byte 1: more than 65535 repetitions"},
      {"[^\\s\\S]", "no finite text matches"},
      {"a\\", "expected a character after '\\'"},
  };
  for (const auto& [pattern, message] : cases) {
    const Result<Grammar> grammar = parse_regex(pattern);
    ASSERT_FALSE(grammar.has_value()) << pattern;
    EXPECT_NE(grammar.error().message.find(message), std::string::npos)
        << pattern << ": " << grammar.error().message;
  }
}

// A random expression over a, b and c.
std::string random_pattern(int depth, std::mt19937* random) {
  static const std::vector<std::string> kAtoms = {"a", "b", "c", "[ab]", "[^a]", "."};
  static const std::vector<std::string> kQuantifiers = {"", "", "*", "+", "?", "{2}", "{1,3}"};
  std::string pattern;
  const size_t num_parts = 1 + (*random)() % 3;
  for (size_t i = 0; i < num_parts; ++i) {
    if (depth > 0 && (*random)() % 3 == 0) {
      pattern +=
          "(" + random_pattern(depth - 1, random) + "|" + random_pattern(depth - 1, random) + ")";
    } else {
      pattern += kAtoms[(*random)() % kAtoms.size()];
    }
    pattern += kQuantifiers[(*random)() % kQuantifiers.size()];
  }
  return pattern;
}

TEST(Regex, AgreesWithTheStandardLibrary) {
  std::mt19937 random(7);
  size_t num_accepted = 0;
  for (int trial = 0; trial < test::scaled(300); ++trial) {
    const std::string pattern = random_pattern(2, &random);
    const Result<Grammar> grammar = parse_regex(pattern);
    if (!grammar) {
      ASSERT_EQ(grammar.error().code, ErrorCode::kOutOfMemory) << grammar.error().message;
      continue;
    }
    const std::regex oracle(pattern);
    for (int i = 0; i < 60; ++i) {
      std::string text(random() % 8, 'a');
      for (char& c : text) c = static_cast<char>('a' + random() % 3);
      const bool expected = std::regex_match(text, oracle);
      ASSERT_EQ(matches(*grammar, text), expected) << pattern << " on '" << text << "'";
      num_accepted += expected;
    }
  }
  EXPECT_GT(num_accepted, test::at_least(500u));
}

}  // namespace
}  // namespace ultraspeed::grammar
