// The ledger of a server that is killed while it decodes: the bundled model with its drafter, whose
// steps give several tokens at a time, and a prompt that the prefix cache knows after its first
// request.
#include "apps/loaded_model.h"
#include "server/offer_kill_fixture.h"
#include "support/scale.h"

namespace ultraspeed::apps {
namespace {

constexpr int kNumKills = 10;

class DecodeKillTest : public server::OfferKillTest {
 protected:
  DecodeKillTest()
      : OfferKillTest(
            "The children asked the old man what he had seen on the other side of the mountain. "
            "He sat down by the fire, looked at each of them in turn, and began:") {}

  engine::Engine& open_engine() override {
    ModelOptions how;
    how.context = 512;
    how.num_cached_prefixes = kNumClients;
    loaded = std::make_unique<LoadedModel>(access::value_of(LoadedModel::open(how)));
    opened = access::value_of(loaded->open_engine(how, kNumClients));
    return *opened;
  }

  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<engine::Engine> opened;
};

TEST_F(DecodeKillTest, TheLedgerIsWhatClientsReceived) {
  for (int i = 0; i < test::scaled(kNumKills); ++i) {
    run_and_kill(static_cast<uint32_t>(i) * 9, 1500);
    if (HasFatalFailure()) return;
  }
  Tally tally = compare();
  EXPECT_GT(tally.finishes["disconnected"], test::scaled(kNumKills) / 2);
  EXPECT_GT(tally.cached_tokens, 0u);
  EXPECT_GT(tally.tokens["fast"], tally.steps["fast"]);
  EXPECT_EQ(tally.tokens["standard"], tally.steps["standard"]);
  std::cout << tally.cached_tokens << " tokens of prompts from the cache; a step gave "
            << static_cast<double>(tally.tokens["fast"]) / static_cast<double>(tally.steps["fast"])
            << " tokens in the fast tier\n";
}

}  // namespace
}  // namespace ultraspeed::apps
