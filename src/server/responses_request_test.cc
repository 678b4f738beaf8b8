// Parsing of /v1/responses: the chat request that a body amounts to, and how errors read.
#include "server/responses_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace ultraspeed::server {
namespace {

class ResponsesRequestTest : public testing::Test {
 protected:
  ResponsesRequestTest() {
    defaults_.model = "m";
    defaults_.vocab_size = 100;
    defaults_.params.sampling.temperature = 0.6F;
    defaults_.params.sampling.top_p = 0.95F;
  }

  ApiResult<ResponsesRequest> parse(std::string_view fields) {
    return parse_responses_request(fmt::format(R"({{"model":"m",{}}})", fields), defaults_, store_);
  }
  ResponsesRequest parsed(std::string_view fields) {
    auto request = parse(fields);
    EXPECT_TRUE(request) << fields << ": " << request.error().message;
    return request ? *std::move(request) : ResponsesRequest();
  }
  Json messages(std::string_view input) {
    return parsed(fmt::format(R"("input":{})", input)).chat.prompt.messages;
  }
  void expect_error(std::string_view fields, std::string_view param, std::string_view message,
                    std::string_view code = "invalid_value") {
    const auto request = parse(fields);
    ASSERT_FALSE(request) << fields;
    EXPECT_EQ(request.error().status, 400U) << fields;
    EXPECT_EQ(request.error().param, param) << fields;
    EXPECT_EQ(request.error().message, message) << fields;
    EXPECT_EQ(request.error().code, code) << fields;
  }

  RequestDefaults defaults_;
  ResponseStore store_{1 << 20};
};

TEST_F(ResponsesRequestTest, TextIsAMessageOfTheUser) {
  EXPECT_EQ(messages(R"("Hi")"), Json::parse(R"([{"role":"user","content":"Hi"}])"));
  EXPECT_EQ(parsed(R"("input":"Hi","instructions":"Be brief.")").chat.prompt.messages,
            Json::parse(R"([{"role":"system","content":"Be brief."},
                            {"role":"user","content":"Hi"}])"));
}

TEST_F(ResponsesRequestTest, ItemsOfATurnAreOneMessage) {
  const Json expected = Json::parse(R"([
      {"role":"system","content":"S\n\nD"},
      {"role":"user","content":"one two"},
      {"role":"assistant","content":"Look:","reasoning_content":"Hm.","tool_calls":[
        {"id":"c1","type":"function","function":{"name":"get","arguments":"{\"a\":1}"}},
        {"id":"c2","type":"function","function":{"name":"mcp__run","arguments":{"input":"x\ny"}}}]},
      {"role":"tool","tool_call_id":"c1","content":"sunny"},
      {"role":"tool","tool_call_id":"c2","content":"done"},
      {"role":"assistant","content":"I cannot.","reasoning_content":"So."},
      {"role":"system","content":"late"},
      {"role":"user","content":""}])");
  EXPECT_EQ(messages(R"([
      {"role":"system","content":"S"},
      {"type":"message","role":"developer","content":[{"type":"input_text","text":"D"}]},
      {"role":"user","content":[{"type":"input_text","text":"one "},
                                {"type":"input_text","text":"two"}]},
      {"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"no"}],
       "content":[{"type":"reasoning_text","text":"Hm."}],"encrypted_content":"ultraspeed:no"},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Look:"}]},
      {"type":"function_call","call_id":"c1","name":"get","arguments":"{\"a\":1}"},
      {"type":"custom_tool_call","call_id":"c2","name":"run","namespace":"mcp","input":"x\ny"},
      {"type":"function_call_output","call_id":"c1","output":"sunny"},
      {"type":"custom_tool_call_output","call_id":"c2",
       "output":[{"type":"input_text","text":"done"}]},
      {"type":"reasoning","summary":[],"encrypted_content":"ultraspeed:So."},
      {"role":"assistant","content":[{"type":"refusal","refusal":"I cannot."}]},
      {"role":"developer","content":"late"},
      {"role":"user","content":""}])"),
            expected);
}

TEST_F(ResponsesRequestTest, ReasoningBeginsATurn) {
  EXPECT_EQ(messages(R"([{"role":"user","content":"u"},
      {"role":"assistant","content":"a"},
      {"type":"reasoning","summary":[{"type":"summary_text","text":"S."}],
       "encrypted_content":"of another server"},
      {"role":"assistant","content":"b"}])"),
            Json::parse(R"([{"role":"user","content":"u"},
      {"role":"assistant","content":"a"},
      {"role":"assistant","content":"b","reasoning_content":"S."}])"));
}

