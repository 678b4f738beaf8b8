// OpenAI's Responses API through the whole server: answers, whole and streamed, and the turns
// after.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kGetAndRun =
    R"("tools":[{"type":"function","name":"get","description":"weather","parameters":
       {"type":"object","properties":{"city":{"type":"string"}}}},
       {"type":"custom","name":"run","description":"Runs code."},{"type":"web_search"},
       {"type":"namespace","name":"mcp","tools":[{"type":"function","name":"look"}]}])";
constexpr std::string_view kCityCall =
    "<tool_call>\n<function=get>\n<parameter=city>Bonn</parameter></function>\n</tool_call>";
constexpr std::string_view kCodeCall =
    "<tool_call>\n<function=run>\n<parameter=input>a \"b\"\nc</parameter>\n</function>\n"
    "</tool_call>";
constexpr std::string_view kLookCall =
    "<tool_call>\n<function=mcp__look>\n</function>\n</tool_call>";

class ResponsesServerTest : public ServerTest {
 protected:
  // `fields` follow the model and a short input.
  static std::string responses_body(std::string_view fields = {}) {
    return fmt::format(R"({{"model":"tiny","input":"Hi"{}{}}})", fields.empty() ? "" : ",", fields);
  }
  net::TestResponse respond(std::string_view fields = {}) const {
    return post("/v1/responses", responses_body(fields));
  }
  net::TestResponse respond_to(const Json& input, std::string_view fields) const {
    return post("/v1/responses",
                fmt::format(R"({{"model":"tiny","input":{},{}}})", input.dump(), fields));
  }
  std::string prompt_of(size_t start) const {
    return test_tokenizer().decode(engine.starts().at(start).prompt);
  }
  // What the first turn left in the engine, its prompt and its answer, is how this one begins.
  std::string behind_first_turn(size_t start) const {
    std::vector<int32_t> known = engine.starts()[0].prompt;
    known.insert(known.end(), engine.reply.begin(), engine.reply.end());
    const std::string begin = test_tokenizer().decode(known);
    const std::string prompt = prompt_of(start);
    EXPECT_TRUE(prompt.starts_with(begin)) << prompt;
    return prompt.substr(std::min(begin.size(), prompt.size()));
  }

  // The items that a stream builds up, as OpenAI's clients put them together.
  static Json joined_items(const std::vector<Json>& all) {
    Json items = Json::array();
    std::string text;
    for (size_t i = 0; i < all.size(); ++i) {
      const Json& event = all[i];
      EXPECT_EQ(event["sequence_number"], i);
      const std::string type = event["type"];
      if (event.contains("output_index") && type != "response.output_item.added") {
        EXPECT_EQ(event["output_index"], items.size() - 1);
      }
      EXPECT_EQ(event.value("item_id", Json()),
                event.contains("item_id") ? items.back()["id"] : Json());
      if (type == "response.output_item.added") {
        EXPECT_EQ(event["output_index"], items.size());
        EXPECT_EQ(event["item"]["status"], "in_progress");
        items.push_back(event["item"]);
        text.clear();
      } else if (type == "response.content_part.added") {
        EXPECT_EQ(event["part"]["text"], "");
      } else if (type.ends_with(".delta")) {
        text += event["delta"].get<std::string>();
      } else if (type == "response.content_part.done") {
        EXPECT_EQ(event["part"]["text"], text);
      } else if (type == "response.function_call_arguments.done") {
        EXPECT_EQ(event["arguments"], text);
        EXPECT_EQ(event["name"], items.back()["name"]);
      } else if (type == "response.custom_tool_call_input.done") {
        EXPECT_EQ(event["input"], text);
      } else if (type.ends_with("_text.done")) {
        EXPECT_EQ(event["text"], text);
      } else if (type == "response.output_item.done") {
        items.back() = event["item"];
      }
    }
    return items;
  }
};

