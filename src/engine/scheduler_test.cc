#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace ultraspeed::engine {
namespace {

using Phase = RequestScheduler::Phase;
using Slots = std::vector<uint32_t>;

TEST(RequestScheduler, PrefillsInOrderOfArrival) {
  RequestScheduler scheduler;
  EXPECT_EQ(scheduler.next(4).phase, Phase::kIdle);
  scheduler.admit(7);
  scheduler.admit(2);
  for (int chunk = 0; chunk < 3; ++chunk) {
    const auto turn = scheduler.next(4);
    EXPECT_EQ(turn.phase, Phase::kPrefill);
    EXPECT_EQ(turn.slots, Slots{7});
  }
  scheduler.remove(7);
  EXPECT_EQ(scheduler.next(4).slots, Slots{2});
  scheduler.remove(2);
  scheduler.remove(2);
  EXPECT_TRUE(scheduler.idle());
}

TEST(RequestScheduler, AlternatesWhileBothAreWanted) {
  RequestScheduler scheduler;
  scheduler.admit(0);
  scheduler.next(4);
  scheduler.prompt_done(0);
  EXPECT_EQ(scheduler.next(4).phase, Phase::kDecode);
  EXPECT_EQ(scheduler.next(4).phase, Phase::kDecode);
  scheduler.admit(1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(scheduler.next(4).phase, Phase::kPrefill);
    EXPECT_EQ(scheduler.next(4).phase, Phase::kDecode);
  }
  scheduler.remove(0);
  EXPECT_EQ(scheduler.next(4).phase, Phase::kPrefill);
  EXPECT_EQ(scheduler.next(4).phase, Phase::kPrefill);
}

TEST(RequestScheduler, ManyPromptsDelayAStepByOneChunk) {
  RequestScheduler scheduler;
  scheduler.admit_decoding(0);
  int num_chunks = 0;  // since the last decode step
  for (uint32_t turn = 0; turn < 60; ++turn) {
    if (turn < 20) scheduler.admit(1 + turn);
    const Phase phase = scheduler.next(4).phase;
    num_chunks = phase == Phase::kPrefill ? num_chunks + 1 : 0;
    EXPECT_LE(num_chunks, 1);
  }
}

TEST(RequestScheduler, ServesAllWithinTheWidth) {
  RequestScheduler scheduler;
  for (const uint32_t slot : {3u, 1u, 2u}) {
    scheduler.admit(slot);
    scheduler.prompt_done(slot);
  }
  Slots slots = scheduler.next(3).slots;
  std::sort(slots.begin(), slots.end());
  EXPECT_EQ(slots, (Slots{1, 2, 3}));
}

TEST(RequestScheduler, RotatesFairlyBeyondTheWidth) {
  RequestScheduler scheduler;
  for (uint32_t slot = 0; slot < 7; ++slot) {
    scheduler.admit(slot);
    scheduler.prompt_done(slot);
  }
  std::map<uint32_t, int> served;
  for (int step = 1; step <= 50; ++step) {
    const Slots slots = scheduler.next(3).slots;
    ASSERT_EQ(slots.size(), 3u);
    for (const uint32_t slot : slots) ++served[slot];
    for (uint32_t slot = 0; slot < 7; ++slot) {  // nobody is ever more than one turn behind
      EXPECT_GE(served[slot], step * 3 / 7);
      EXPECT_LE(served[slot], step * 3 / 7 + 1);
    }
  }
  scheduler.remove(4);
  for (int step = 0; step < 4; ++step) {
    for (const uint32_t slot : scheduler.next(3).slots) EXPECT_NE(slot, 4u);
  }
}

TEST(RequestScheduler, TheFirstPlaceGoesRoundWithinTheWidth) {
  RequestScheduler scheduler;
  for (uint32_t slot = 0; slot < 3; ++slot) scheduler.admit_decoding(slot);
  EXPECT_EQ(scheduler.next(4).slots, (Slots{0, 1, 2}));
  EXPECT_EQ(scheduler.next(4).slots, (Slots{1, 2, 0}));
  EXPECT_EQ(scheduler.next(3).slots, (Slots{2, 0, 1}));
}

TEST(ShareColumns, GivesRoundByRound) {
  const auto share = [](const Slots& wanted, uint32_t num_columns) {
    return share_columns(wanted, num_columns);
  };
  EXPECT_EQ(share({}, 8), Slots{});
  EXPECT_EQ(share({8}, 8), Slots{8});
  EXPECT_EQ(share({8}, 5), Slots{5});
  EXPECT_EQ(share({8, 8, 8}, 8), (Slots{3, 3, 2}));
  EXPECT_EQ(share({8, 1, 8}, 8), (Slots{4, 1, 3}));
  EXPECT_EQ(share({2, 1, 3}, 8), (Slots{2, 1, 3}));
  EXPECT_EQ(share({8, 8, 8}, 3), (Slots{1, 1, 1}));
}

TEST(ShareColumnsDeathTest, EverybodyGetsOne) {
  EXPECT_DEATH(share_columns(Slots{1, 1}, 1), "2 sessions, 1 columns");
}

TEST(RequestSchedulerDeathTest, OnlyAPromptCanBeDone) {
  RequestScheduler scheduler;
  EXPECT_DEATH(scheduler.prompt_done(3), "slot 3 has no prompt");
}

}  // namespace
}  // namespace ultraspeed::engine