TEST_F(ResponsesRequestTest, BrokenArgumentsDoNotEndAConversation) {
  const Json calls = messages(R"([{"type":"function_call","call_id":"1","name":"f",
                                   "arguments":"{\"a"},
                                  {"type":"function_call","call_id":"2","name":"f",
                                   "arguments":""}])")[0]["tool_calls"];
  EXPECT_EQ(calls[0]["function"]["arguments"], Json({{"arguments", "{\"a"}}));
  EXPECT_EQ(calls[1]["function"]["arguments"], "");
}

TEST_F(ResponsesRequestTest, ToolsBecomeFunctions) {
  const ResponsesRequest request = parsed(R"("input":"i","tools":[
      {"type":"function","name":"get","description":"d","strict":true,
       "parameters":{"type":"object","properties":{"a":{"type":"string"}}}},
      {"type":"custom","name":"patch","description":"Edits.",
       "format":{"type":"grammar","syntax":"lark","definition":"start: /a/"}},
      {"type":"web_search","external_web_access":true},{"type":"local_shell"},
      {"type":"namespace","name":"mcp","tools":[{"type":"function","name":"get"}]}])");
  const Json& tools = request.chat.prompt.tools;
  ASSERT_EQ(tools.size(), 3U);
  EXPECT_EQ(tools[0], Json::parse(R"({"type":"function","function":{"name":"get","description":"d",
      "parameters":{"type":"object","properties":{"a":{"type":"string"}}}}})"));
  EXPECT_EQ(tools[1]["function"]["description"],
            "Edits.\n\n'input' must match this lark grammar:\nstart: /a/");
  EXPECT_EQ(tools[1]["function"]["parameters"]["properties"]["input"]["type"], "string");
  EXPECT_EQ(tools[2]["function"]["name"], "mcp__get");
  EXPECT_EQ(request.chat.tool_choice.tools[0]["function"]["strict"], true);
  const ResponsesTools& known = request.settings.tools;
  EXPECT_TRUE(known.of("patch").is_custom);
  EXPECT_EQ(known.of("mcp__get").name, "get");
  EXPECT_EQ(known.of("mcp__get").name_space, "mcp");
  const Json echo = Json::parse(fmt::format("{{{}}}", request.settings.echo));
  EXPECT_EQ(echo["tools"].size(), 5U);
  EXPECT_EQ(echo["tools"][0]["strict"], true);
}

TEST_F(ResponsesRequestTest, ChoosesTools) {
  const auto choice = [this](std::string_view value) {
    return parsed(fmt::format(R"("input":"i","tool_choice":{},"tools":[
        {{"type":"function","name":"a"}},{{"type":"custom","name":"b"}}])",
                              value))
        .chat.tool_choice;
  };
  EXPECT_EQ(choice("\"none\"").tools.size(), 0U);
  EXPECT_EQ(choice("\"auto\"").tools.size(), 2U);
  EXPECT_TRUE(choice("\"required\"").must_call);
  const ToolChoice custom = choice(R"({"type":"custom","name":"b"})");
  EXPECT_TRUE(custom.must_call);
  EXPECT_EQ(custom.tools[0]["function"]["name"], "b");
  const ToolChoice allowed =
      choice(R"({"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"a"}]})");
  EXPECT_FALSE(allowed.must_call);
  EXPECT_EQ(allowed.tools.size(), 1U);
}

TEST_F(ResponsesRequestTest, MapsFields) {
  const ResponsesRequest request = parsed(
      R"("input":"i","max_output_tokens":7,"temperature":0,"top_p":0.5,"seed":3,"stop":["x"],
         "parallel_tool_calls":false,"reasoning":{"effort":"none"},"stream":true,"n":5,
         "include":["reasoning.encrypted_content","message.output_text.logprobs","other"],
         "top_logprobs":2,"client_metadata":{"a":1},"messages":7,"service_tier":"auto")");
  const GenerationRequest& generation = request.chat.generation;
  EXPECT_EQ(generation.params.max_tokens, 7U);
  EXPECT_EQ(generation.params.sampling.temperature, 0);
  EXPECT_EQ(generation.params.sampling.top_p, 0.5F);
  EXPECT_EQ(generation.params.sampling.num_logprobs, 2U);
  EXPECT_EQ(generation.stop, std::vector<std::string>{"x"});
  EXPECT_TRUE(generation.has_seed && generation.has_logprobs && generation.stream);
  EXPECT_TRUE(request.chat.tool_choice.is_single);
  EXPECT_EQ(request.chat.prompt.enable_thinking, false);
  EXPECT_TRUE(request.settings.seals_reasoning && request.settings.is_stored);
  EXPECT_EQ(parsed(R"("input":"i","reasoning":{"effort":"low"})").chat.prompt.enable_thinking,
            true);
  EXPECT_EQ(parsed(R"("input":"i","reasoning":{"summary":"auto"})").chat.prompt.enable_thinking,
            std::nullopt);
  EXPECT_FALSE(parsed(R"("input":"i")").chat.generation.has_logprobs);
}

