// The normal form of messages, and the errors for malformed ones.
#include "text/chat_template_messages.h"

#include <gtest/gtest.h>

namespace ultraspeed::text {
namespace {

using Json = nlohmann::ordered_json;

Json prepared(const std::string& message) {
  const auto result = prepare_messages(Json::parse("[" + message + "]"));
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
  return result ? result->at(0) : Json();
}

void expect_error(const std::string& messages, const std::string& message,
                  ErrorCode code = ErrorCode::kInvalidArgument) {
  const auto result = prepare_messages(Json::parse(messages));
  ASSERT_FALSE(result) << messages;
  EXPECT_EQ(result.error().message, message);
  EXPECT_EQ(result.error().code, code);
}

Json arguments_of(const std::string& arguments) {
  const Json call = {
      {"role", "assistant"},
      {"tool_calls", Json::array({{{"function", {{"name", "f"}, {"arguments", arguments}}}}})}};
  const auto result = prepare_messages(Json::array({call}));
  EXPECT_TRUE(result);
  return result ? result->at(0)["tool_calls"][0]["function"]["arguments"] : Json();
}

TEST(ChatMessages, ContentPartsBecomeText) {
  const Json message = prepared(
      R"({"role": "user", "name": 1,
          "content": [{"type": "text", "text": "a"}, "b", {"text": "c"}]})");
  EXPECT_EQ(message, Json::parse(R"({"role": "user", "name": 1, "content": "abc"})"));
  EXPECT_EQ(prepared(R"({"role": "user", "content": []})")["content"], "");
  EXPECT_EQ(prepared(R"({"role": "user", "content": " x "})")["content"], " x ");
}

TEST(ChatMessages, AssistantsMayHaveNoContent) {
  EXPECT_TRUE(prepared(R"({"role": "assistant", "content": null})")["content"].is_null());
  EXPECT_FALSE(prepared(R"({"role": "assistant"})").contains("content"));
}

TEST(ChatMessages, ReasoningIsAnAlias) {
  EXPECT_EQ(prepared(R"({"role": "assistant", "reasoning": "r"})")["reasoning_content"], "r");
  EXPECT_EQ(prepared(R"({"role": "assistant", "reasoning": "r", "reasoning_content": null})")
                ["reasoning_content"],
            "r");
  EXPECT_EQ(prepared(R"({"role": "assistant", "reasoning": "r", "reasoning_content": "c"})")
                ["reasoning_content"],
            "c");
  EXPECT_FALSE(
      prepared(R"({"role": "assistant", "reasoning": null})").contains("reasoning_content"));
}

TEST(ChatMessages, AbsentToolCalls) {
  EXPECT_FALSE(prepared(R"({"role": "assistant", "tool_calls": null})").contains("tool_calls"));
  EXPECT_FALSE(prepared(R"({"role": "assistant", "tool_calls": []})").contains("tool_calls"));
}

TEST(ChatMessages, ArgumentsAreParsedWhenTheyAreAnObject) {
  EXPECT_EQ(arguments_of(R"({"b": 1, "a": [true, null, 1.5, "x"]})").dump(),
            R"({"b":1,"a":[true,null,1.5,"x"]})");
  EXPECT_EQ(arguments_of(""), Json::object());
  EXPECT_EQ(arguments_of(" \n"), Json::object());
  EXPECT_EQ(arguments_of("{\"a\": "), "{\"a\": ");
  EXPECT_EQ(arguments_of("[1]"), "[1]");
  EXPECT_EQ(arguments_of("plain words"), "plain words");
  EXPECT_EQ(arguments_of("{\"a\": 1e999}"), "{\"a\": 1e999}");
}

TEST(ChatMessages, ArgumentsInOtherForms) {
  const Json message = prepared(R"({"role": "assistant", "tool_calls": [
      {"name": "flat", "arguments": "{\"a\": 1}"}, {"function": {"name": "n", "arguments": null}},
      {"function": {"name": "o", "arguments": {"a": 2}}}, {"function": {"name": "none"}}]})");
  const Json& calls = message["tool_calls"];
  EXPECT_EQ(calls[0]["arguments"]["a"], 1);
  EXPECT_EQ(calls[1]["function"]["arguments"], Json::object());
  EXPECT_EQ(calls[2]["function"]["arguments"]["a"], 2);
  EXPECT_FALSE(calls[3]["function"].contains("arguments"));
}

TEST(ChatMessages, ArgumentsOverTheLimits) {
  std::string keys = "{";
  for (int i = 0; i < 5000; ++i) keys += fmt::format("\"{}\": 1, ", i);
  keys += "\"last\": 1}";
  std::string deep = "{\"a\": ";
  for (int i = 0; i < 300; ++i) deep += "[";
  for (const std::string& arguments : {keys, deep}) {
    const Json call = {{"function", {{"name", "f"}, {"arguments", arguments}}}};
    const auto result = prepare_messages(
        Json::array({{{"role", "assistant"}, {"tool_calls", Json::array({call})}}}));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message,
              "messages[0].tool_calls[0].function.arguments: more than 4096 keys in an object or "
              "200 nested values");
  }
}

TEST(ChatMessages, MalformedMessages) {
  expect_error("{}", "messages: expected an array, got object");
  expect_error("[]", "messages: expected at least one message");
  expect_error("[1]", "messages[0]: expected an object, got number");
  expect_error(R"([{"content": "a"}])", "messages[0].role: expected a string");
  expect_error(R"([{"role": 1}])", "messages[0].role: expected a string");
  const std::string ok = R"({"role": "user", "content": "a"}, )";
  expect_error("[" + ok + R"({"role": "user"}])",
               "messages[1].content: expected a string or a list of text parts, got nothing");
  expect_error("[" + ok + R"({"role": "tool", "content": null}])",
               "messages[1].content: expected a string or a list of text parts, got null");
  expect_error(R"([{"role": "user", "content": {"a": 1}}])",
               "messages[0].content: expected a string or a list of text parts, got object");
  expect_error(R"([{"role": "user", "content": [{"text": 1}]}])",
               "messages[0].content[0].text: expected a string");
  expect_error(R"([{"role": "user", "content": ["a", 2]}])",
               "messages[0].content[1]: expected a text part, got number");
  expect_error(R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])",
               "messages[0].content[0]: only text parts are supported, got type 'image_url'",
               ErrorCode::kUnsupported);
}

TEST(ChatMessages, MalformedToolCalls) {
  const std::string head = R"([{"role": "assistant", "tool_calls": )";
  expect_error(head + "1}]", "messages[0].tool_calls: expected an array, got number");
  expect_error(head + "[1]}]", "messages[0].tool_calls[0]: expected an object, got number");
  expect_error(head + R"([{"function": 1}]}])",
               "messages[0].tool_calls[0].function: expected an object, got number");
  expect_error(head + R"([{"function": {}}]}])",
               "messages[0].tool_calls[0].function.name: expected a string");
  expect_error(head + R"([{"name": 1}]}])", "messages[0].tool_calls[0].name: expected a string");
}

}  // namespace
}  // namespace ultraspeed::text
