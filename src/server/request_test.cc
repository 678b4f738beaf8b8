// Parsing of both kinds of request bodies: what each field becomes and how each error reads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/chat_request.h"
#include "server/completion_request.h"

namespace ultraspeed::server {
namespace {

RequestDefaults defaults() {
  RequestDefaults defaults;
  defaults.model = "m";
  defaults.vocab_size = 100;
  defaults.params.sampling.temperature = 0.6F;
  defaults.params.sampling.top_p = 0.95F;
  defaults.params.stop_ids = {2, 0};
  return defaults;
}

// `fields` follow the model: ",\"prompt\":\"p\"".
ApiResult<CompletionRequest> completion(std::string_view fields) {
  return parse_completion_request(fmt::format(R"({{"model":"m",{}}})", fields), defaults());
}

ApiResult<ChatRequest> chat(std::string_view fields) {
  return parse_chat_request(fmt::format(R"({{"model":"m",{}}})", fields), defaults());
}

ApiResult<ChatRequest> chat_with(std::string_view field) {
  return chat(fmt::format(R"("messages":[{{"role":"user","content":"hi"}}],{})", field));
}

struct BadField {
  const char* field;
  const char* param;
  const char* message;
  const char* code = "invalid_value";
};

void expect_error(const ApiError& error, const BadField& expected) {
  EXPECT_EQ(error.status, 400U) << expected.field;
  EXPECT_EQ(error.param, expected.param) << expected.field;
  EXPECT_EQ(error.message, expected.message) << expected.field;
  EXPECT_EQ(error.code, expected.code) << expected.field;
  EXPECT_EQ(error.type, "invalid_request_error");
}

TEST(GenerationFieldsTest, DefaultsComeFromTheModel) {
  const auto request = completion(R"("prompt":"p","unknown_field":{"x":[1]},"user":"u")");
  ASSERT_TRUE(request) << request.error().message;
  const GenerationRequest& generation = request->generation;
  EXPECT_EQ(generation.params.sampling.temperature, 0.6F);
  EXPECT_EQ(generation.params.sampling.top_p, 0.95F);
  EXPECT_EQ(generation.params.stop_ids, (std::vector<int32_t>{2, 0}));
  EXPECT_EQ(generation.params.max_tokens, 0U);
  EXPECT_FALSE(generation.has_seed || generation.stream || generation.has_logprobs);
  EXPECT_FALSE(generation.include_usage || generation.params.ignore_eos);
  EXPECT_TRUE(generation.skip_special_tokens && request->add_special_tokens);
}

TEST(GenerationFieldsTest, ReadsEveryField) {
  const auto request = completion(
      R"("prompt":"p","temperature":0,"top_p":0.5,"top_k":-1,"min_p":0.1,"presence_penalty":-2,
         "frequency_penalty":1.5,"repetition_penalty":1.1,"logit_bias":{"7":-100,"99":2.5},
         "seed":-1,"max_tokens":5,"max_completion_tokens":6,"stop":["a","b"],"stream":true,
         "stream_options":{"include_usage":true,"continuous_usage_stats":true},
         "ignore_eos":true,"skip_special_tokens":false,
         "n":1,"best_of":1,"response_format":{"type":"text"},"logprobs":3,"cache_salt":"s")");
  ASSERT_TRUE(request) << request.error().message;
  const GenerationRequest& generation = request->generation;
  const engine::SamplingParams& sampling = generation.params.sampling;
  EXPECT_EQ(sampling.temperature, 0);
  EXPECT_EQ(sampling.top_p, 0.5F);
  EXPECT_EQ(sampling.top_k, 0U);
  EXPECT_EQ(sampling.min_p, 0.1F);
  EXPECT_EQ(sampling.presence_penalty, -2);
  EXPECT_EQ(sampling.frequency_penalty, 1.5F);
  EXPECT_EQ(sampling.repetition_penalty, 1.1F);
  EXPECT_EQ(sampling.logit_bias,
            (std::vector<std::pair<int32_t, float>>{{7, -100.0F}, {99, 2.5F}}));
  EXPECT_TRUE(generation.has_seed);
  EXPECT_EQ(sampling.seed, UINT64_MAX);
  EXPECT_EQ(generation.params.max_tokens, 6U);
  EXPECT_EQ(generation.params.cache_domain, "s");
  EXPECT_EQ(generation.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(generation.stream && generation.include_usage && generation.params.ignore_eos);
  EXPECT_TRUE(generation.has_continuous_usage);
  EXPECT_FALSE(generation.skip_special_tokens);
  EXPECT_TRUE(generation.has_logprobs);
  EXPECT_EQ(sampling.num_logprobs, 3U);
  EXPECT_EQ(completion(R"("prompt":"p","stop":"x","top_k":40)")->generation.stop.front(), "x");
}

TEST(GenerationFieldsTest, NullIsAbsent) {
  const auto request = completion(
      R"("prompt":"p","temperature":null,"stop":null,"logit_bias":null,"seed":null,"n":null,
         "max_tokens":null,"stream":null,"stream_options":null,"response_format":null,
         "logprobs":null,"suffix":null,"echo":null)");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->generation.params.sampling.temperature, 0.6F);
  EXPECT_FALSE(request->generation.has_seed || request->generation.has_logprobs);
}

TEST(GenerationFieldsTest, ErrorsNameTheField) {
  const std::vector<BadField> cases = {
      {R"("temperature":2.1)", "temperature", "'temperature' is 2.1; it must be between 0 and 2."},
      {R"("temperature":"hot")", "temperature", "'temperature' must be a number, not a string."},
      {R"("top_p":0)", "top_p",
       "'top_p' is 0; it must be above 0. For greedy decoding set 'temperature' to 0."},
      {R"("top_p":1.5)", "top_p", "'top_p' is 1.5; it must be between 0 and 1."},
      {R"("min_p":-0.1)", "min_p", "'min_p' is -0.1; it must be at least 0 and below 1."},
      {R"("min_p":1e300)", "min_p", "'min_p' is 1e+300; it must be at least 0 and below 1."},
      {R"("min_p":1)", "min_p", "'min_p' is 1; it must be at least 0 and below 1."},
      {R"("min_p":0.99999999)", "min_p",  // 1 in binary32
       "'min_p' is 0.99999999; it must be at least 0 and below 1."},
      {R"("min_p":"low")", "min_p", "'min_p' must be a number, not a string."},
      {R"("top_k":-2)", "top_k", "'top_k' is -2; it must be between -1 and 2147483647."},
      {R"("presence_penalty":3)", "presence_penalty",
       "'presence_penalty' is 3; it must be between -2 and 2."},
      {R"("frequency_penalty":-3)", "frequency_penalty",
       "'frequency_penalty' is -3; it must be between -2 and 2."},
      {R"("repetition_penalty":0)", "repetition_penalty",
       "'repetition_penalty' is 0; it must be between 0.01 and 100."},
      {R"("logit_bias":[1])", "logit_bias", "'logit_bias' must be an object, not an array."},
      {R"("logit_bias":{"100":1})", "logit_bias",
       "'logit_bias' has the key '100'; keys are token ids from 0 to 99."},
      {R"("logit_bias":{"5x":1})", "logit_bias",
       "'logit_bias' has the key '5x'; keys are token ids from 0 to 99."},
      {R"("logit_bias":{"5":101})", "logit_bias.5",
       "'logit_bias.5' is 101; it must be between -100 and 100."},
      {R"("seed":1.5)", "seed", "'seed' must be an integer, not a floating-point number."},
      {R"("max_tokens":0)", "max_tokens",
       "'max_tokens' is 0; it must be between 1 and 2147483647."},
      {R"("max_completion_tokens":-1)", "max_completion_tokens",
       "'max_completion_tokens' is -1; it must be between 1 and 2147483647."},
      {R"("stop":5)", "stop", "'stop' must be a string or an array of strings."},
      {R"("stop":["a",5])", "stop", "'stop' must be a string or an array of strings."},
      {R"("stop":["a",""])", "stop", "'stop' contains an empty string."},
      {R"("stop":["","","","","","","","","","","","","","","","",""])", "stop",
       "'stop' has 17 strings; at most 16 are allowed."},
      {R"("cache_salt":5)", "cache_salt", "'cache_salt' must be a string, not an integer."},
      {R"("stream":"yes")", "stream", "'stream' must be true or false, not a string."},
      {R"("stream_options":true)", "stream_options",
       "'stream_options' must be an object, not a boolean."},
      {R"("stream_options":{"include_usage":1})", "stream_options.include_usage",
       "'stream_options.include_usage' must be true or false, not an integer."},
      {R"("n":0)", "n", "'n' is 0; it must be between 1 and 64."},
      {R"("n":3,"best_of":2)", "best_of",
       "'best_of' is 2 and 'n' is 3; it must be at least as large."},
      {R"("best_of":65)", "best_of", "'best_of' is 65; it must be between 1 and 64."},
      {R"("best_of":2,"stream":true)", "best_of",
       "'best_of' above 'n' cannot be streamed: which candidates are best is known when all have "
       "ended."},
      {R"("best_of_mode":"luck")", "best_of_mode",
       "'best_of_mode' is 'luck'; it must be 'logprob', 'majority' or 'judge'."},
      {R"("deadline_ms":0)", "deadline_ms",
       "'deadline_ms' is 0; it must be between 1 and 2147483647."},
      {R"("priority":"high")", "priority", "'priority' must be an integer, not a string."},
      {R"("response_format":{"type":"xml"})", "response_format.type",
       "'response_format.type' is 'xml'; it must be 'text', 'json_object' or 'json_schema'.",
       "unsupported_value"},
  };
  for (const BadField& bad : cases) {
    const auto request = completion(fmt::format(R"("prompt":"p",{})", bad.field));
    ASSERT_FALSE(request) << bad.field;
    expect_error(request.error(), bad);
    const auto same = chat_with(bad.field);
    ASSERT_FALSE(same) << bad.field;
    expect_error(same.error(), bad);
  }
}

TEST(GenerationFieldsTest, ModelMustBeTheServedOne) {
  const auto missing = parse_completion_request(R"({"prompt":"p"})", defaults());
  expect_error(missing.error(), {"", "model", "'model' is missing; this server has 'm'."});
  const auto other = parse_completion_request(R"({"model":"gpt","prompt":"p"})", defaults());
  EXPECT_EQ(other.error().status, 404U);
  EXPECT_EQ(other.error().code, "model_not_found");
  EXPECT_EQ(other.error().param, "model");
}

TEST(CompletionRequestTest, ReadsEveryFormOfPrompt) {
  EXPECT_EQ(std::get<std::string>(completion(R"("prompt":"one")")->prompts.at(0)), "one");
  EXPECT_EQ(std::get<std::string>(completion(R"("prompt":["one"])")->prompts.at(0)), "one");
  EXPECT_EQ(std::get<std::vector<int32_t>>(completion(R"("prompt":[1,99])")->prompts.at(0)),
            (std::vector<int32_t>{1, 99}));
  EXPECT_EQ(std::get<std::vector<int32_t>>(completion(R"("prompt":[[1,2]])")->prompts.at(0)),
            (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(completion(R"("prompt":"p","echo":true)")->echo);
  EXPECT_FALSE(completion(R"("prompt":"p","add_special_tokens":false)")->add_special_tokens);
}

TEST(CompletionRequestTest, ErrorsNameTheField) {
  const char* form =
      "'prompt' must be a string, an array of token ids, or an array of such prompts.";
  const std::vector<BadField> cases = {
      {R"("x":1)", "prompt", "'prompt' is missing."},
      {R"("prompt":7)", "prompt", form},
      {R"("prompt":["a",7])", "prompt[1]",
       "'prompt[1]' must be a string, an array of token ids, or an array of such prompts."},
      {R"("prompt":["a",[-1]])", "prompt[1]", "'prompt[1][0]' is not a token id from 0 to 99."},
      {R"("prompt":[1,100])", "prompt", "'prompt[1]' is not a token id from 0 to 99."},
      {R"("prompt":[-1])", "prompt", "'prompt[0]' is not a token id from 0 to 99."},
      {R"("prompt":[1.0])", "prompt", "'prompt[0]' is not a token id from 0 to 99."},
      {R"("prompt":[1,"a"])", "prompt", "'prompt[1]' is not a token id from 0 to 99."},
      {R"("prompt":"p","logprobs":21)", "logprobs",
       "'logprobs' is 21; it must be between 0 and 20."},
      {R"("prompt":"p","logprobs":1,"echo":true,"stream":true)", "stream",
       "'stream' is not supported with 'echo' and 'logprobs'.", "unsupported_value"},
      {R"("prompt":"p","logprobs":1,"echo":true,"prompt_logprobs":2)", "prompt_logprobs",
       "'prompt_logprobs' must be equal to 'logprobs' with 'echo'."},
      {R"("prompt":"p","prompt_logprobs":-1)", "prompt_logprobs",
       "'prompt_logprobs' is -1; it must be between 0 and 20."},
      {R"("prompt":"p","echo":1)", "echo", "'echo' must be true or false, not an integer."},
      {R"("prompt":"p","suffix":"s")", "suffix", "'suffix' is not supported.", "unsupported_value"},
  };
  for (const BadField& bad : cases) {
    const auto request = completion(bad.field);
    ASSERT_FALSE(request) << bad.field;
    expect_error(request.error(), bad);
  }
}

TEST(ChatRequestTest, BrokenArgumentsDoNotEndAConversation) {
  for (const char* broken : {"{\"a", "[1]", "plain words", "{} {}"}) {
    const Json call = {{"id", "1"}, {"function", {{"name", "f"}, {"arguments", broken}}}};
    const Json messages = Json::array({{{"role", "assistant"}, {"tool_calls", {call}}}});
    const auto request = chat(fmt::format(R"("messages":{})", messages.dump()));
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->prompt.messages[0]["tool_calls"][0]["function"]["arguments"],
              Json({{"arguments", broken}}));
  }
  for (const char* whole : {R"({"a": 1})", "", " "}) {
    const Json call = {{"id", "1"}, {"function", {{"name", "f"}, {"arguments", whole}}}};
    const Json messages = Json::array({{{"role", "assistant"}, {"tool_calls", {call}}}});
    const auto request = chat(fmt::format(R"("messages":{})", messages.dump()));
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->prompt.messages[0]["tool_calls"][0]["function"]["arguments"], whole);
  }
}

TEST(ChatRequestTest, ReadsMessages) {
  const auto request = chat(
      R"("messages":[{"role":"developer","content":"be brief"},
                     {"role":"assistant","content":null,"reasoning":"hm","other":[{}]}])");
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->prompt.messages.dump(),
            R"([{"role":"system","content":"be brief"},)"
            R"({"role":"assistant","content":null,"reasoning":"hm","other":[{}]}])");
  EXPECT_TRUE(request->prompt.add_generation_prompt);
  EXPECT_FALSE(request->prompt.parse_special_in_input);
}

TEST(ChatRequestTest, ReadsTools) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}])";
  EXPECT_EQ(chat_with(tools)->prompt.tools[0]["function"]["parameters"].dump(), R"({"b":1,"a":2})");
  EXPECT_EQ(chat_with(tools + R"(,"tool_choice":"auto")")->prompt.tools.size(), 1U);
  EXPECT_TRUE(chat_with(tools + R"(,"tool_choice":"none")")->prompt.tools.is_null());
  EXPECT_TRUE(chat_with(R"("tools":[],"functions":[])")->prompt.tools.is_null());
}

