// The JSON of answers, byte by byte: with the bundled tokenizer, without an engine.
#include "server/answer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/api_error.h"
#include "server/json_text.h"
#include "server/output_text.h"
#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

using engine::FinishReason;

AnswerHead head() {
  return {"id-1", 1700000000, "m\"1", "fp", {}, {}, {}};
}

std::vector<ChatTurn> turns(ChatParser::Options options = {}) {
  std::vector<ChatTurn> turns;
  turns.emplace_back(std::move(options));
  return turns;
}

// The whole answer of one candidate.
void append_whole(Answer& answer, const AnswerEnd& end, std::string* out) {
  answer.end(end);
  answer.whole({&end, 1}, *out);
}

// The answer of a stream whose steps gave these texts.
std::string streamed(Answer& answer, const std::vector<std::string>& texts, FinishReason reason) {
  std::string out;
  answer.stream_begin(out);
  for (const std::string& text : texts) answer.stream_piece({text, {}}, out);
  answer.stream_end({reason, {}, {3, 4, {}, 2}}, out);
  return out;
}

TEST(ChatAnswerTest, StreamsDeltas) {
  const auto answer = make_chat_answer(head(), {}, test_tokenizer(), turns());
  const std::string begin =
      R"(data: {"id":"id-1","object":"chat.completion.chunk","created":1700000000,)"
      R"("model":"m\"1","system_fingerprint":"fp","choices":[{"index":0,"delta":)";
  const std::string end = ",\"logprobs\":null,\"finish_reason\":null}]}\n\n";
  EXPECT_EQ(
      streamed(*answer, {"<thi", "nk>why", " so</think>be", "", "cause\n"}, FinishReason::kStop),
      begin + R"({"role":"assistant","content":""})" + end +               //
          begin + R"({"reasoning_content":"why"})" + end +                 //
          begin + R"({"reasoning_content":" so","content":"be"})" + end +  //
          begin + R"({"content":"cause\n"})" + end +                       //
          begin + "{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n" + "data: [DONE]\n\n");
}

// Where a grammar leaves no token, the text is complete.
TEST(ChatAnswerTest, EndsOfAConstraintAreStops) {
  const auto chat = make_chat_answer(head(), {}, test_tokenizer(), turns());
  std::string out;
  append_whole(*chat, {FinishReason::kConstraint, {}, {3, 4}}, &out);
  EXPECT_NE(out.find(R"("finish_reason":"stop")"), std::string::npos) << out;
  const auto messages = make_messages_answer(head(), 3, ChatTurn());
  out.clear();
  append_whole(*messages, {FinishReason::kConstraint, {}, {3, 4}}, &out);
  EXPECT_NE(out.find(R"("stop_reason":"end_turn")"), std::string::npos) << out;
}

TEST(ChatAnswerTest, StreamEndsWithHeldTextAndUsage) {
  AnswerOptions options;
  options.include_usage = true;
  const auto answer =
      make_chat_answer(head(), options, test_tokenizer(), turns({.starts_in_reasoning = true}));
  const std::string out = streamed(*answer, {"a</th"}, FinishReason::kLength);
  EXPECT_NE(out.find(R"("delta":{"reasoning_content":"</th"})"), std::string::npos) << out;
  EXPECT_NE(out.find(R"("delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null})"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find(R"("choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,)"
                     R"("total_tokens":7,"prompt_tokens_details":{"cached_tokens":2},)"
                     R"("completion_tokens_details":{"reasoning_tokens":0}}})"),
            std::string::npos)
      << out;
}

TEST(ChatAnswerTest, WholeAnswer) {
  const auto answer = make_chat_answer(head(), {}, test_tokenizer(), turns());
  answer->add({"<think>a", {}});
  answer->add({"</think>b", {}});
  answer->add({"\"c", {}});
  std::string out;
  append_whole(*answer, {FinishReason::kStop, {}, {3, 4}}, &out);
  EXPECT_EQ(out, R"({"id":"id-1","object":"chat.completion","created":1700000000,"model":"m\"1",)"
                 R"("system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant",)"
                 R"("content":"b\"c","reasoning_content":"a","refusal":null},"logprobs":null,)"
                 R"("finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,)"
                 R"("total_tokens":7,"prompt_tokens_details":{"cached_tokens":0},)"
                 R"("completion_tokens_details":{"reasoning_tokens":0}}})");
}

