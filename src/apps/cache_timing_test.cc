// What one account may learn of what another one sent, from how long its own prompts take. The
// server with accounts serves the bundled model over loopback; a prompt of one account waits in the
// prefix cache while another account sends the same one, and one that nobody has sent.
//
// Times are compared by ranks (Mann and Whitney's U), which the outliers of a busy machine hardly
// move, over samples of both kinds in turn, in random order, so that what else runs slows both.
// That finds what a client could; the engine's steps, which no load changes, find also what is lost
// in the noise. The account that sent a prompt first sends it last, too: the prompt was in the
// cache all the time, and the same test of ranks must see that.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

#include "apps/loaded_model.h"
#include "apps/watched_engine.h"
#include "server/offer_fixture.h"

namespace ultraspeed::apps {
namespace {

using std::chrono::steady_clock;

constexpr int kNumRounds = 20;
constexpr uint32_t kPrefillWidth = 64;
constexpr size_t kNumWords = 200;            // of a prompt,
constexpr uint32_t kMinPromptTokens = 1000;  // which has more tokens
constexpr double kClear = 4.5;               // of a rank score: by chance once in 150,000 runs

struct Sample {
  double first_token_ms = 0;
  size_t num_steps = 0;  // of the engine, for an answer of one token
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
};

// How much more often than not a time of `lower` is below one of `upper`: in standard deviations of
// times that are alike.
double rank_score(const std::vector<Sample>& lower, const std::vector<Sample>& upper) {
  double num_lower = 0;
  for (const Sample& one : lower) {
    for (const Sample& other : upper) num_lower += one.first_token_ms < other.first_token_ms;
  }
  const auto n = static_cast<double>(lower.size()), m = static_cast<double>(upper.size());
  return (num_lower - n * m / 2) / std::sqrt(n * m * (n + m + 1) / 12);
}

double median_ms(std::vector<Sample> samples) {
  std::ranges::sort(samples, {}, &Sample::first_token_ms);
  return samples[samples.size() / 2].first_token_ms;
}

class CacheTimingTest : public server::OfferServerTest {
 protected:
  CacheTimingTest() {
    ModelOptions how;
    how.context = 2048;
    how.num_cached_prefixes = 8;
    how.prefill_width = kPrefillWidth;
    how.executor.activations = program::Activations::kInt8;  // the fastest
    loaded = std::make_unique<LoadedModel>(access::value_of(LoadedModel::open(how)));
    opened = access::value_of(loaded->open_engine(how, 4));  // pages for so many prompts
    watched = std::make_unique<WatchedEngine>(*opened);
    model.engine = watched.get();
    access::KeySpec spec;
    spec.limits = {0, 0, 0, {}, {}};
    mine = bearer(add_key("approved", spec));
    theirs = bearer(add_key("other", spec));
    start();
  }
  ~CacheTimingTest() override { server.reset(); }  // before its engine

  // Like no other one.
  std::string new_prompt() {
    std::string text;
    for (size_t i = 0; i < kNumWords; ++i) text += fmt::format("{:x} ", random() % 0xfffff);
    return text;
  }

  Sample send(const std::string& headers, const std::string& prompt) const {
    const Json body = {{"model", "tiny"},
                       {"prompt", prompt},
                       {"max_tokens", 1},
                       {"stream", true},
                       {"stream_options", {{"include_usage", true}}}};
    Sample sample;
    const size_t steps_before = watched->num_steps();
    Client client(server->port());
    const auto begin = steady_clock::now();
    client.post("/v1/completions", body.dump(), headers);
    EXPECT_EQ(client.read_head().status, 200u);
    std::string stream = client.read_chunk().value_or("");
    sample.first_token_ms =
        std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count();
    while (const auto chunk = client.read_chunk()) stream += *chunk;
    sample.num_steps = watched->num_steps() - steps_before;
    const auto data = events(stream);
    EXPECT_EQ(data.size(), 4u) << stream;  // the token, its end, the usage, [DONE]
    if (data.size() != 4) return sample;
    const Json usage = Json::parse(data[2])["usage"];
    sample.prompt_tokens = usage["prompt_tokens"];
    sample.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"];
    EXPECT_GE(sample.prompt_tokens, kMinPromptTokens);
    return sample;
  }