TEST(ChatRequestTest, ReadsToolChoices) {
  const auto choice = [](const std::string& json) {
    const auto function = [](const char* name) {
      return fmt::format(R"({{"type":"function","function":{{"name":"{}"}}}})", name);
    };
    return chat_with(fmt::format(R"("tools":[{},{}],"tool_choice":{})", function("f"),
                                 function("g"), json))
        ->tool_choice;
  };
  EXPECT_FALSE(choice(R"("auto")").must_call);
  EXPECT_TRUE(choice(R"("none")").tools.empty());
  EXPECT_TRUE(choice(R"("required")").must_call);
  EXPECT_EQ(choice(R"("required")").tools.size(), 2u);
  EXPECT_FALSE(choice(R"("required")").is_single);
  const ToolChoice named = choice(R"({"type":"function","function":{"name":"g"}})");
  EXPECT_TRUE(named.must_call && named.is_single);
  ASSERT_EQ(named.tools.size(), 1u);
  EXPECT_EQ(named.tools[0]["function"]["name"], "g");
  const ToolChoice allowed = choice(
      R"({"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[
          {"type":"function","function":{"name":"f"}}]}})");
  EXPECT_TRUE(allowed.must_call);
  EXPECT_EQ(allowed.tools[0]["function"]["name"], "f");
}

