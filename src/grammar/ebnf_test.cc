// What EBNF grammars accept, and what is refused with which words.
#include "grammar/ebnf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "grammar/test_support.h"

namespace ultraspeed::grammar {
namespace {

struct EbnfCase {
  std::string grammar;
  std::vector<std::string> accepted;
  std::vector<std::string> refused;
};

TEST(Ebnf, AcceptsAndRefuses) {
  const std::vector<EbnfCase> cases = {
      {"root ::= \"ab\" | \"c\"", {"ab", "c"}, {"", "a", "abc", "b"}},
      {"root ::= \"a\"* \"b\"+ \"c\"?", {"b", "aab", "abbc"}, {"", "a", "bcc", "ac"}},
      {"root ::= [a-c]{2,3}", {"ab", "cba"}, {"a", "abca", "ad"}},
      {"root ::= \"a\"{2} \"b\"{1,} \"c\"{,2}", {"aab", "aabbcc"}, {"ab", "aa", "aabccc"}},
      {"root ::= \"\"", {""}, {"a"}},
      {"root ::= x y\nx ::= \"1\" | # comment ::= \"9\"\n \"2\"\ny ::= (\"3\" | x)",
       {"13", "23", "12"},
       {"1", "3", "19"}},
      {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "())", ")("}},
      {R"(root ::= "\n\t\x41\u00e9\U0001F600\"\\")",
       {"\n\tA\xC3\xA9\xF0\x9F\x98\x80\"\\"},
       {"nt", ""}},
      {R"(root ::= [^a\]\-\n]+)", {"b", "\xE2\x82\xAC", "^"}, {"a", "]", "-", "\n", "\xFF"}},
      {R"(root ::= [\x41-\x43é])", {"A", "C", "\xC3\xA9"}, {"D", "\xC3"}},
      {"root ::= .", {"a", "\n", "\xF0\x9F\x98\x80"}, {"", "ab", "\x80", "\xED\xA0\x80"}},
      {"root-1_ ::= \"a\"\nroot ::= root-1_ root-1_", {"aa"}, {"a"}},
      {"root ::= a b a\na ::= \"x\"?\nb ::= \"y\"?", {"", "x", "y", "xyx", "xx"}, {"yy", "xxx"}},
      {"root ::= (a | b) \"!\"\na ::= [a-z]+\nb ::= [a-c]+ \"?\"?", {"abc!", "abc?!"}, {"abd?!"}},
  };
  for (const EbnfCase& example : cases) {
    const Grammar grammar = value_or_fail(parse_ebnf(example.grammar));
    for (const std::string& text : example.accepted) {
      EXPECT_TRUE(matches(grammar, text)) << example.grammar << " should accept " << text;
    }
    for (const std::string& text : example.refused) {
      EXPECT_FALSE(matches(grammar, text)) << example.grammar << " should refuse " << text;
    }
  }
}

// Every text over an alphabet up to a length is judged as a plain function judges it.
void expect_language(const std::string& source, const std::string& alphabet, size_t max_size,
                     const std::function<bool(const std::string&)>& is_member) {
  const Grammar grammar = value_or_fail(parse_ebnf(source));
  std::vector<std::string> texts = {""};
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    EXPECT_EQ(matches(grammar, text), is_member(text)) << source << " on '" << text << "'";
    if (text.size() == max_size) continue;
    for (const char c : alphabet) texts.push_back(text + c);
  }
}

bool is_balanced(const std::string& text) {
  int depth = 0;
  for (const char c : text) {
    depth += c == '(' ? 1 : -1;
    if (depth < 0) return false;
  }
  return depth == 0;
}

bool is_even_palindrome(const std::string& text) {
  return text.size() % 2 == 0 && std::equal(text.begin(), text.end(), text.rbegin());
}

TEST(Ebnf, ContextFreeLanguages) {
  expect_language("root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"\"", "ab", 10,
                  is_even_palindrome);
  // The same language three times: ambiguous, right-recursive, by repetition.
  expect_language("root ::= \"(\" root \")\" root | \"\"", "()", 12, is_balanced);
  expect_language("root ::= (\"(\" root \")\")*", "()", 12, is_balanced);
  expect_language("root ::= s s | s\ns ::= (\"(\" root \")\")* ", "()", 10, is_balanced);
  // Rules that end together, and calls in last place.
  expect_language("root ::= x\nx ::= \"a\" y | \"\"\ny ::= \"b\" x | z\nz ::= \"c\" y | \"\"",
                  "abc", 6, [](const std::string& text) {
                    bool in_y = false;
                    for (const char c : text) {
                      if (c != (in_y ? (c == 'c' ? 'c' : 'b') : 'a')) return false;
                      in_y = c != 'b';
                    }
                    return true;
                  });
}

TEST(Ebnf, ErrorsSayWhatAndWhere) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"root ::= \"a", "grammar, byte 11: expected '\"' to end the literal"},
      {"root ::= (\"a\"", "grammar, byte 13: expected ')'"},
      {"root ::= \"a\")", "grammar, byte 12: expected a rule or the end"},
      {"root ::= [a", "grammar, byte 11: expected ']' to end the class"},
      {"root ::= [b-a]", "grammar, byte 11: a range ends before it begins"},
      {"root ::= *", "grammar, byte 9: expected a literal, a class, a group or the name of a rule"},
      {"root ::= \"a\"{3,2}", "grammar, byte 12: the maximum is below the minimum"},
      {"root ::= \"\\q\"", "grammar, byte 11: unknown escape"},
      {"root ::= \"\\ud800\"", "grammar, byte 12: no character has this code"},
      {"root ::= other", "no rule is named 'other'"},
      {"other ::= \"a\"", "no rule is named 'root'"},
      {"root ::= \"a\" root ::= \"b\"", "grammar, byte 13: a second rule named 'root'"},
      {"root = \"a\"", "grammar, byte 5: expected '::='"},
      {"root ::= \"\xFF\"", "grammar, byte 10: malformed UTF-8"},
      {"root ::= root \"a\" | \"b\"", "rule 'root': left recursion"},
      {"root ::= x \"a\"\nx ::= y?  z\ny ::= \"q\"\nz ::= root | \"b\"", "left recursion"},
      {"root ::= x? root \"a\" | \"b\"\nx ::= \"x\"", "rule 'root': left recursion"},
      {"root ::= \"a\" root", "rule 'root': no finite text matches"},
      {"", "no rule is named 'root'"},
  };
  for (const auto& [source, message] : cases) {
    const Result<Grammar> grammar = parse_ebnf(source);
    ASSERT_FALSE(grammar.has_value()) << source;
    EXPECT_NE(grammar.error().message.find(message), std::string::npos)
        << source << ": " << grammar.error().message;
  }
}

TEST(Ebnf, AnotherRuleMayBeTheRoot) {
  EXPECT_TRUE(matches(value_or_fail(parse_ebnf("a ::= b b\nb ::= \"x\"", "b")), "x"));
  EXPECT_FALSE(parse_ebnf("a ::= \"x\"", "c").has_value());
}

}  // namespace
}  // namespace ultraspeed::grammar
