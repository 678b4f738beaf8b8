// Several choices of one prompt, the best of several candidates, deadlines and priorities, over
// HTTP with a scripted engine.
#include <gtest/gtest.h>

#include <list>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "server/candidate_choice.h"
#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

class ChoicesTest : public ServerTest {
 protected:
  // What the session of each seed writes.
  void says_by_seed(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      engine.replies_by_seed.push_back(test_ids(text));
      engine.replies_by_seed.back().push_back(kTestStopId);
    }
  }
};

TEST_F(ChoicesTest, ChoicesShareOnePrompt) {
  says_by_seed({"zero", "one", "<think>Hm.</think>two"});
  start();
  const Json json = parse(chat(R"("n":3,"seed":0)"));
  ASSERT_EQ(json["choices"].size(), 3u) << json;
  const std::vector<std::string> texts = {"zero", "one", "two"};
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(json["choices"][i]["index"], i);
    EXPECT_EQ(json["choices"][i]["message"]["content"], texts[i]);
    EXPECT_EQ(json["choices"][i]["finish_reason"], "stop");
  }
  EXPECT_EQ(engine.starts().size(), 1u);
  EXPECT_EQ(engine.num_forks(), 2u);
  size_t num_tokens = 0;
  for (const auto& reply : engine.replies_by_seed) num_tokens += reply.size();
  EXPECT_EQ(json["usage"]["prompt_tokens"], engine.starts()[0].prompt.size());
  EXPECT_EQ(json["usage"]["completion_tokens"], num_tokens);
}

TEST_F(ChoicesTest, PromptsOfACompletionHaveChoicesEach) {
  says_by_seed({"x", "y", "z"});
  start();
  const std::string fields = fmt::format(
      R"("n":2,"best_of":3,"seed":3,"echo":true,"prompt":["a",[{0},{0}]])", test_ids("b").front());
  const Json json = parse(complete(fields));
  ASSERT_EQ(json["choices"].size(), 4u) << json;
  const std::vector<std::string> texts = {"ax", "ay", "bbx", "bby"};
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(json["choices"][i]["index"], i);
    EXPECT_EQ(json["choices"][i]["text"], texts[i]);
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(engine.starts().size(), 2u);
}

// As lm-evaluation-harness asks.
TEST_F(ChoicesTest, TextsAreScored) {
  start();
  const std::string prompts = R"("prompt":["a b c","d"],"echo":true,"logprobs":1,"temperature":0)";
  for (const int max_tokens : {0, 1}) {
    const Json json = parse(complete(fmt::format(R"("max_tokens":{},{})", max_tokens, prompts)));
    const std::vector<int32_t> ids = test_ids("a b c");
    const Json& choice = json["choices"][0];
    const Json& logprobs = choice["logprobs"];
    ASSERT_EQ(logprobs["tokens"].size(), ids.size() + static_cast<size_t>(max_tokens)) << json;
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
    EXPECT_EQ(logprobs["token_logprobs"][1], -1.0);
    EXPECT_EQ(logprobs["top_logprobs"][1].begin().key(), logprobs["tokens"][1]);
    EXPECT_EQ(logprobs["text_offset"][0], 0);
    EXPECT_EQ(logprobs["text_offset"][1], 1);
    EXPECT_TRUE(choice["text"].get<std::string>().starts_with("a b c"));
    EXPECT_EQ(choice["text"] == "a b c", max_tokens == 0);
    EXPECT_EQ(choice["finish_reason"], "length");
    EXPECT_EQ(json["usage"]["completion_tokens"], 2 * max_tokens);
    EXPECT_EQ(json["choices"].size(), 2u);
  }
  expect_error(complete(R"("max_tokens":0)"), 400, "invalid_value", "'max_tokens' is 0");
}

