// Requests that mean harm, or that nobody checked: each gets its status, and a stream that runs
// beside them all comes through whole.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

std::string repeat(std::string_view element, size_t count) {
  std::string list(element);
  for (size_t i = 1; i < count; ++i) (list += ',') += element;
  return list;
}

class BrokenRequestTest : public ServerTest {
 protected:
  struct Case {
    std::string name;
    std::string fields;  // behind those of a good request, or all of one that begins with '!'
    unsigned status = 400;
  };

  static std::vector<Case> cases() {
    const std::string tool = R"({"type":"function","function":{"name":"f"}})";
    std::string biases;
    for (int i = 0; i < 100'000; ++i) biases += fmt::format(R"({}"{}":1)", i > 0 ? "," : "", i);
    return {
        {"choices", R"("n":1000000000)"},
        {"candidates", R"("best_of":1000000000)"},
        {"logprobs", R"("logprobs":1000000000)"},
        {"NaN", R"("temperature":NaN)"},
        {"infinite", R"("temperature":1e999)"},
        {"huge", R"("top_k":1e300)"},
        {"stops", R"("stop":[)" + repeat(R"("a")", 100'000) + "]"},
        {"biases", R"("logit_bias":{)" + biases + "}"},
        {"tools", R"("tools":[)" + repeat(tool, 100'000) + "]"},
        {"deep", R"("x":)" + std::string(10'000, '[') + std::string(10'000, ']')},
        {"deep objects", "!" +
                             [] {
                               std::string json;
                               for (int i = 0; i < 10'000; ++i) json += R"({"a":)";
                               return json;
                             }()},
        {"UTF-8", "\"user\":\"\xC3\x28\""},
        {"surrogate", R"("user":"\uD800")"},
        {"truncated", R"(!{"model":"tiny","prompt":"a)"},
        {"empty", "!"},
        {"array", "![]"},
        {"binary", std::string("!\0\1\2\xFF", 5)},
        {"repeats", R"("guided_regex":"((((a{999}){999}){999}){999}){999}")"},
        {"open regex", R"("guided_regex":"((((((((")"},
        {"recursive schema", R"("guided_json":{"$ref":"#"})"},
        {"exploding schema",
         R"("guided_json":)" +
             [] {
               std::string json = R"({"type":"string","minLength":999,"maxLength":60000})";
               for (int i = 0; i < 4; ++i) {
                 json = R"({"type":"array","minItems":999,"maxItems":60000,"items":)" + json + "}";
               }
               return json;
             }()},
        {"left recursion", R"("guided_grammar":"root ::= root \"a\"")"},
    };
  }
};

TEST_F(BrokenRequestTest, EachGetsItsStatusAndOthersAreUnharmed) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += fmt::format("{} ", i);
  says(text);
  engine.context = 5000;
  engine.step_delay_us = 1000;
  start();
  Client stream(server->port());
  stream.post("/v1/completions", completion_body(R"("stream":true)"));
  for (const Case& bad : cases()) {
    const bool is_whole = bad.fields.starts_with('!');
    for (const char* path : {"/v1/completions", "/v1/chat/completions", "/v1/messages"}) {
      const bool is_chat = std::string_view(path) != "/v1/completions";
      if (path == std::string_view("/v1/messages") &&
          (bad.name == "choices" || bad.name == "candidates" || bad.name == "logprobs" ||
           bad.name == "stops" || bad.name == "tools")) {
        continue;  // fields of the other API alone
      }
      if (!is_chat && bad.name == "tools") continue;  // which it does not know
      const std::string body = is_whole  ? bad.fields.substr(1)
                               : is_chat ? chat_body(R"("max_tokens":9,)" + bad.fields)
                                         : completion_body(bad.fields);
      const net::TestResponse response = post(path, body);
      EXPECT_EQ(response.status, bad.status)
          << bad.name << ' ' << path << ' ' << response.body.substr(0, 300);
      EXPECT_LT(response.body.size(), 1000u) << bad.name << ": an answer as large as the request";
    }
  }
  const net::TestResponse response = stream.read_response();
  std::string streamed;
  for (const std::string& event : events(response.body)) {
    if (event != "[DONE]") streamed += Json::parse(event)["choices"][0].value("text", "");
  }
  EXPECT_EQ(streamed, text);
  EXPECT_EQ(engine.starts().size(), 1u);
}

TEST_F(BrokenRequestTest, BodiesMustNotBeCompressed) {
  start();
  for (const char* path : {"/v1/completions", "/v1/responses"}) {
    expect_error(post(path, "\x1F\x8B", "Content-Encoding: gzip\r\n"), 415, "unsupported_encoding",
                 "encoded as 'gzip'");
  }
  EXPECT_EQ(post("/v1/completions", completion_body(), "Content-Encoding: identity\r\n").status,
            200u);
}

}  // namespace
}  // namespace ultraspeed::server