TEST(ChatAnswerTest, CountsInEachChunkIfAsked) {
  AnswerOptions options;
  options.include_usage = options.has_continuous_usage = true;
  options.prompt_tokens = 5;
  std::vector<ChatTurn> two = turns();
  two.emplace_back(ChatParser::Options{});
  const auto answer = make_chat_answer(head(), options, test_tokenizer(), std::move(two));
  const std::vector<engine::Token> tokens(3);
  std::string out;
  answer->stream_piece({"a", std::span(tokens).first(2), 1}, out);
  answer->stream_piece({"", std::span(tokens).first(1), 0}, out);  // held back: shows later
  answer->stream_piece({"b", tokens, 0}, out);
  answer->stream_piece({"c", std::span(tokens).first(1), 1}, out);
  std::vector<std::string> usages;
  for (size_t at = 0; (at = out.find(R"("usage":)", at)) != std::string::npos; ++at) {
    usages.push_back(out.substr(at, out.find('}', at) - at));
  }
  EXPECT_EQ(usages, (std::vector<std::string>{
                        R"("usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7)",
                        R"("usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9)",
                        R"("usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8)"}));
}

TEST(CompletionAnswerTest, StreamsAndWholeAgree) {
  AnswerOptions options;
  options.include_usage = true;
  const auto stream = make_completion_answer(head(), options, test_tokenizer(), {"echo "}, 1);
  const std::string begin =
      R"(data: {"id":"id-1","object":"text_completion","created":1700000000,"model":"m\"1",)"
      R"("system_fingerprint":"fp","choices":[)";
  const auto chunk = [&](std::string_view text, std::string_view reason) {
    return begin + R"({"index":0,"text":")" + std::string(text) +
           R"(","logprobs":null,"finish_reason":)" + std::string(reason) + "}],\"usage\":null}\n\n";
  };
  EXPECT_EQ(streamed(*stream, {"a", "", "b"}, FinishReason::kLength),
            chunk("echo ", "null") + chunk("a", "null") + chunk("b", "null") +
                chunk("", "\"length\"") + begin +
                R"(],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,)" +
                R"("prompt_tokens_details":{"cached_tokens":2}}})" + "\n\ndata: [DONE]\n\n");

  const auto whole = make_completion_answer(head(), {}, test_tokenizer(), {"echo "}, 1);
  whole->add({"a", {}});
  whole->add({"b", {}});
  std::string out;
  append_whole(*whole, {FinishReason::kLength, {}, {3, 4}}, &out);
  const auto json = nlohmann::json::parse(out);
  EXPECT_EQ(json["choices"][0]["text"], "echo ab");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["total_tokens"], 7);
}

// A token that is one byte of a character, and one that is text.
std::vector<engine::Token> tokens_with_logprobs() {
  const auto ids = test_ids("a\xE2\x98\x83");  // a, then a snowman in byte tokens
  std::vector<engine::Token> tokens;
  for (const int32_t id : ids) {
    engine::Token token;
    token.id = id;
    token.logprob = -0.25F;
    token.top_logprobs = {{id, -0.25F}, {ids[0], -std::numeric_limits<float>::infinity()}};
    tokens.push_back(token);
  }
  return tokens;
}