TEST_F(ResponsesServerTest, WholeAnswer) {
  says("<think>Hm.</think>Hello.");
  start();
  const Json json = parse(respond(R"("include":["reasoning.encrypted_content"])"));
  const auto id = json["id"].get<std::string>();
  EXPECT_TRUE(id.starts_with("resp_"));
  EXPECT_EQ(json["object"], "response");
  EXPECT_EQ(json["status"], "completed");
  EXPECT_GE(json["completed_at"], json["created_at"]);
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_TRUE(json["error"].is_null() && json["incomplete_details"].is_null());
  EXPECT_EQ(json["output"],
            Json::parse(fmt::format(
                R"([{{"id":"rs_{0}0","type":"reasoning","status":"completed","summary":[],
                      "content":[{{"type":"reasoning_text","text":"Hm."}}],
                      "encrypted_content":"ultraspeed:Hm."}},
                    {{"id":"msg_{0}1","type":"message","status":"completed","role":"assistant",
                      "content":[{{"type":"output_text","annotations":[],"logprobs":[],
                                   "text":"Hello."}}]}}])",
                id.substr(5))));
  EXPECT_EQ(json["output_text"], "Hello.");
  EXPECT_EQ(json["temperature"], Json::parse("0.6"));
  const Json& usage = json["usage"];
  EXPECT_EQ(usage["input_tokens"], engine.starts()[0].prompt.size());
  EXPECT_EQ(usage["output_tokens"], engine.reply.size());
  EXPECT_EQ(usage["output_tokens_details"]["reasoning_tokens"],
            test_ids("<think>Hm.</think>").size());
  EXPECT_EQ(usage["total_tokens"], engine.starts()[0].prompt.size() + engine.reply.size());
  EXPECT_TRUE(json.contains("timings"));
}

TEST_F(ResponsesServerTest, StreamsBuildUpTheWholeAnswer) {
  says(fmt::format("<think>Hm.</think>Let me look.\n{}{}{}Done", kCityCall, kCodeCall, kLookCall));
  for (const size_t tokens_per_step : {1U, 3U, 1000U}) {
    engine.tokens_per_step = tokens_per_step;
    start();
    const net::TestResponse response = respond(fmt::format(R"("stream":true,{})", kGetAndRun));
    EXPECT_EQ(response.headers.at("content-type"), "text/event-stream");
    const std::vector<Json> all = named_events(response.body);
    EXPECT_EQ(all[0]["type"], "response.created");
    EXPECT_EQ(all[1]["type"], "response.in_progress");
    EXPECT_EQ(all[1]["response"]["status"], "in_progress");
    EXPECT_FALSE(all[1]["response"].contains("usage"));
    EXPECT_EQ(all.back()["type"], "response.completed");
    Json streamed = all.back()["response"];
    EXPECT_EQ(streamed["output"], joined_items(all));
    Json whole = parse(respond(kGetAndRun));
    ASSERT_EQ(streamed["output"].size(), 6U);
    for (Json* json : {&streamed, &whole}) {
      for (const char* name : {"id", "created_at", "completed_at", "timings"}) json->erase(name);
      for (Json& item : (*json)["output"]) {
        item.erase("id");
        item.erase("call_id");
      }
    }
    EXPECT_EQ(streamed, whole);
  }
}

TEST_F(ResponsesServerTest, CallsTools) {
  says(fmt::format("<think></think>{}{}{}", kCityCall, kCodeCall, kLookCall));
  start();
  const Json output = parse(respond(kGetAndRun))["output"];
  ASSERT_EQ(output.size(), 3U);
  EXPECT_EQ(output[0]["type"], "function_call");
  EXPECT_EQ(output[0]["name"], "get");
  EXPECT_EQ(output[0]["arguments"], R"({"city":"Bonn"})");
  EXPECT_TRUE(output[0]["call_id"].get<std::string>().starts_with("call_"));
  EXPECT_TRUE(output[0]["id"].get<std::string>().starts_with("fc_"));
  EXPECT_EQ(output[1]["type"], "custom_tool_call");
  EXPECT_EQ(output[1]["name"], "run");
  EXPECT_EQ(output[1]["input"], "a \"b\"\nc");
  EXPECT_EQ(output[2]["name"], "look");
  EXPECT_EQ(output[2]["namespace"], "mcp");
}

// Codex sends the whole conversation again, with store false.
TEST_F(ResponsesServerTest, CallsAreReplayedInTheNextTurn) {
  says(fmt::format("<think>Hm.</think>Look:{}{}", kCityCall, kCodeCall));
  start();
  const std::string fields = fmt::format(R"("store":false,{})", kGetAndRun);
  Json input = Json::array({{{"role", "user"}, {"content", "Hi"}}});
  const Json first = parse(respond(fields));
  for (const Json& item : first["output"]) input.push_back(item);
  input.push_back(
      {{"type", "function_call_output"}, {"call_id", input[3]["call_id"]}, {"output", "sunny"}});
  input.push_back(
      {{"type", "custom_tool_call_output"}, {"call_id", input[4]["call_id"]}, {"output", "done"}});
  const net::TestResponse next = respond_to(input, fields);
  ASSERT_EQ(next.status, 200U) << next.body;
  EXPECT_EQ(behind_first_turn(1),
            "<|im_start|>tool\n<tool_response>\nsunny\n</tool_response>\n"
            "<tool_response>\ndone\n</tool_response>\n<|im_end|><|im_start|>assistant\n");
}