TEST(GenerationFieldsTest, TiersAndSpeedsAreThoseOfTheApis) {
  for (const char* tier : {"auto", "default", "flex", "scale", "priority", "fast"}) {
    EXPECT_TRUE(chat_with(fmt::format(R"("service_tier":"{}")", tier))) << tier;
  }
  const auto tier = chat_with(R"("service_tier":"ultrafast")");
  ASSERT_FALSE(tier);
  expect_error(tier.error(), {"", "service_tier",
                              "'service_tier' is 'ultrafast'; it must be one of auto, default, "
                              "flex, scale, priority, fast."});
  const auto speed = chat_with(R"("speed":"warp")");
  ASSERT_FALSE(speed);
  expect_error(speed.error(),
               {"", "speed", "'speed' is 'warp'; it must be one of standard, fast."});
}

TEST(ChatRequestTest, NamesOfToolsAreThoseThatCallsCanCarry) {
  const auto named = [](std::string_view name) {
    return chat_with(
        fmt::format(R"("tools":[{{"type":"function","function":{{"name":"{}"}}}}])", name));
  };
  for (const std::string& name :
       {std::string("get_weather-2"), std::string("mcp.srv:a/b"), std::string(128, 'a')}) {
    EXPECT_TRUE(named(name)) << name;
  }
  for (const std::string& name : {std::string("a>b"), std::string("a b"), std::string("\u00fc"),
                                  std::string("<tool_call>"), std::string(129, 'a')}) {
    const auto request = named(name);
    ASSERT_FALSE(request) << name;
    EXPECT_EQ(request.error().param, "tools[0].function.name");
    EXPECT_NE(request.error().message.find(fmt::format("is '{}'; a tool's name has", name)),
              std::string::npos)
        << request.error().message;
  }
}

