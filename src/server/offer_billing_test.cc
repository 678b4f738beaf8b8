// Tiers and bills of whole, streamed and broken answers, and the chat.
#include <list>
#include <thread>

#include "net/test_web_socket.h"
#include "server/offer_fixture.h"

namespace ultraspeed::server {
namespace {

TEST_F(OfferServerTest, TheTierThatServesIsToldAndBilled) {
  start();
  const std::string key = add_key("approved");
  access::KeySpec plan;
  plan.kind = access::KeyKind::kTokenPlan;
  plan.limits.allowance_tokens = 1000;
  const std::string plan_key = add_key("approved", plan);
  struct Case {
    const char* name;
    const char* fields;
    const char* served;
    const char* tier;
  };
  constexpr Case kCases[] = {
      {"tiny", "", "tiny", "default"},
      {"tiny-ultraspeed", "", "tiny-ultraspeed", "priority"},
      {"tiny", R"("service_tier":"priority")", "tiny-ultraspeed", "priority"},
      {"tiny", R"("service_tier":"auto")", "tiny", "default"},
      {"tiny-ultraspeed", R"("service_tier":"auto")", "tiny-ultraspeed", "priority"},
      {"tiny-ultraspeed", R"("service_tier":"default")", "tiny", "default"},
      {"tiny", R"("speed":"fast")", "tiny-ultraspeed", "priority"},
  };
  size_t num_requests = 0;
  for (const Case& one : kCases) {
    const auto response = generate(key, one.fields, one.name);
    ASSERT_EQ(response.status, 200u) << response.body;
    const Json json = parse(response);
    EXPECT_EQ(json["model"], one.served);
    EXPECT_EQ(json["service_tier"], one.tier);
    const bool is_fast = one.tier == std::string("priority");
    EXPECT_EQ(engine.starts().back().params.speculates, is_fast);
    const auto row = wait_for_rows(++num_requests).back();
    EXPECT_EQ(row.model, one.served);
    EXPECT_EQ(row.tier, is_fast ? "fast" : "standard");
    EXPECT_EQ(row.tokens.output, json["usage"]["completion_tokens"]);
    EXPECT_EQ(row.tokens.input, json["usage"]["prompt_tokens"]);
    // 3 and 6 of a million, in units of 10^-12, times 1 or 3.
    EXPECT_EQ(row.price.units,
              (row.tokens.input * 3'000'000 + row.tokens.output * 6'000'000) * (is_fast ? 3 : 1));
    EXPECT_EQ(outcome(generate(plan_key, one.fields, one.name)),
              is_fast ? "403 plan_key_not_on_tier" : "200");
    if (!is_fast) ++num_requests;
  }
  const Json models = parse(ask("GET", "/v1/models", bearer(key)));
  EXPECT_EQ(models["data"][1]["id"], "tiny-ultraspeed");
}

TEST_F(OfferServerTest, WhatCannotBePaidMakesTheAnswerShorter) {
  engine.is_endless = true;
  start();
  access::KeySpec spec;
  spec.limits.budget = access::value_of(access::Money::parse("0.00012"));
  const std::string key = add_key("approved", spec);
  const Json first = parse(generate(key, R"("max_tokens":500,"ignore_eos":true)"));
  const auto rows = wait_for_rows(1);
  EXPECT_LE(rows[0].price, *spec.limits.budget);
  EXPECT_GT(rows[0].price.units + 6'000'000, spec.limits.budget->units);
  EXPECT_EQ(first["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(outcome(generate(key)), "402 budget_used_up");
  access::KeySpec small;
  small.limits.budget = access::value_of(access::Money::parse("0.00001"));
  EXPECT_EQ(outcome(generate(add_key("approved", small), R"("n":8)")), "402 budget_used_up");
}

TEST_F(OfferServerTest, AStreamIsBilledForWhatTheSocketTook) {
  engine.is_endless = true;
  engine.step_delay_us = 2000;
  engine.cached_tokens = 1;
  start();
  const std::string key = add_key("approved");
  for (const int num_events : {0, 1, 7, 40}) {
    Client client(server->port());
    client.post("/v1/completions",
                R"({"model":"tiny","prompt":"Once upon a time","stream":true,"logprobs":0,)"
                R"("ignore_eos":true,"max_tokens":900})",
                bearer(key));
    EXPECT_EQ(client.read_head().status, 200u);
    for (int i = 0; i < num_events; ++i) ASSERT_TRUE(client.read_chunk());
    client.close();
    ASSERT_TRUE(engine.wait_for_cancels(1));
  }
  const auto rows = wait_for_rows(4);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].finish, "disconnected");
    EXPECT_LT(rows[i].tokens.output, 900u);
    if (rows[i].tokens.output == 0) continue;
    EXPECT_EQ(rows[i].tokens.cached_input, 1u);
    EXPECT_EQ(rows[i].num_steps, rows[i].tokens.output);  // the fake engine gives one a step
  }
  EXPECT_GE(rows[3].tokens.output, 40u);
}

// As the begin of a stop string, here.
TEST_F(OfferServerTest, ATurnOnAWebSocketNamesItsRow) {
  start();
  net::TestWebSocket socket(server->port(), "/v1/responses", bearer(add_key("approved")));
  socket.send(R"({"type":"response.create","model":"tiny","input":"Hi","store":false})");
  const Json first = Json::parse(socket.read());
  const std::vector<access::LedgerRow> found = wait_for_rows(1);
  EXPECT_EQ(first["headers"]["X-Ledger-Id"], found.at(0).request_id) << first;
}

TEST_F(OfferServerTest, WhatIsHeldBackIsNotBilled) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += fmt::format("word {} ", i);
  says(text);
  engine.records_times = true;
  engine.step_delay_us = 10'000;
  start();
  const std::string key = add_key("approved");
  Client client(server->port());
  client.post(
      "/v1/completions",
      fmt::format(R"({{"model":"tiny","prompt":"Once","stream":true,"stop":"{}never"}})", text),
      bearer(key));
  EXPECT_EQ(client.read_head().status, 200u);
  for (int i = 0; i < 1000 && engine.token_times().size() < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_GE(engine.token_times().size(), 10u);
  engine.fails_steps = true;
  while (client.read_chunk()) {
  }
  const auto row = wait_for_rows(1)[0];
  EXPECT_EQ(row.finish, "failed");
  EXPECT_EQ(row.tokens.output, 0u);
  EXPECT_EQ(row.price.units, 0);
}

// The last counts of tokens that a client got are those of its bill.
TEST_F(OfferServerTest, WhatAClientReadIsWhatItPays) {
  start();
  const std::string key = add_key("approved");
  const auto streamed = generate(key, R"("stream":true,"stream_options":{"include_usage":true})");
  const auto data = events(streamed.body);
  const Json usage = Json::parse(data[data.size() - 2])["usage"];
  auto row = wait_for_rows(1)[0];
  EXPECT_EQ(row.finish, "complete");
  EXPECT_EQ(row.tokens.output, usage["completion_tokens"]);
  const Json whole = parse(generate(key, R"("n":2,"best_of":3,"max_tokens":4)"));
  row = wait_for_rows(2)[1];
  EXPECT_EQ(row.tokens.output, whole["usage"]["completion_tokens"]);
  // The prompt alone.
  parse(generate(key, R"("max_tokens":0,"echo":true,"logprobs":1)"));
  row = wait_for_rows(3)[2];
  EXPECT_EQ(row.tokens.output, 0u);
  EXPECT_GT(row.tokens.input, 0u);
  EXPECT_GT(row.price.units, 0);
  // What failed costs nothing.
  engine.fails_steps = true;
  EXPECT_EQ(generate(key).status, 500u);
  row = wait_for_rows(4)[3];
  EXPECT_EQ(row.finish, "failed");
  EXPECT_EQ(row.price.units, 0);
}

TEST_F(OfferServerTest, AChatsAnswerIsCutAtTheSessionsEnd) {
  start();
  const std::string session = log_in("approved");
  const auto answer = [&] {
    return ask("POST", "/api/chat/completions", session,
               R"({"model":"tiny","messages":[{"role":"user","content":"Hi"}]})");
  };
  EXPECT_EQ(parse(ask("POST", "/api/chat/join", session))["state"], "active");
  const access::UtcTime begin = clock.now();
  for (int i = 1; i <= 7; ++i) {
    clock.set(begin + std::chrono::minutes(4 * i));
    EXPECT_EQ(answer().status, 200u);
  }
  clock.set(begin + std::chrono::minutes(30) - std::chrono::milliseconds(300));
  engine.is_endless = true;
  engine.step_delay_us = 1000;
  const Json cut = parse(answer());
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "deadline") << cut;
  EXPECT_TRUE(engine.wait_for_cancels(1));
}

