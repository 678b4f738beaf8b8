// What a client makes of streams: servers of several kinds, and everything that can go wrong.
#include "apps/load_stream.h"

#include <gtest/gtest.h>

#include <thread>

namespace ultraspeed::apps {
namespace {

constexpr const char* kUsage =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}\n\n";

// The sample of an answer with this body, which comes in these pieces.
RequestSample read_stream(const std::vector<std::string>& pieces, unsigned status = 200,
                          const std::string& type = "text/event-stream; charset=utf-8") {
  RequestSample sample;
  int num_ends = 0;
  StreamReader reader(&sample, [&num_ends] { ++num_ends; });
  reader.on_head(status, {{"content-type", type}});
  bool is_wanted = true;
  for (const std::string& piece : pieces) is_wanted = is_wanted && reader.on_body(piece);
  if (is_wanted) reader.on_end();
  EXPECT_EQ(num_ends, 1);
  return sample;
}

std::string delta(const std::string& fields, const std::string& finish_reason = "null") {
  return "data: {\"choices\":[{\"index\":0,\"delta\":{" + fields +
         "},\"finish_reason\":" + finish_reason + "}]}\n\n";
}

TEST(LoadStream, CountsTokensAndEventsWithOutput) {
  const RequestSample sample = read_stream(
      {delta(R"("role":"assistant","content":"")"), ": ping\n\n", delta(R"("content":"ab cd")"),
       delta(R"("reasoning_content":"x")"), delta(R"("reasoning":"x")"),
       delta(R"("tool_calls":[{"index":0,"function":{"arguments":"{"}}])"), delta("", "\"stop\""),
       kUsage, "data: [DONE]\n\n"});
  EXPECT_EQ(sample.failure, "") << sample.failure_text;
  EXPECT_EQ(sample.event_s.size(), 4U);
  EXPECT_EQ(sample.tokens, 9U);
  EXPECT_EQ(sample.prompt_tokens, 7U);
  EXPECT_FALSE(sample.accepted_length);
  EXPECT_GE(sample.last_s, sample.event_s.back());
  EXPECT_GE(sample.end_s, sample.last_s);
}

TEST(LoadStream, ReadsCompletionsAndTimingsHoweverTheyAreCut) {
  const std::string stream =
      "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}],\"usage\":null}\n\n"
      "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}],\"usage\":null}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9},"
      "\"timings\":{\"accepted_length\":2.5}}\n\ndata: [DONE]\n\n";
  std::vector<std::string> bytes;
  for (const char c : stream) bytes.emplace_back(1, c);
  for (const auto& pieces : {std::vector<std::string>{stream}, bytes}) {
    const RequestSample sample = read_stream(pieces);
    EXPECT_EQ(sample.failure, "") << sample.failure_text;
    EXPECT_EQ(sample.event_s.size(), 1U);
    EXPECT_EQ(sample.tokens, 9U);
    EXPECT_EQ(sample.accepted_length, 2.5);
  }
}

// An event's time is that of its arrival, and the end of the answer is the chunk that says why.
TEST(LoadStream, TimesAreThoseOfArrival) {
  RequestSample sample;
  StreamReader reader(&sample, [] {});
  reader.on_head(200, {{"Content-Type", "text/event-stream"}});
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  reader.on_body(delta(R"("role":"assistant","content":"")"));
  wait();
  reader.on_body(delta(R"("content":"a")"));
  wait();
  reader.on_body(delta(R"("content":"b")") + delta(R"("content":"c")"));
  wait();
  reader.on_body(delta("", "\"stop\""));
  wait();
  reader.on_body(std::string(kUsage) + "data: [DONE]\n\n");
  reader.on_end();
  ASSERT_EQ(sample.event_s.size(), 3U);
  EXPECT_GE(sample.event_s[0], 0.02);
  EXPECT_GE(sample.event_s[1] - sample.event_s[0], 0.02);
  EXPECT_EQ(sample.event_s[1], sample.event_s[2]);
  EXPECT_GE(sample.last_s - sample.event_s[2], 0.02);
  EXPECT_GE(sample.end_s - sample.last_s, 0.02);
}

TEST(LoadStream, SaysWhatWentWrong) {
  const std::string done = "data: [DONE]\n\n";
  const std::string text = delta(R"("content":"a")");
  struct Case {
    std::vector<std::string> pieces;
    const char* kind;
    const char* text;
  };
  const std::vector<Case> cases = {
      {{text, kUsage}, "cut stream", "without [DONE]"},
      {{text, done}, "no usage", "stream_options"},
      {{text, "data: {\"error\":{\"message\":\"worker 3\"}}\n\n", done}, "error event", "worker 3"},
      {{"data: {\"error\":\"busy\"}\n\n"}, "error event", "busy"},
      {{"data: {\"error\":{\"code\":5}}\n\n"}, "error event", "{\"code\":5}"},
      {{"data: {\"choices\n\n", done}, "malformed event", "{\"choices"},
      {{"data: 5\n\n"}, "malformed event", "not a JSON object: 5"},
      {{std::string(17 << 20, 'x')}, "malformed event", "more than"}};
  for (const Case& wrong : cases) {
    const RequestSample sample = read_stream(wrong.pieces);
    EXPECT_EQ(sample.failure, wrong.kind);
    EXPECT_NE(sample.failure_text.find(wrong.text), std::string::npos) << sample.failure_text;
  }
  const RequestSample busy =
      read_stream({"{\"error\":{\"mess", "age\":\"queue is full\"}}"}, 429, "application/json");
  EXPECT_EQ(busy.failure, "HTTP 429");
  EXPECT_EQ(busy.failure_text, "queue is full");
  const RequestSample page = read_stream({"<html>\n" + std::string(5000, 'x')}, 502, "text/html");
  EXPECT_EQ(page.failure, "HTTP 502");
  EXPECT_TRUE(page.failure_text.starts_with("<html> xxx")) << page.failure_text;
  EXPECT_LT(page.failure_text.size(), 250U);
  EXPECT_EQ(read_stream({"{}"}, 200, "application/json").failure, "no event stream");
}

TEST(LoadStream, FailuresOfTheConnection) {
  RequestSample sample;
  int num_ends = 0;
  StreamReader reader(&sample, [&num_ends] { ++num_ends; });
  reader.on_failed(net::RequestFailure::kLost, "partial message");
  EXPECT_EQ(num_ends, 1);
  EXPECT_EQ(sample.failure, "connection lost");
  EXPECT_EQ(sample.failure_text, "partial message");
}

}  // namespace
}  // namespace ultraspeed::apps