TEST(ChatRequestTest, EffortSaysWhetherToThink) {
  EXPECT_EQ(chat_with(R"("reasoning_effort":"none")")->prompt.enable_thinking, false);
  EXPECT_EQ(chat_with(R"("reasoning_effort":"high")")->prompt.enable_thinking, true);
  EXPECT_EQ(chat_with(R"("reasoning_effort":null)")->prompt.enable_thinking, std::nullopt);
  EXPECT_EQ(chat_with(R"("reasoning_effort":"none","thinking":{"type":"enabled"})")
                ->prompt.enable_thinking,
            true);
  const auto odd = chat_with(R"("reasoning_effort":"bogus")");
  ASSERT_FALSE(odd);
  expect_error(odd.error(), {"", "reasoning_effort",
                             "'reasoning_effort' is 'bogus'; it must be one of none, minimal, "
                             "low, medium, high, xhigh, max."});
}

TEST(ChatRequestTest, ReadsTemplateVariables) {
  EXPECT_EQ(chat_with(R"("x":1)")->prompt.enable_thinking, std::nullopt);
  EXPECT_EQ(chat_with(R"("thinking":{"type":"disabled"})")->prompt.enable_thinking, false);
  EXPECT_EQ(chat_with(R"("thinking":{"type":"enabled"})")->prompt.enable_thinking, true);
  const auto request = chat_with(R"("thinking":{"type":"enabled"},
                                    "chat_template_kwargs":{"enable_thinking":false,"k":[1]})");
  EXPECT_EQ(request->prompt.enable_thinking, false);
  EXPECT_EQ(request->prompt.extra.dump(), R"({"k":[1]})");
  EXPECT_EQ(chat_with(R"("thinking":{"type":"disabled"},"chat_template_kwargs":{})")
                ->prompt.enable_thinking,
            false);
}