TEST_F(OfferServerTest, TheChatGoesBehindAllOthers) {
  engine.max_sessions = 1;
  engine.is_paused = true;
  start();
  const std::string key = add_key("approved");
  const std::string session = log_in("approved");
  EXPECT_EQ(parse(ask("POST", "/api/chat/join", session))["state"], "active");
  std::list<Client> clients;
  const auto send = [&](std::string_view path, std::string_view headers, int max_tokens,
                        std::string_view more) {
    clients.emplace_back(server->port());
    clients.back().post(
        path,
        fmt::format(R"({{"model":"tiny","messages":[{{"role":"user","content":"Hi"}}],)"
                    R"("max_tokens":{}{}}})",
                    max_tokens, more),
        headers);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // arrive in this order
  };
  send("/v1/chat/completions", bearer(key), 1, "");
  ASSERT_TRUE(engine.wait_for_starts(1));
  send("/api/chat/completions", session, 2, R"(,"service_tier":"fast","priority":-5)");
  send("/v1/chat/completions", bearer(key), 3, "");
  send("/v1/chat/completions", bearer(key), 4, R"(,"priority":-5)");
  EXPECT_EQ(outcome(ask("POST", "/api/chat/completions", session,
                        R"({"model":"tiny","n":9,"messages":[{"role":"user","content":"Hi"}]})")),
            "400 invalid_value");
  engine.is_paused = false;
  ASSERT_TRUE(engine.wait_for_starts(4));
  std::vector<uint32_t> order;
  for (const auto& job : engine.starts()) order.push_back(job.params.max_tokens);
  EXPECT_EQ(order, (std::vector<uint32_t>{1, 3, 4, 2}));
}

