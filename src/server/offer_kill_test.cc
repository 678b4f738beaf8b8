// The ledger of a server that is killed, over an engine which costs so little that clients make
// thousands of requests a second.
#include "server/offer_kill_fixture.h"

#include "server/fake_engine.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

constexpr int kNumKills = 30;  // 240 with US_TEST_SCALE=8, over 10^5 requests

class ScriptedKillTest : public OfferKillTest {
 protected:
  ScriptedKillTest() : OfferKillTest("Once") {}

  engine::Engine& open_engine() override {
    engine.reply = test_ids("The quick brown fox jumps over the lazy dog, and then it sleeps.");
    engine.reply.push_back(kTestStopId);
    engine.tokens_per_step = 3;
    engine.step_delay_us = 100;
    engine.records_starts = false;
    return engine;
  }

  FakeEngine engine;
};

TEST_F(ScriptedKillTest, TheLedgerIsWhatClientsReceived) {
  for (int i = 0; i < test::scaled(kNumKills); ++i) {
    run_and_kill(static_cast<uint32_t>(i), 700);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(compare().finishes["disconnected"], test::scaled(kNumKills));
}

}  // namespace
}  // namespace ultraspeed::server