TEST_F(ResponsesRequestTest, FormatsOfTextAreGrammars) {
  const auto grammar = [this](std::string_view format) {
    return parsed(fmt::format(R"("input":"i","text":{{"format":{}}})", format))
        .chat.generation.grammar;
  };
  EXPECT_FALSE(grammar(R"({"type":"text"})"));
  EXPECT_EQ(grammar(R"({"type":"json_object"})")->kind, GrammarSource::Kind::kJsonObject);
  const auto schema =
      grammar(R"({"type":"json_schema","name":"n","schema":{"type":"array"},"strict":true})");
  EXPECT_EQ(schema->kind, GrammarSource::Kind::kJsonSchema);
  EXPECT_EQ(schema->text, R"({"type":"array"})");
  EXPECT_EQ(schema->param, "text.format.schema");
}

TEST_F(ResponsesRequestTest, EchoesTheRequest) {
  const auto echo = [this](std::string_view fields) {
    return Json::parse(fmt::format("{{{}}}", parsed(fields).settings.echo));
  };
  const Json plain = echo(R"("input":"i","metadata":null)");
  EXPECT_EQ(plain["temperature"], Json::parse("0.6"));
  EXPECT_EQ(plain["text"], Json::parse(R"({"format":{"type":"text"}})"));
  EXPECT_EQ(plain["reasoning"], Json::parse(R"({"effort":null,"summary":null})"));
  EXPECT_EQ(plain["metadata"], Json::object());
  EXPECT_FALSE(plain.contains("user"));
  const Json full = echo(R"("input":"i","metadata":{"k":"v"},"user":"u","store":false,
      "tools":[{"type":"function","name":"f"}],"text":{"verbosity":"low"})");
  EXPECT_EQ(full["metadata"], Json({{"k", "v"}}));
  EXPECT_EQ(full["user"], "u");
  EXPECT_EQ(full["store"], false);
  EXPECT_TRUE(full["tools"][0]["parameters"].is_null() && full["tools"][0].contains("strict"));
  EXPECT_EQ(full["text"]["verbosity"], "low");
}

TEST_F(ResponsesRequestTest, StoresItsItems) {
  EXPECT_TRUE(parsed(R"("input":"i","store":false)").settings.input.empty());
  const auto items = parsed(R"("input":[{"role":"user","content":"u"},
      {"id":"mine","role":"assistant","content":"a"},
      {"type":"function_call_output","call_id":"c","output":"o"}])")
                         .settings.input;
  ASSERT_EQ(items.size(), 3U);
  const Json first = Json::parse(items[0].json);
  EXPECT_TRUE(items[0].id.starts_with("msg_"));
  EXPECT_EQ(first["id"], items[0].id);
  EXPECT_EQ(first["type"], "message");
  EXPECT_EQ(first["content"], Json::parse(R"([{"type":"input_text","text":"u"}])"));
  EXPECT_EQ(items[1].id, "mine");
  EXPECT_EQ(Json::parse(items[1].json)["content"][0]["type"], "output_text");
  EXPECT_TRUE(items[2].id.starts_with("fco_"));
  EXPECT_EQ(Json::parse(items[2].json)["status"], "completed");
}

TEST_F(ResponsesRequestTest, ContinuesWhatIsStored) {
  store_.put({"resp_1",
              "",
              {{"msg_1", R"({"type":"message","role":"user","content":"u"})"}},
              {{"msg_2", R"({"type":"message","role":"assistant","content":"a"})"}},
              "{}"});
  const ResponsesRequest next = parsed(R"("previous_response_id":"resp_1","input":"v")");
  EXPECT_EQ(next.settings.previous_id, "resp_1");
  EXPECT_EQ(next.settings.input.size(), 1U);
  const Json expected = Json::parse(R"([{"role":"user","content":"u"},
      {"role":"assistant","content":"a"},{"role":"user","content":"v"}])");
  EXPECT_EQ(next.chat.prompt.messages, expected);
  EXPECT_EQ(messages(R"([{"type":"item_reference","id":"msg_1"},{"id":"msg_2"},
                         {"role":"user","content":"v"}])"),
            expected);
  expect_error(R"("previous_response_id":"resp_2","input":"v")", "previous_response_id",
               "The response 'resp_2', or one that it continues, is not stored (any more). Send "
               "the whole conversation in 'input'.",
               "previous_response_not_found");
  expect_error(R"("input":[{"id":"msg_9"}])", "input[0].id",
               "'input[0].id' is 'msg_9'; no item of that id is stored (any more).");
}