TEST(ChatRequestTest, ReadsLogprobs) {
  const auto request = chat_with(R"("logprobs":true,"top_logprobs":5)");
  EXPECT_TRUE(request->generation.has_logprobs);
  EXPECT_EQ(request->generation.params.sampling.num_logprobs, 5U);
  EXPECT_FALSE(chat_with(R"("logprobs":false)")->generation.has_logprobs);
}

TEST(ChatRequestTest, ErrorsNameTheField) {
  const std::vector<BadField> cases = {
      {R"("logprobs":1)", "logprobs", "'logprobs' must be true or false, not an integer."},
      {R"("top_logprobs":2)", "top_logprobs", "'top_logprobs' needs 'logprobs' to be true."},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs",
       "'top_logprobs' is 21; it must be between 0 and 20."},
      {R"("tools":{})", "tools", "'tools' must be an array, not an object."},
      {R"("tools":[1])", "tools[0]", "'tools[0]' must be an object, not an integer."},
      {R"("tools":[{"type":"web_search"}])", "tools[0]",
       "'tools[0]' is of type 'web_search'; only 'function' is supported.", "unsupported_value"},
      {R"("tools":[{"type":"function"}])", "tools[0].function.name",
       "'tools[0].function.name' is missing."},
      {R"("tools":[{"type":"function","function":{"name":1}}])", "tools[0].function.name",
       "'tools[0].function.name' must be a string, not an integer."},
      {R"("tool_choice":"required")", "tool_choice",
       "'tool_choice' asks for a call, and there are no tools."},
      {R"("tool_choice":{"type":"function"})", "tool_choice.function.name",
       "'tool_choice.function.name' is missing."},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice",
       "'tool_choice' names 'f', which is none of the tools."},
      {R"("tool_choice":"any")", "tool_choice",
       "'tool_choice' must be 'auto', 'none', 'required' "
       "or an object that names a function."},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"all"}})",
       "tool_choice.allowed_tools.mode",
       "'tool_choice.allowed_tools.mode' is 'all'; it must be 'auto' or 'required'."},
      {R"("functions":[{"name":"f"}])", "functions", "'functions' is not supported; use 'tools'.",
       "unsupported_value"},
      {R"("thinking":{"type":"maybe"})", "thinking.type",
       "'thinking.type' is 'maybe'; it must be 'enabled' or 'disabled'."},
      {R"("thinking":true)", "thinking", "'thinking' must be an object, not a boolean."},
      {R"("chat_template_kwargs":{"enable_thinking":"no"})", "chat_template_kwargs.enable_thinking",
       "'chat_template_kwargs.enable_thinking' must be true or false, not a string."},
      {R"("chat_template_kwargs":[])", "chat_template_kwargs",
       "'chat_template_kwargs' must be an object, not an array."},
  };
  for (const BadField& bad : cases) {
    const auto request = chat_with(bad.field);
    ASSERT_FALSE(request) << bad.field;
    expect_error(request.error(), bad);
  }
}

TEST(ChatRequestTest, MessageErrorsNameThePlace) {
  const std::vector<BadField> cases = {
      {R"([])", "messages", "'messages' is missing or empty."},
      {R"(null)", "messages", "'messages' is missing or empty."},
      {R"("hi")", "messages", "'messages' must be an array, not a string."},
      {R"(["hi"])", "messages[0]", "'messages[0]' must be an object, not a string."},
      {R"([{"content":"x"}])", "messages[0].role",
       "'messages[0].role' is ''; it must be one of system, developer, user, assistant, tool."},
      {R"([{"role":"user","content":"x"},{"role":"bot","content":"x"}])", "messages[1].role",
       "'messages[1].role' is 'bot'; it must be one of system, developer, user, assistant, tool."},
      {R"([{"role":["user"]}])", "messages[0].role",
       "'messages[0].role' must be a string, not an array."},
  };
  for (const BadField& bad : cases) {
    const auto request = chat(fmt::format(R"("messages":{})", bad.field));
    ASSERT_FALSE(request) << bad.field;
    expect_error(request.error(), bad);
  }
}

}  // namespace
}  // namespace ultraspeed::server
