// Choices of the bundled model over HTTP are those that requests of their own would get.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "served.h"

namespace ultraspeed::server {
namespace {

Json request(uint64_t seed) {
  return {{"model", "tiny"},
          {"messages", {{{"role", "user"}, {"content", "Tell me of a fox and a hen."}}}},
          {"max_tokens", 24},
          {"temperature", 0.9},
          {"seed", seed}};
}

TEST(ServedChoices, AreThoseOfTheirSeeds) {
  const Served served({});
  const Served dflash(engine::bundled_setup(16, 1));
  std::vector<Json> alone;
  for (uint64_t i = 0; i < 5; ++i) {
    alone.push_back(served.ask("/v1/chat/completions", request(40 + i)));
    alone.back()["index"] = i;
  }
  EXPECT_NE(alone[0]["message"], alone[1]["message"]);
  Json body = request(40);
  body["n"] = alone.size();
  for (const Served* server : {&served, &dflash}) {
    for (const int max_tokens : {24, 1}) {  // the first may end before the others begin
      body["max_tokens"] = max_tokens;
      const Json json = Json::parse(server->post("/v1/chat/completions", body).body);
      ASSERT_EQ(json["choices"].size(), alone.size()) << json;
      for (size_t i = 0; i < alone.size() && max_tokens > 1; ++i) {
        EXPECT_EQ(json["choices"][i], alone[i]);
      }
    }
  }
}

TEST(ServedChoices, TheJudgeTakesOneOfThem) {
  const Served served({});
  Json body = request(40);
  body["best_of"] = 3;
  body["best_of_mode"] = "judge";
  const Json best = served.ask("/v1/chat/completions", body);
  bool is_one_of_them = false;
  for (uint64_t i = 0; i < 3; ++i) {
    const Json alone = served.ask("/v1/chat/completions", request(40 + i));
    is_one_of_them = is_one_of_them || alone["message"] == best["message"];
  }
  EXPECT_TRUE(is_one_of_them) << best;
}

}  // namespace
}  // namespace ultraspeed::server