TEST_F(ResponsesServerTest, ContinuesAndForks) {
  says(fmt::format("<think>Hm.</think>Look:{}", kCityCall));
  start();
  const Json first = parse(respond(kGetAndRun));
  const auto next = [&](std::string_view result) {
    const Json output = {{"type", "function_call_output"},
                         {"call_id", first["output"][2]["call_id"]},
                         {"output", result}};
    return parse(respond_to(Json::array({output}), fmt::format(R"("previous_response_id":{},{})",
                                                               first["id"].dump(), kGetAndRun)));
  };
  const Json sunny = next("sunny");
  EXPECT_EQ(sunny["previous_response_id"], first["id"]);
  constexpr std::string_view kTurn =
      "<|im_start|>tool\n<tool_response>\n{}\n</tool_response>\n<|im_end|><|im_start|>assistant\n";
  EXPECT_EQ(behind_first_turn(1), fmt::format(kTurn, "sunny"));
  next("rainy");
  EXPECT_EQ(behind_first_turn(2), fmt::format(kTurn, "rainy"));
  respond_to("So?", fmt::format(R"("previous_response_id":{})", sunny["id"].dump()));
  const std::string prompt = prompt_of(3);
  EXPECT_TRUE(prompt.find("sunny") < prompt.find("So?")) << prompt;
  EXPECT_EQ(prompt.find("rainy"), std::string::npos) << prompt;
}

TEST_F(ResponsesServerTest, StreamsAreStoredToo) {
  says("<think></think>Hello.");
  start();
  const auto all = named_events(respond(R"("stream":true)").body);
  const Json response = all.back()["response"];
  const net::TestResponse next =
      respond(fmt::format(R"("previous_response_id":{})", response["id"].dump()));
  EXPECT_EQ(next.status, 200U) << next.body;
  EXPECT_EQ(parse(get(fmt::format("/v1/responses/{}", response["id"].get<std::string>()))),
            response);
}

TEST_F(ResponsesServerTest, CutOffTextIsIncomplete) {
  says("<think></think>one two three four five six seven");
  start();
  const std::string fields = R"("max_output_tokens":5)";
  const Json json = parse(respond(fields));
  EXPECT_EQ(json["status"], "incomplete");
  EXPECT_EQ(json["incomplete_details"], Json({{"reason", "max_output_tokens"}}));
  EXPECT_TRUE(json["completed_at"].is_null());
  EXPECT_EQ(json["output"][0]["status"], "incomplete");
  const auto all = named_events(respond(R"("stream":true,)" + fields).body);
  EXPECT_EQ(all.back()["type"], "response.incomplete");
  EXPECT_EQ(all.back()["response"]["output"], joined_items(all));
  EXPECT_EQ(all.back()["response"]["output_text"], json["output_text"]);
}

TEST_F(ResponsesServerTest, LateAnswersAreIncomplete) {
  engine.is_endless = true;
  engine.step_delay_us = 1000;
  start();
  const Json whole = parse(respond(R"("deadline_ms":50,"service_tier":"flex")"));
  EXPECT_EQ(whole["incomplete_details"], Json({{"reason", "max_output_tokens"}}));
  EXPECT_EQ(whole["service_tier"], "flex");
  const auto all = named_events(respond(R"("deadline_ms":50,"stream":true)").body);
  EXPECT_EQ(all.back()["type"], "response.incomplete");
  EXPECT_EQ(all.back()["response"]["service_tier"], "default");
  EXPECT_EQ(all.back()["response"]["output"], joined_items(all));
}

// Clients parse a function's arguments before they call it, and run a custom tool's input as it is.
TEST_F(ResponsesServerTest, CutOffCalls) {
  says(fmt::format("<think></think>{}", kCityCall));
  start();
  const size_t size =
      test_ids("<think></think><tool_call>\n<function=get>\n<parameter=city>").size();
  const std::string fields = fmt::format(R"("max_output_tokens":{},{})", size + 1, kGetAndRun);
  const Json call = parse(respond(fields))["output"][0];
  EXPECT_EQ(call["type"], "function_call");
  EXPECT_EQ(call["status"], "incomplete");
  EXPECT_FALSE(Json::accept(call["arguments"].get<std::string>())) << call;
  const Json stopped = parse(respond(fmt::format(R"("stop":"onn",{})", kGetAndRun)));
  EXPECT_EQ(stopped["status"], "incomplete");
  EXPECT_EQ(stopped["output"][0]["status"], "incomplete");
  says(fmt::format("<think></think>{}", kCodeCall));
  for (const char* stream : {"false", "true"}) {
    start();
    const net::TestResponse response = respond(fmt::format(R"("stream":{},{})", stream, fields));
    Json json = stream == std::string_view("true") ? named_events(response.body).back()["response"]
                                                   : parse(response);
    ASSERT_EQ(json["output"].size(), 1U);
    EXPECT_EQ(json["output"][0]["type"], "message");
    EXPECT_TRUE(json["output_text"].get<std::string>().starts_with("<tool_call>")) << json;
  }
}

