// The arithmetic of `bench serve`, and what it prints.
#include "apps/load_report.h"

#include <gtest/gtest.h>

namespace ultraspeed::apps {
namespace {

// 9 tokens in 3 events: the first, then 5 and 2, and the stop token with the finish reason.
RequestSample good_request() {
  RequestSample request;
  request.event_s = {0.1, 0.11, 0.13};
  request.last_s = 0.14;
  request.end_s = 0.15;
  request.prompt_tokens = 20;
  request.tokens = 9;
  return request;
}

RequestSample failed_request(const char* kind, const char* text) {
  RequestSample request;
  request.failure = kind;
  request.failure_text = text;
  request.tokens = 100;  // does not count
  return request;
}

void expect_near(const std::vector<double>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-9) << i;
}

LoadReport load_report() {
  LoadReport report;
  report.made_by = {"0.1.0", "abc", {"ultraspeed", "bench", "serve"}};
  report.url = "http://h:1";
  report.num_prompts = 2;
  report.options.model = "m <1>";
  report.run.duration_s = 2;
  report.run.requests = {good_request(), failed_request("HTTP 429", "full"),
                         failed_request("timeout", "silence"), failed_request("HTTP 429", "again")};
  report.figures = load_figures(report.run);
  return report;
}

TEST(LoadFigures, AreOfTokensAndNotOfEvents) {
  LoadRun run;
  run.duration_s = 0.5;
  run.requests = {good_request()};
  const LoadFigures figures = load_figures(run);
  expect_near(figures.first_token_ms, {100});
  expect_near(figures.ms_per_token, {40.0 / 8});
  expect_near(figures.inter_event_ms, {10, 20});
  expect_near(figures.end_to_end_ms, {150});
  expect_near(figures.stream_tokens_per_second, {8 / 0.04});
  expect_near(figures.accepted_length, {8.0 / 2});
  EXPECT_EQ(figures.num_server_lengths, 0U);
  EXPECT_EQ(figures.tokens, 9U);
  EXPECT_EQ(figures.tokens_per_second, 18);
  EXPECT_EQ(figures.requests_per_second, 2);
}

TEST(LoadFigures, TheServersAcceptedLengthCounts) {
  LoadRun run;
  run.requests = {good_request(), good_request()};
  run.requests[1].accepted_length = 3.5;
  const LoadFigures figures = load_figures(run);
  expect_near(figures.accepted_length, {4, 3.5});
  EXPECT_EQ(figures.num_server_lengths, 1U);
}

TEST(LoadFigures, AnswersTooShortToMeasure) {
  LoadRun run;
  RequestSample one = good_request();  // a token, and no time behind it
  one.event_s = {0.1};
  one.last_s = 0.1;
  one.tokens = 1;
  RequestSample empty = one;  // a stop token alone
  empty.event_s = {};
  run.requests = {one, empty};
  const LoadFigures figures = load_figures(run);
  EXPECT_EQ(figures.num_succeeded, 2U);
  EXPECT_EQ(figures.first_token_ms.size(), 1U);
  EXPECT_TRUE(figures.ms_per_token.empty());
  EXPECT_TRUE(figures.accepted_length.empty());
  EXPECT_TRUE(figures.inter_event_ms.empty());
}

TEST(LoadReport, TextNamesFiguresAndFailures) {
  const std::string text = load_text(load_report());
  for (const char* part :
       {"m <1> at http://h:1, chat: 4 requests of 2 prompts", "at most 1 at once",
        "time per output token, ms    5.000", "tokens/s of a stream       200.000",
        "accepted length: tokens an event", "20 prompt tokens, 9 tokens in 2.00 s: 4.5 tokens/s",
        "2 of 4 requests failed: HTTP 429: full\n", "1 of 4 requests failed: timeout: silence\n"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  }
}

TEST(LoadReport, JsonHasFiguresAndRawTimes) {
  const nlohmann::ordered_json json = load_json(load_report());
  EXPECT_EQ(json["schema"], "ultraspeed-bench-serve/1");
  EXPECT_EQ(json["succeeded"], 1);
  EXPECT_EQ(json["failures"]["HTTP 429"]["count"], 2);
  EXPECT_EQ(json["figures"]["inter_event_ms"]["count"], 2);
  EXPECT_NEAR(json["figures"]["inter_event_ms"]["p50"].get<double>(), 15, 1e-9);
  EXPECT_NEAR(json["figures"]["inter_event_ms"]["max"].get<double>(), 20, 1e-9);
  EXPECT_EQ(json["requests"].size(), 4U);
  EXPECT_EQ(json["requests"][0]["event_ms"], nlohmann::ordered_json({100.0, 110.0, 130.0}));
  EXPECT_EQ(json["requests"][1]["failure"], "HTTP 429");
  LoadReport nothing = load_report();
  nothing.figures = {};
  EXPECT_TRUE(load_json(nothing)["figures"]["first_token_ms"].is_null());
}

TEST(LoadReport, PlotsAnything) {
  const std::string svg = load_svg(load_report());
  EXPECT_NE(svg.find("m &lt;1&gt;: 1 of 4 requests, 9 tokens"), std::string::npos);
  EXPECT_NE(svg.find("Time per output token and between events, ms"), std::string::npos);
  LoadReport nothing = load_report();
  nothing.figures = {};
  EXPECT_EQ(load_svg(nothing).find("nan"), std::string::npos);
}

TEST(LoadReport, KeepsTheKeyToItself) {
  EXPECT_EQ(without_api_key({"a", "--api-key", "secret", "--api-key=secret", "-n", "3"}),
            (std::vector<std::string>{"a", "--api-key", "...", "--api-key=...", "-n", "3"}));
  EXPECT_EQ(without_api_key({"--api-key"}), (std::vector<std::string>{"--api-key"}));
}

}  // namespace
}  // namespace ultraspeed::apps