TEST_F(ResponsesRequestTest, RefusesItems) {
  const std::vector<std::array<std::string_view, 3>> cases = {
      {"7", "input[0]", "'input[0]' must be an object, not an integer."},
      {R"({"role":"bot","content":"x"})", "input[0].role",
       "'input[0].role' is 'bot'; it must be one of user, assistant, system, developer."},
      {R"({"role":"user","content":7})", "input[0].content",
       "'input[0].content' must be a string or an array of parts, not an integer."},
      {R"({"type":"function_call","name":"f","arguments":"{}"})", "input[0].call_id",
       "'input[0].call_id' is missing."},
      {R"({"type":"function_call","call_id":"c","name":"f","arguments":{}})", "input[0].arguments",
       "'input[0].arguments' must be a string, not an object."},
      {R"({"type":"custom_tool_call","call_id":"c","name":"f"})", "input[0].input",
       "'input[0].input' is missing."},
  };
  for (const auto& [item, param, message] : cases) {
    expect_error(fmt::format(R"("input":[{}])", item), param, message);
  }
  expect_error(R"("input":[{"role":"user","content":[{"type":"input_image","image_url":"u"}]}])",
               "input[0].content[0]",
               "'input[0].content[0]' is a part of type 'input_image'; this model reads text "
               "alone.",
               "unsupported_value");
  expect_error(R"("input":[{"type":"computer_call"}])", "input[0]",
               "'input[0]' is an item of type 'computer_call'; message, reasoning, function_call, "
               "function_call_output, custom_tool_call, custom_tool_call_output and "
               "item_reference are supported.",
               "unsupported_value");
}

TEST_F(ResponsesRequestTest, RefusesFields) {
  const std::vector<std::array<std::string_view, 3>> cases = {
      {R"("store":true)", "input", "'input' is missing or empty."},
      {R"("input":7)", "input", "'input' must be a string or an array of items, not an integer."},
      {R"("input":"i","max_output_tokens":0)", "max_output_tokens",
       "'max_output_tokens' is 0; it must be between 1 and 2147483647."},
      {R"("input":"i","top_logprobs":21)", "top_logprobs",
       "'top_logprobs' is 21; it must be between 0 and 20."},
      {R"("input":"i","metadata":{"a":1})", "metadata.a",
       "'metadata.a' must be a string, not an integer."},
      {R"("input":"i","reasoning":{"effort":"some"})", "reasoning.effort",
       "'reasoning.effort' is 'some'; it must be one of none, minimal, low, medium, high, xhigh, "
       "max."},
      {R"("input":"i","text":{"format":{"type":"xml"}})", "text.format.type",
       "'text.format.type' is 'xml'; it must be one of text, json_object, json_schema."},
      {R"("input":"i","text":{"format":{"type":"json_schema"}})", "text.format.schema",
       "'text.format.schema' is missing."},
      {R"("input":"i","tools":[{"name":"f"}])", "tools[0].type", "'tools[0].type' is missing."},
      {R"("input":"i","tools":[{"type":"namespace","name":"n","tools":[7]}])", "tools[0].tools[0]",
       "'tools[0].tools[0]' must be an object, not an integer."},
  };
  for (const auto& [fields, param, message] : cases) expect_error(fields, param, message);
  expect_error(R"("input":"i","background":true)", "background",
               "'background' is not supported; wait for the answer.", "unsupported_value");
  expect_error(R"("input":"i","conversation":"c")", "conversation",
               "'conversation' is not supported; send the items in 'input' or continue by "
               "'previous_response_id'.",
               "unsupported_value");
  expect_error(R"("input":"i","tool_choice":{"type":"web_search_preview"})", "tool_choice",
               "'tool_choice' names a tool of type 'web_search_preview'; only 'function' and "
               "'custom' are supported.",
               "unsupported_value");
}

}  // namespace
}  // namespace ultraspeed::server