TEST_F(ResponsesServerTest, LogprobsAreOfTheText) {
  says("<think>Hm.</think>Hello, world.");
  for (const size_t tokens_per_step : {1U, 1000U}) {
    engine.tokens_per_step = tokens_per_step;
    start();
    const std::string fields = R"("include":["message.output_text.logprobs"],"top_logprobs":1)";
    const Json part = parse(respond(fields))["output"][1]["content"][0];
    const auto text_of = [](const Json& logprobs) {
      std::string text;
      for (const Json& token : logprobs) {
        text += token["token"].get<std::string>();
        EXPECT_EQ(token["top_logprobs"].size(), 1U);
      }
      return text;
    };
    EXPECT_EQ(text_of(part["logprobs"]), "Hello, world.");
    std::string streamed;
    for (const Json& event : named_events(respond(R"("stream":true,)" + fields).body)) {
      if (event["type"] != "response.output_text.delta") continue;
      streamed += text_of(event["logprobs"]);
    }
    EXPECT_EQ(streamed, "Hello, world.");
  }
}

TEST_F(ResponsesServerTest, OneCallAtATime) {
  says(fmt::format("<think></think>{}{}", kCityCall, kCityCall));
  engine.is_endless = true;
  engine.step_delay_us = 100;
  start();
  const Json json = parse(respond(fmt::format(R"("parallel_tool_calls":false,{})", kGetAndRun)));
  EXPECT_EQ(json["output"].size(), 1U);
  EXPECT_EQ(json["status"], "completed");
  EXPECT_TRUE(engine.wait_for_cancels(1));
}

TEST_F(ResponsesServerTest, CountsInputTokens) {
  start();
  respond(kGetAndRun);
  EXPECT_EQ(post("/v1/responses/input_tokens", responses_body(kGetAndRun)).body,
            fmt::format(R"({{"object":"response.input_tokens","input_tokens":{}}})",
                        engine.starts()[0].prompt.size()));
  expect_error(post("/v1/responses/input_tokens", "{}"), 400, "invalid_value",
               "'input' is missing");
}

TEST_F(ResponsesServerTest, ErrorsInAStreamAreEvents) {
  engine.is_endless = true;
  engine.step_delay_us = 1000;
  start();
  Client client(server->port());
  client.post("/v1/responses", responses_body(R"("stream":true)"));
  client.read_head();
  std::string body = client.read_chunk().value_or("");
  engine.fails_steps = true;
  while (const auto chunk = client.read_chunk()) body += *chunk;
  const std::vector<Json> all = named_events(body);
  const Json& error = all[all.size() - 2];
  EXPECT_EQ(error["type"], "error");
  EXPECT_TRUE(error["message"].is_string() && error["param"].is_null()) << error;
  EXPECT_EQ(all.back()["type"], "response.failed");
  const Json& response = all.back()["response"];
  EXPECT_EQ(response["status"], "failed");
  EXPECT_EQ(response["error"]["code"], "server_error");
  EXPECT_EQ(response["error"]["message"], error["message"]);
  EXPECT_EQ(get(fmt::format("/v1/responses/{}", response["id"].get<std::string>())).status, 404U);
}

TEST_F(ResponsesServerTest, Errors) {
  start();
  expect_error(post("/v1/responses", R"({"model":"tiny"})"), 400, "invalid_value",
               "'input' is missing");
  expect_error(post("/v1/responses", R"({"model":"other","input":"i"})"), 404, "model_not_found",
               "'other'");
  expect_error(respond(R"("previous_response_id":"resp_x")"), 400, "previous_response_not_found",
               "'resp_x'");
  const net::TestResponse too_long = respond_to(std::string(20000, 'x'), R"("store":false)");
  expect_error(too_long, 400, "context_length_exceeded", "tokens");
  EXPECT_EQ(parse(too_long)["error"]["param"], "input");
  const net::TestResponse schema =
      respond(R"("text":{"format":{"type":"json_schema","schema":{"type":"nonsense"}}})");
  EXPECT_EQ(schema.status, 400U);
  EXPECT_EQ(parse(schema)["error"]["param"], "text.format.schema");
  expect_error(get("/v1/responses"), 405, "method_not_allowed", "it takes POST");
}

}  // namespace
}  // namespace ultraspeed::server
