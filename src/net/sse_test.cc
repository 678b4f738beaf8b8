// Event streams: the parser against the rules of WHATWG HTML 9.2.6, however a stream is cut.
#include "net/sse.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

namespace ultraspeed::net {
namespace {

// Events as "TYPE|DATA", of a stream that comes in pieces of these sizes, in turn.
std::vector<std::string> parsed(std::string_view stream, const std::vector<size_t>& sizes) {
  SseParser parser;
  std::vector<SseEvent> events;
  for (size_t i = 0, piece = 0; i < stream.size(); ++piece) {
    const size_t size = std::max<size_t>(1, sizes[piece % sizes.size()]);
    EXPECT_TRUE(parser.push(stream.substr(i, size), &events));
    i += size;
  }
  std::vector<std::string> texts;
  for (const SseEvent& event : events) texts.push_back(event.type + "|" + event.data);
  return texts;
}

TEST(SseParserTest, ReadsFieldsAsTheStandardSays) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"data: a\n\n", {"|a"}},
      {"data:a\n\ndata:  b\n\n", {"|a", "| b"}},
      {"data: a\r\ndata: b\r\n\r\n", {"|a\nb"}},
      {"data: a\rdata: b\r\r", {"|a\nb"}},
      {"event: ping\ndata: {}\n\ndata: x\n\n", {"ping|{}", "|x"}},
      {"event: ping\n\ndata: x\n\n", {"|x"}},  // without data there is no event
      {": comment\n\n: another\ndata: a\n\n", {"|a"}},
      {"data\n\n", {"|"}},
      {"data:\ndata\n\n", {"|\n"}},
      {"id: 1\nretry: 2\ndatax: 3\nother\n\n", {}},
      {"\xEF\xBB\xBF"
       "data: a\n\n\xEF\xBB\xBF"
       "data: b\n\n",
       {"|a"}},
      {"data: a: b\n\n", {"|a: b"}},
      {"data: the end is missing\n", {}},
      {"\n\n\r\n\rdata: a\n\n", {"|a"}},
  };
  for (const auto& [stream, expected] : cases) {
    EXPECT_EQ(parsed(stream, {stream.size()}), expected) << stream;
    EXPECT_EQ(parsed(stream, {1}), expected) << stream;
  }
}

TEST(SseParserTest, CutsDoNotMatter) {
  rc::check([] {
    const auto characters = rc::gen::element('d', 'a', 't', ':', ' ', '\r', '\n', 'e');
    std::string stream = "data: ";
    for (const std::string& line : *rc::gen::container<std::vector<std::string>>(
             rc::gen::container<std::string>(characters))) {
      stream += line + *rc::gen::element<std::string>("\ndata:", "\r\n", "\n\n", "\r", "");
    }
    stream += "\n\n";
    const auto sizes = *rc::gen::nonEmpty<std::vector<size_t>>(
        rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(1, 9)));
    RC_ASSERT(parsed(stream, sizes) == parsed(stream, {stream.size()}));
  });
}

TEST(SseParserTest, ReadsWhatIsWritten) {
  rc::check([](const std::string& text) {
    std::string stream;
    append_sse_event(stream, text);
    append_sse_event(stream, "end");
    std::string lines;  // every line end comes back as LF
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n' && i > 0 && text[i - 1] == '\r') continue;
      lines += text[i] == '\r' ? '\n' : text[i];
    }
    RC_ASSERT((parsed(stream, {3}) == std::vector<std::string>{"|" + lines, "|end"}));
  });
}

TEST(SseParserTest, EventsAreBounded) {
  SseParser parser(20);
  std::vector<SseEvent> events;
  EXPECT_TRUE(parser.push("data: 0123456789\n\n", &events));
  EXPECT_TRUE(parser.push("data: 0123456789\n", &events));
  const Status status = parser.push("data: 0123456789\n", &events);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "an event of the stream has more than 20 bytes");
  SseParser endless(20);
  EXPECT_FALSE(endless.push(std::string(21, 'x'), &events));
  EXPECT_EQ(events.size(), 1U);
}

}  // namespace
}  // namespace ultraspeed::net
