#include "apps/drafter_option.h"

#include <gtest/gtest.h>

#include <string>

namespace ultraspeed::apps {
namespace {

TEST(DrafterOption, NamesAreReadAndWrittenAlike) {
  for (const std::string name : {"none", "suffix", "random", "replay:1", "replay:12"}) {
    const auto drafter = parse_drafter(name);
    ASSERT_TRUE(drafter) << drafter.error().message;
    EXPECT_EQ(drafter_name(*drafter), name);
  }
  EXPECT_EQ(parse_drafter("replay:12")->tokens_per_cycle, 12u);
  EXPECT_EQ(drafter_name(SpeculationOptions().drafter), "suffix");
}

TEST(DrafterOption, ABlockHoldsAReplay) {
  SpeculationOptions options;
  options.block = 4;
  EXPECT_TRUE(check_speculation(options));
  options.drafter = *parse_drafter("replay:4");
  EXPECT_TRUE(check_speculation(options));
  options.drafter = *parse_drafter("replay:5");
  EXPECT_EQ(check_speculation(options).error().message,
            "--drafter replay:5: more than the block of 4 tokens (see --block)");
}

TEST(DrafterOption, AcceptancesAreNamed) {
  EXPECT_EQ(parse_acceptance("keyed").value(), engine::Acceptance::kKeyed);
  EXPECT_EQ(parse_acceptance("rejection").value(), engine::Acceptance::kRejection);
  for (const char* name : {"", "Keyed", "typical", "0"}) {
    const auto acceptance = parse_acceptance(name);
    ASSERT_FALSE(acceptance);
    EXPECT_TRUE(acceptance.error().message.ends_with("expected keyed or rejection"));
  }
  EXPECT_EQ(SpeculationOptions().acceptance, engine::Acceptance::kKeyed);
}

TEST(DrafterOption, WhatIsUnknownListsWhatIsKnown) {
  for (const std::string name :
       {"", "mtp", "dflash", "models/drafter", "Suffix", "replay", "replay:", "replay:0",
        "replay:-1", "replay:2x", "replay:99999999999"}) {
    const auto drafter = parse_drafter(name);
    ASSERT_FALSE(drafter) << name;
    EXPECT_EQ(drafter.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(drafter.error().message.starts_with(
        "'" + name + "' is no drafter; expected none, suffix, random or replay:N"))
        << drafter.error().message;
  }
}

}  // namespace
}  // namespace ultraspeed::apps