  net::TestResponse respond(const std::string& headers, const Json& input,
                            const std::string& previous = {}) const {
    Json body = {{"model", "tiny"}, {"input", input}, {"max_output_tokens", 2}};
    if (!previous.empty()) body["previous_response_id"] = previous;
    return ask("POST", "/v1/responses", headers, body.dump());
  }
  static uint32_t cached_tokens(const net::TestResponse& response) {
    EXPECT_EQ(response.status, 200u) << response.body;
    return parse(response)["usage"]["input_tokens_details"]["cached_tokens"];
  }

  std::mt19937 random{1};
  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<engine::Engine> opened;
  std::unique_ptr<WatchedEngine> watched;
  std::string mine, theirs;
};

TEST_F(CacheTimingTest, AnothersPromptTakesAsLongAsNobodys) {
  send(theirs, new_prompt());  // the first request finds the machine's caches empty
  std::vector<Sample> others, nobodys, own;
  for (int i = 0; i < kNumRounds; ++i) {
    const std::string prompt = new_prompt(), unsent = new_prompt();
    send(mine, prompt);
    const bool is_first = random() % 2 == 0;
    if (is_first) others.push_back(send(theirs, prompt));
    nobodys.push_back(send(theirs, unsent));
    if (!is_first) others.push_back(send(theirs, prompt));
    own.push_back(send(mine, prompt));
  }
  for (const auto* samples : {&others, &nobodys}) {
    for (const Sample& sample : *samples) {
      EXPECT_EQ(sample.cached_tokens, 0u);
      EXPECT_GE(sample.num_steps * kPrefillWidth, sample.prompt_tokens);
    }
  }
  for (const Sample& sample : own) {
    EXPECT_GE(sample.cached_tokens + kPrefillWidth, sample.prompt_tokens);
    EXPECT_LE(sample.num_steps, 2u);
  }
  const double leak = rank_score(others, nobodys), hit = rank_score(own, nobodys);
  fmt::print(
      "{} prompts of 1,000 tokens: nobody's {:.1f} ms, another account's {:.1f} (score {:.1f}), "
      "one's own {:.1f} (score {:.1f})\n",
      kNumRounds, median_ms(nobodys), median_ms(others), leak, median_ms(own), hit);
  EXPECT_LT(std::abs(leak), kClear);
  EXPECT_GT(hit, kClear);
}

TEST_F(CacheTimingTest, AConversationIsForkedByItsAccountAlone) {
  const Json question = {{"role", "user"}, {"content", new_prompt()}};
  const Json more = {{"role", "user"}, {"content", "And then?"}};
  const Json follow_up = Json::array({more});
  const auto first = respond(mine, Json::array({question}));
  EXPECT_EQ(cached_tokens(first), 0u);
  const std::string id = parse(first)["id"];
  // By its id, which is to others as one that never was; nothing of it is computed.
  std::string unknown = id;
  std::reverse(unknown.begin() + 5, unknown.end());
  const size_t steps_before = watched->num_steps();
  auto refused = respond(theirs, follow_up, id);
  EXPECT_EQ(refused.status, 400u);
  const size_t at = refused.body.find(id);
  ASSERT_NE(at, std::string::npos) << refused.body;
  EXPECT_EQ(refused.body.replace(at, id.size(), unknown), respond(theirs, follow_up, unknown).body);
  EXPECT_EQ(watched->num_steps(), steps_before);
  // By its text; the answer may have been empty.
  const Json whole = {question, {{"role", "assistant"}, {"content", "Yes."}}, more};
  EXPECT_EQ(cached_tokens(respond(theirs, whole)), 0u);
  EXPECT_GE(cached_tokens(respond(mine, whole)), kMinPromptTokens);
  EXPECT_GE(cached_tokens(respond(mine, follow_up, id)), kMinPromptTokens);
}

}  // namespace
}  // namespace ultraspeed::apps