// As vLLM tells them: the prompt's tokens without its text, with alternatives by id.
TEST_F(ChoicesTest, PromptsHaveLogprobsInVllmsForm) {
  start();
  const std::string fields = R"("prompt_logprobs":1,"temperature":0,"max_tokens":1)";
  const auto expect_told = [](const Json& told, std::span<const int32_t> ids) {
    ASSERT_EQ(told.size(), ids.size()) << told;
    EXPECT_TRUE(told[0].is_null());
    for (size_t i = 1; i < ids.size(); ++i) {
      ASSERT_EQ(told[i].size(), 1u) << told[i];
      const Json& entry = told[i].at(std::to_string(ids[i]));
      EXPECT_EQ(entry["logprob"], -static_cast<double>(i));
      EXPECT_EQ(entry["rank"], 1);
      EXPECT_EQ(entry["decoded_token"], test_tokenizer().token_bytes(ids[i]));
    }
  };
  Json json = parse(complete(R"("prompt":"a b c",)" + fields));
  expect_told(json["choices"][0]["prompt_logprobs"], test_ids("a b c"));
  EXPECT_EQ(json["choices"][0]["logprobs"], nullptr);
  EXPECT_FALSE(json["choices"][0]["text"].get<std::string>().starts_with("a b c"));
  json = parse(chat(fields));
  expect_told(json["prompt_logprobs"], engine.starts().back().prompt);
  expect_error(complete(fields + R"(,"prompt":"a","stream":true)"), 400, "unsupported_value",
               "'stream' is not supported with 'prompt_logprobs'");
}

// Also where the first candidate has ended before the others begin.
TEST_F(ChoicesTest, EachChoiceShowsItsPromptOnce) {
  says_by_seed({"x", "y"});
  engine.max_sessions = 1;
  start();
  const Json json = parse(
      complete(R"("prompt":["a b","d"],"n":2,"seed":0,"echo":true,"logprobs":0,"max_tokens":1)"));
  ASSERT_EQ(json["choices"].size(), 4u) << json;
  const std::vector<std::string> texts = {"a bx", "a by", "dx", "dy"};
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string tokens;
    for (const Json& token : json["choices"][i]["logprobs"]["tokens"]) tokens += token;
    EXPECT_EQ(tokens, texts[i]) << json;
    EXPECT_EQ(json["choices"][i]["text"], texts[i]);
  }
  expect_error(complete(fmt::format(R"("n":64,"prompt":[{}"a"])",
                                    [] {
                                      std::string list;
                                      for (int i = 0; i < 8; ++i) list += R"("a",)";
                                      return list;
                                    }())),
               400, "invalid_value", "at most 512 candidates");
}

TEST_F(ChoicesTest, MoreChoicesThanSessionsTakeTurns) {
  says_by_seed({"a", "b", "c", "d", "e"});
  engine.max_sessions = 2;
  start();
  const Json json = parse(complete(R"("n":5,"seed":5,"echo":true)"));
  ASSERT_EQ(json["choices"].size(), 5u) << json;
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(json["choices"][i]["text"], std::string("Once") + static_cast<char>('a' + i));
  }
}

TEST_F(ChoicesTest, StreamsOfChoicesAreIndexed) {
  says_by_seed({"zero zero", "one"});
  start();
  for (const bool is_chat : {true, false}) {
    const std::string fields =
        R"("n":2,"seed":0,"stream":true,"stream_options":{"include_usage":true})";
    const auto data = events((is_chat ? chat(fields) : complete(fields)).body);
    std::vector<std::string> texts(2);
    std::vector<std::string> reasons(2);
    for (const std::string& event : data) {
      if (event == "[DONE]") continue;
      const Json json = Json::parse(event);
      for (const Json& choice : json["choices"]) {
        const auto index = choice["index"].get<size_t>();
        texts[index] += is_chat ? choice["delta"].value("content", "") : choice.value("text", "");
        if (choice["finish_reason"].is_string()) reasons[index] += choice["finish_reason"];
      }
    }
    EXPECT_EQ(texts, (std::vector<std::string>{"zero zero", "one"}));
    EXPECT_EQ(reasons, (std::vector<std::string>{"stop", "stop"}));
    EXPECT_EQ(data.back(), "[DONE]");
    EXPECT_GT(Json::parse(data[data.size() - 2])["usage"]["completion_tokens"], 4);
  }
}

