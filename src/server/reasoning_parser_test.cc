#include "server/reasoning_parser.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include <string>
#include <utility>
#include <vector>

namespace ultraspeed::server {
namespace {

using Split = std::pair<std::string, std::string>;  // reasoning, content

// Pushes the text in chunks that end at the given places.
Split split(const std::string& text, const std::vector<size_t>& ends, bool starts_in_reasoning) {
  ReasoningParser parser(starts_in_reasoning);
  Split result;
  const auto add = [&result](const ChatDelta& delta) {
    result.first += delta.reasoning;
    result.second += delta.content;
  };
  size_t begin = 0;
  for (const size_t end : ends) {
    add(parser.push(std::string_view(text).substr(begin, end - begin)));
    begin = end;
  }
  add(parser.push(std::string_view(text).substr(begin)));
  add(parser.finish());
  return result;
}

TEST(ReasoningParserTest, SplitsTheAnswer) {
  const std::vector<std::pair<std::string, Split>> cases = {
      {"", {"", ""}},
      {"plain", {"", "plain"}},
      {"<think>a</think>b", {"a", "b"}},
      {"<think></think>b", {"", "b"}},
      {"<think></think>", {"", ""}},
      {"<think>never ends", {"never ends", ""}},
      {"<think>a</thi", {"a</thi", ""}},
      {"<thin", {"", "<thin"}},
      {" \n<think>a</think>\n\nb ", {"a", "\n\nb "}},
      {" \n b", {"", " \n b"}},
      {" \n", {"", " \n"}},
      {"< think>a</think>", {"", "< think>a</think>"}},
      {"<<think>a</think>", {"", "<<think>a</think>"}},
      {"<think>a<</think>b", {"a<", "b"}},
      {"<think>a</</think>b", {"a</", "b"}},
      {"<think><think>a</think>b", {"<think>a", "b"}},
      {"<think>a</think>b<think>c</think>", {"a", "b<think>c</think>"}},
      {"a</think>b", {"", "a</think>b"}},
      {"<tool_call>\n</tool_call>", {"", "<tool_call>\n</tool_call>"}},
      {"<think>\xE6\x80\x9D</think>\xE7\xAD\x94", {"\xE6\x80\x9D", "\xE7\xAD\x94"}},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(split(text, {}, false), expected) << text;
}

TEST(ReasoningParserTest, MayStartInReasoning) {
  EXPECT_EQ(split("a</think>b", {}, true), Split("a", "b"));
  EXPECT_EQ(split("</think>b", {}, true), Split("", "b"));
  EXPECT_EQ(split("a", {}, true), Split("a", ""));
}

TEST(ReasoningParserTest, HoldsBackOnlyWhatMayBeAMarker) {
  ReasoningParser parser(false);
  EXPECT_EQ(parser.push("<think>a").reasoning, "a");
  EXPECT_EQ(parser.push("b</").reasoning, "b");
  EXPECT_EQ(parser.push("c").reasoning, "</c");
  EXPECT_EQ(parser.push("</think>d<").content, "d<");
}

TEST(ReasoningParserTest, ChunksDoNotMatter) {
  const bool holds = rc::check("any chunking gives the same split", [] {
    const auto pieces = *rc::gen::container<std::vector<std::string>>(
        rc::gen::element<std::string>("<think>", "</think>", "<", "</", "think>", "thi", " ", "\n",
                                      "a", "\xC3\xA9", "<tool_call>"));
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    auto ends =
        *rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(0, text.size() + 1));
    std::sort(ends.begin(), ends.end());
    const bool starts_in_reasoning = *rc::gen::arbitrary<bool>();
    std::vector<size_t> every;
    for (size_t i = 0; i <= text.size(); ++i) every.push_back(i);
    const Split whole = split(text, {}, starts_in_reasoning);
    RC_ASSERT(split(text, ends, starts_in_reasoning) == whole);
    RC_ASSERT(split(text, every, starts_in_reasoning) == whole);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace ultraspeed::server
