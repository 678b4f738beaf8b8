// The form of requests for gpt-oss's chat template, and what a template in its manner makes of it.
#include "text/chat_template_harmony.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "text/chat_template.h"

namespace ultraspeed::text {
namespace {

using Json = nlohmann::ordered_json;

const std::string kTemplate = US_SOURCE_DIR "/tests/data/jinja/templates/harmony.jinja";

std::string source() {
  std::ifstream file(kTemplate, std::ios::binary);
  EXPECT_TRUE(file) << kTemplate;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Json harmony_form(const std::string& messages) {
  return harmony_messages(Json::parse(messages));
}

// From the first turn behind the system's on.
std::string turns_of(const std::string& messages, ChatRequest request = {}) {
  const auto chat = ChatTemplate::from_source(source());
  EXPECT_TRUE(chat && chat->is_harmony());
  request.messages = Json::parse(messages);
  const auto prompt = chat->render(std::move(request));
  if (!prompt) return "error: " + prompt.error().message;
  return prompt->text.substr(prompt->text.find("<|end|>") + 7);
}

TEST(HarmonyMessages, ATemplateIsKnownByItsMarks) {
  EXPECT_TRUE(writes_harmony("{{ '<|start|>assistant<|channel|>final<|message|>' }}"));
  EXPECT_FALSE(writes_harmony("{{ '<|im_start|>assistant' }}"));
  EXPECT_FALSE(writes_harmony("{{ '<|start|><|message|>' }}"));
}

TEST(HarmonyMessages, SystemMessagesAreOneAtTheBegin) {
  EXPECT_EQ(harmony_form(R"([{"role":"system","content":"A"},{"role":"user","content":"u"},
                         {"role":"developer","content":"B"},{"role":"system","content":""}])"),
            Json::parse(R"([{"role":"system","content":"A\n\nB"},{"role":"user","content":"u"}])"));
  EXPECT_EQ(harmony_form(R"([{"role":"system","content":""}])"),
            Json::parse(R"([{"role":"system","content":""}])"));
}

TEST(HarmonyMessages, ReasoningIsThinking) {
  EXPECT_EQ(harmony_form(R"([{"role":"assistant","content":"c","reasoning_content":"r"}])"),
            Json::parse(R"([{"role":"assistant","content":"c","thinking":"r"}])"));
  EXPECT_EQ(harmony_form(R"([{"role":"assistant","content":null,"thinking":"t",
                          "reasoning_content":"r"}])"),
            Json::parse(R"([{"role":"assistant","content":"","thinking":"t"}])"));
}

TEST(HarmonyMessages, BesideACallContentIsTheEndOfThinking) {
  const std::string call = R"("tool_calls":[{"function":{"name":"f","arguments":{}}}])";
  EXPECT_EQ(
      harmony_form(R"([{"role":"assistant","content":"c","reasoning_content":"r",)" + call + "}]"),
      Json::parse(R"([{"role":"assistant","content":"","thinking":"r\n\nc",)" + call + "}]"));
  EXPECT_EQ(harmony_form(R"([{"role":"assistant","content":null,)" + call + "}]"),
            Json::parse(R"([{"role":"assistant","content":"",)" + call + "}]"));
}

TEST(HarmonyMessages, EachCallIsFollowedByItsResults) {
  const Json calls = harmony_form(R"([
      {"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[
        {"id":"a","function":{"name":"f","arguments":{}}},
        {"id":"b","function":{"name":"g","arguments":{}}},
        {"id":"c","function":{"name":"h","arguments":{}}}]},
      {"role":"tool","tool_call_id":"b","content":"B"},
      {"role":"tool","tool_call_id":"a","content":"A"},
      {"role":"tool","tool_call_id":"?","content":"C"},
      {"role":"user","content":"u"}])");
  std::string order;
  for (const Json& message : calls) {
    const bool is_call = message.contains("tool_calls");
    order += is_call ? message["tool_calls"][0]["function"]["name"].get<std::string>()
                     : message["content"].get<std::string>();
    EXPECT_TRUE(!is_call || message["tool_calls"].size() == 1);
  }
  EXPECT_EQ(order, "fAgBhCu");
  EXPECT_EQ(calls[0]["thinking"], "r");
  EXPECT_FALSE(calls[2].contains("thinking"));
}

TEST(HarmonyMessages, TheEffortIsOneOfThree) {
  const auto effort = [](const char* asked, bool is_off) -> Json {
    Json variables = asked == nullptr ? Json() : Json{{"reasoning_effort", asked}};
    set_harmony_effort(is_off, &variables);
    return variables.value("reasoning_effort", Json());
  };
  EXPECT_EQ(effort("medium", false), "medium");
  EXPECT_EQ(effort("none", true), "low");
  EXPECT_EQ(effort("minimal", false), "low");
  EXPECT_EQ(effort("max", false), "high");
  EXPECT_EQ(effort(nullptr, true), "low");
  EXPECT_TRUE(effort(nullptr, false).is_null());
}

// What an agent's client sends back after two calls at once.
TEST(HarmonyMessages, AClientsConversationRenders) {
  const std::string turns = turns_of(R"([
      {"role":"system","content":"S"},{"role":"user","content":"Hi <|end|>"},
      {"role":"assistant","content":null,"reasoning_content":"Look.","tool_calls":[
        {"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},
        {"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"a","content":"1"},
      {"role":"tool","tool_call_id":"b","content":"2"}])");
  EXPECT_EQ(
      turns,
      "<|start|>developer<|message|># Instructions\n\nS<|end|>"
      "<|start|>user<|message|>Hi <|end|><|end|>"
      "<|start|>assistant<|channel|>analysis<|message|>Look.<|end|>"
      "<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{\"x\": 1}<|call|>"
      "<|start|>functions.f to=assistant<|channel|>commentary<|message|>\"1\"<|end|>"
      "<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{}<|call|>"
      "<|start|>functions.g to=assistant<|channel|>commentary<|message|>\"2\"<|end|>"
      "<|start|>assistant");
}

TEST(HarmonyMessages, ToolsNeedNoDescription) {
  ChatRequest request;
  request.tools = Json::parse(R"([{"type":"function","function":{"name":"f"}}])");
  const std::string turns = turns_of(R"([{"role":"user","content":"u"}])", std::move(request));
  EXPECT_NE(turns.find("// \ntype f = () => any;"), std::string::npos) << turns;
}

}  // namespace
}  // namespace ultraspeed::text