TEST_F(ChoicesTest, TheMostLikelyCandidatesAreChosen) {
  says_by_seed({"zero", "one", "two", "three"});
  start();
  const Json json = parse(chat(R"("best_of":3,"n":2,"seed":1)"));
  ASSERT_EQ(json["choices"].size(), 2u) << json;
  EXPECT_EQ(json["choices"][0]["message"]["content"], "one");
  EXPECT_EQ(json["choices"][1]["message"]["content"], "two");
}

TEST_F(ChoicesTest, TheMajorityEndsTheRest) {
  const std::string endless(400, 'x');
  says_by_seed({"<think>a</think> 42", "41", "<think>bb</think>42\n", "42", endless});
  engine.step_delay_us = 500;
  start();
  const Json json = parse(chat(R"("best_of":5,"best_of_mode":"majority","seed":0)"));
  ASSERT_EQ(json["choices"].size(), 1u) << json;
  EXPECT_EQ(json["choices"][0]["message"]["content"], " 42");
  EXPECT_TRUE(engine.wait_for_cancels(1));
}

// Grammars are the engine's affair: the scripted one says what the judge says.
TEST_F(ChoicesTest, TheJudgeNamesOne) {
  says_by_seed({"zero", "<think>Hm.</think>one", "two"});
  engine.judge_reply = test_ids("2");
  engine.judge_reply.push_back(kTestStopId);
  start();
  const std::string fields = R"("best_of":3,"best_of_mode":"judge","seed":0)";
  Json json = parse(chat(fields + R"(,"judge_prompt":"Which is odd?")"));
  ASSERT_EQ(json["choices"].size(), 1u) << json;
  EXPECT_EQ(json["choices"][0]["message"]["content"], "one");
  const auto starts = engine.starts();
  ASSERT_EQ(starts.size(), 2u);
  const std::string prompt = test_tokenizer().decode(starts[1].prompt);
  EXPECT_NE(prompt.find("Which is odd?\n\nAnswer 1:\nzero\n\nAnswer 2:\none\n\nAnswer 3:\ntwo"),
            std::string::npos)
      << prompt;
  EXPECT_EQ(starts[1].params.sampling.temperature, 0);
  EXPECT_NE(starts[1].params.sampling.constraint, nullptr);
  EXPECT_EQ(json["usage"]["prompt_tokens"], starts[0].prompt.size() + starts[1].prompt.size());

  engine.judge_reply = test_ids("none");  // without a verdict, the likeliest
  json = parse(chat(fields));
  EXPECT_EQ(json["choices"][0]["message"]["content"], "zero") << json;
  expect_error(complete(fields), 400, "unsupported_value", "for chats alone");
  expect_error(chat(fields + R"(,"n":2)"), 400, "invalid_value", "'n' must be 1");
}

TEST(ChooseCandidates, RanksThem) {
  const ChoiceOptions likely{1, 3, Selection::kLogprob};
  EXPECT_EQ(choose_candidates(likely, {{false, -2, "a"}, {false, -1, "b"}, {true, 0, "c"}}),
            std::vector<size_t>{1});
  const ChoiceOptions common{1, 3, Selection::kMajority};
  EXPECT_EQ(choose_candidates(common, {{false, -1, "a"}, {false, -3, "b"}, {false, -2, "b"}}),
            std::vector<size_t>{2});
  EXPECT_EQ(choose_candidates({2, 2, Selection::kMajority}, {{true, -9, "b"}, {false, 0, "b"}}),
            (std::vector<size_t>{0, 1}));
  const auto decided = [&common](const std::vector<std::string>& ended, size_t num_candidates) {
    return is_decided(common, num_candidates, [&ended](size_t i) {
      return i < ended.size() ? std::optional(ended[i]) : std::nullopt;
    });
  };
  EXPECT_TRUE(decided({"a", "a"}, 3));
  EXPECT_FALSE(decided({"a", "a"}, 4));
  EXPECT_FALSE(decided({"a", "a", "b"}, 4));
  EXPECT_TRUE(decided({"a", "a", "b"}, 3));
}