TEST(LogprobsTest, ChatReportsBytes) {
  AnswerOptions options;
  options.has_logprobs = true;
  const auto tokens = tokens_with_logprobs();
  ASSERT_GT(tokens.size(), 2U) << "the tokenizer has a token for the snowman";
  const auto answer = make_chat_answer(head(), options, test_tokenizer(), turns());
  answer->add({"text", tokens});
  std::string out;
  append_whole(*answer, {FinishReason::kStop, {}, {1, 1}}, &out);
  const auto content = nlohmann::json::parse(out)["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), tokens.size());
  EXPECT_EQ(content[0]["token"], "a");
  EXPECT_EQ(content[0]["bytes"], nlohmann::json({97}));
  EXPECT_EQ(content[0]["logprob"], -0.25);
  EXPECT_EQ(content[1]["bytes"][0], 0xE2);
  EXPECT_EQ(content[1]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(content[1]["top_logprobs"][1]["token"], "a");
  EXPECT_EQ(content[1]["top_logprobs"][1]["logprob"], -9999);

  std::string stream;
  const auto streaming = make_chat_answer(head(), options, test_tokenizer(), turns());
  streaming->stream_piece({"", std::span(tokens).first(1)}, stream);
  EXPECT_NE(stream.find(R"("delta":{},"logprobs":{"content":[{"token":"a")"), std::string::npos);
}

TEST(LogprobsTest, CompletionReportsOffsets) {
  AnswerOptions options;
  options.has_logprobs = true;
  const auto tokens = tokens_with_logprobs();
  const auto answer = make_completion_answer(head(), options, test_tokenizer(), {"\xC3\xA9:"}, 1);
  answer->add({"text", tokens});
  std::string out;
  append_whole(*answer, {FinishReason::kStop, {}, {1, 1}}, &out);
  const auto logprobs = nlohmann::json::parse(out)["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"][0], "a");
  EXPECT_TRUE(logprobs["tokens"][1].get<std::string>().starts_with("bytes:\\xe2"));
  EXPECT_EQ(logprobs["token_logprobs"][1], -0.25);
  EXPECT_EQ(logprobs["top_logprobs"][1]["a"], -9999);
  EXPECT_EQ(logprobs["text_offset"][0], 2);
  EXPECT_EQ(logprobs["text_offset"][1], 3);
  EXPECT_EQ(logprobs["text_offset"].back(), 4);  // a continued character does not move it
}

TEST(OutputTextTest, ChatKeepsMarkersAndDropsOtherSpecialTokens) {
  const auto ids = test_ids("<think>a</think><|im_start|>b<tool_call>");
  const auto decode = [&ids](const OutputText::Options& options) {
    OutputText output(test_tokenizer(), {}, options);
    std::string text;
    for (const int32_t id : ids) text += output.push(id).text;
    return text + output.finish().text;
  };
  const auto markers = answer_markers(ToolSyntax::kXml);
  EXPECT_EQ(decode({.skip_special = true, .markers = markers}), "<think>a</think>b<tool_call>");
  EXPECT_EQ(decode({.skip_special = true}), "ab");
  EXPECT_EQ(decode({.skip_special = true, .markers = answer_markers(ToolSyntax::kHarmony)}), "ab");
  EXPECT_EQ(decode({.skip_special = false}), "<think>a</think><|im_start|>b<tool_call>");
}

TEST(JsonTextTest, EscapesStrings) {
  std::string out;
  append_json_string(out, "a\"b\\c\n\r\t\x01\x1f\x7f\xC3\xA9");
  EXPECT_EQ(out, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f\xC3\xA9\"");
  out.clear();
  append_json_string(out, "");
  EXPECT_EQ(out, "\"\"");
  EXPECT_EQ(count_characters("a\xC3\xA9\xE2\x98\x83"), 3U);
}

TEST(ApiErrorTest, MapsCodesToStatus) {
  const std::vector<std::pair<ErrorCode, unsigned>> cases = {{ErrorCode::kInvalidArgument, 400},
                                                             {ErrorCode::kInvalidData, 400},
                                                             {ErrorCode::kUnsupported, 400},
                                                             {ErrorCode::kOutOfMemory, 429},
                                                             {ErrorCode::kCancelled, 503},
                                                             {ErrorCode::kNotFound, 500},
                                                             {ErrorCode::kIo, 500},
                                                             {ErrorCode::kInternal, 500}};
  for (const auto& [code, status] : cases) {
    EXPECT_EQ(from_error({code, "message"}).status, status);
  }
  EXPECT_EQ(from_error({ErrorCode::kInternal, "worker 3"}).message, "worker 3");
}

TEST(ApiErrorTest, WritesOpenAisEnvelope) {
  ApiError error = from_error({ErrorCode::kOutOfMemory, "full \xff"});
  net::HttpResponse response = error_response(error);
  EXPECT_EQ(response.status, 429U);
  EXPECT_EQ(response.body,
            "{\"error\":{\"message\":\"full \xEF\xBF\xBD\",\"type\":\"rate_limit_error\","
            "\"param\":null,\"code\":\"queue_full\"}}");
  bool has_retry_after = false;
  for (const net::Header& header : response.headers) {
    has_retry_after |= header.name == "Retry-After" && header.value == "2";
  }
  EXPECT_TRUE(has_retry_after);
  error.param = "p";
  EXPECT_NE(error_json(error).find(R"("param":"p")"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::server