TEST_F(OfferServerTest, TheChatIsComplimentary) {
  start();
  const std::string session = log_in("approved");
  constexpr const char* kBody =
      R"({"model":"tiny-ultraspeed","messages":[{"role":"user","content":"Hi"}],"stream":true})";
  EXPECT_EQ(outcome(ask("POST", "/api/chat/completions", session, kBody)), "409 no_chat_session");
  const Json joined = parse(ask("POST", "/api/chat/join", session));
  EXPECT_EQ(joined["state"], "active");
  EXPECT_EQ(joined["entries_left"], 9);
  const auto answer = ask("POST", "/api/chat/completions", session, kBody);
  EXPECT_EQ(answer.status, 200u);
  EXPECT_NE(answer.body.find("Hello"), std::string::npos);
  auto row = wait_for_rows(1)[0];
  EXPECT_EQ(row.price.units, 0);
  EXPECT_EQ(row.tier, "fast");
  EXPECT_GT(row.tokens.output, 0u);
  clock.advance(std::chrono::minutes(6));  // of silence
  const Json after = parse(ask("GET", "/api/chat", session));
  EXPECT_EQ(after["state"], "outside");
  EXPECT_EQ(after["last_end"], "idle");
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(parse(ask("POST", "/api/chat/join", session))["state"], "active");
    EXPECT_EQ(outcome(ask("POST", "/api/chat/leave", session)), "200");
  }
  const auto eleventh = ask("POST", "/api/chat/join", session);
  EXPECT_EQ(outcome(eleventh), "429 chat_entries_used_up");
  EXPECT_GT(std::stoi(eleventh.headers.at("retry-after")), 0);
}

}  // namespace
}  // namespace ultraspeed::server