TEST_F(ChoicesTest, BadCountsAreRefused) {
  start();
  for (const char* fields :
       {R"("n":0)", R"("n":1000000000)", R"("best_of":1000000000)", R"("n":65)", R"("n":1.5)",
        R"("n":2,"best_of":1)", R"("best_of":2,"stream":true)", R"("best_of_mode":"luck")"}) {
    expect_error(chat(fields), 400, "invalid_value", "'");
    expect_error(complete(fields), 400, "invalid_value", "'");
  }
}

TEST_F(ChoicesTest, LateRequestsGetWhatThereIs) {
  engine.is_endless = true;
  engine.step_delay_us = 2000;
  start();
  for (const char* limit : {R"("deadline_ms":120)", R"("budget_ms":120)"}) {
    const auto begin = std::chrono::steady_clock::now();
    const Json json = parse(chat(limit));
    const auto took = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(took, std::chrono::milliseconds(120));
    EXPECT_LT(took, std::chrono::seconds(3));
    // A step takes 2 ms at least: one more may have been under way.
    EXPECT_LE(json["usage"]["completion_tokens"], 120 / 2 + 1);
    EXPECT_EQ(json["choices"][0]["finish_reason"], "deadline") << json;
    EXPECT_FALSE(json["choices"][0]["message"]["content"].get<std::string>().empty());
    const auto data = events(chat(std::string(R"("stream":true,"n":2,)") + limit).body);
    EXPECT_EQ(Json::parse(data[data.size() - 2])["choices"][0]["finish_reason"], "deadline");
  }
  EXPECT_TRUE(engine.wait_for_cancels(6));
  EXPECT_EQ(engine.num_active(), 0u);
}

// However many prompts there are, and however few of them run at once.
TEST_F(ChoicesTest, ABudgetIsOfAllPrompts) {
  engine.is_endless = true;
  engine.step_delay_us = 2000;
  engine.max_sessions = 1;
  start();
  const auto begin = std::chrono::steady_clock::now();
  const Json json = parse(
      post("/v1/completions", R"({"model":"tiny","prompt":["a","b","c","d"],"budget_ms":400})"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1200));
  ASSERT_EQ(json["choices"].size(), 4U);
  for (const Json& choice : json["choices"]) EXPECT_EQ(choice["finish_reason"], "deadline");
  EXPECT_EQ(engine.starts().size(), 1U);
}

// One that waits has nothing yet.
TEST_F(ChoicesTest, DeadlinesHoldInTheQueue) {
  engine.is_paused = true;
  engine.max_sessions = 1;
  start();
  Client first(server->port());
  first.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(engine.wait_for_starts(1));
  const Json late = parse(chat(R"("deadline_ms":50)"));
  EXPECT_EQ(late["choices"][0]["finish_reason"], "deadline") << late;
  EXPECT_EQ(late["usage"]["completion_tokens"], 0);
}

TEST_F(ChoicesTest, TheQueueIsOrdered) {
  engine.is_paused = true;
  engine.max_sessions = 1;
  start();
  std::list<Client> clients;
  const auto ask = [&](int tokens, const std::string& fields) {
    clients.emplace_back(server->port());
    clients.back().post("/v1/completions",
                        completion_body(fmt::format(R"("max_tokens":{}{})", tokens, fields)));
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // arrive in this order
  };
  ask(1, "");
  ASSERT_TRUE(engine.wait_for_starts(1));
  ask(2, R"(,"service_tier":"flex")");
  ask(3, R"(,"priority":1)");
  ask(4, "");
  ask(5, R"(,"deadline_ms":60000)");
  ask(6, R"(,"deadline_ms":50000)");
  ask(7, R"(,"priority":-1)");
  ask(8, R"(,"service_tier":"priority","priority":9)");
  engine.is_paused = false;
  ASSERT_TRUE(engine.wait_for_starts(8));
  std::vector<uint32_t> order;
  for (const auto& job : engine.starts()) order.push_back(job.params.max_tokens);
  EXPECT_EQ(order, (std::vector<uint32_t>{1, 8, 7, 6, 5, 4, 3, 2}));
  const Json fast = parse(complete(R"("service_tier":"priority")"));
  EXPECT_EQ(fast["service_tier"], "priority");
  EXPECT_EQ(parse(complete(R"("service_tier":"auto")"))["service_tier"], "default");
}

}  // namespace
}  // namespace ultraspeed::server
