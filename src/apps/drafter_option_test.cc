#include "apps/drafter_option.h"

#include <gtest/gtest.h>

#include <string>

namespace ultraspeed::apps {
namespace {

TEST(DrafterOption, NamesAreReadAndWrittenAlike) {
  for (const std::string name : {"none", "suffix", "random", "replay:1", "replay:12", "mtp",
                                 "dflash", "./dflash", "models/drafter", "/nowhere/", "."}) {
    const auto drafter = parse_drafter(name);
    ASSERT_TRUE(drafter) << drafter.error().message;
    EXPECT_EQ(drafter_name(*drafter), name);
  }
  EXPECT_EQ(parse_drafter("replay:12")->options.tokens_per_cycle, 12u);
  EXPECT_EQ(parse_drafter("dflash")->options.kind, engine::DrafterKind::kDflash);
  EXPECT_EQ(parse_drafter("dflash")->folder, "");
  EXPECT_EQ(parse_drafter("mtp")->options.kind, engine::DrafterKind::kMtp);
  EXPECT_EQ(parse_drafter("models/drafter")->options.kind, engine::DrafterKind::kDflash);
  EXPECT_EQ(parse_drafter("models/drafter")->folder, "models/drafter");
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

TEST(DrafterOption, ReplayAloneNeedsTheOutput) {
  EXPECT_TRUE(check_needs_no_output({}));
  for (const char* name : {"none", "suffix", "random", "mtp", "dflash", "/a/folder"}) {
    EXPECT_TRUE(check_needs_no_output({.drafter = *parse_drafter(name)})) << name;
  }
  const Status replay = check_needs_no_output({.drafter = *parse_drafter("replay:3")});
  ASSERT_FALSE(replay);
  EXPECT_EQ(replay.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(replay.error().message.starts_with("--drafter replay:3: only run and bench decode"));
}

TEST(DrafterOption, WhatIsUnknownListsWhatIsKnown) {
  for (const std::string name : {"", "MTP", "DFlash", "Suffix", "replay", "replay:", "replay:0",
                                 "replay:-1", "replay:2x", "replay:99999999999"}) {
    const auto drafter = parse_drafter(name);
    ASSERT_FALSE(drafter) << name;
    EXPECT_EQ(drafter.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(drafter.error().message,
              "'" + name +
                  "' is no drafter; expected none, suffix, random, replay:N with N from 1 to the "
                  "block, mtp (the model's own MTP layers), dflash (the folder dflash/ of the "
                  "model), the folder of a DFlash drafter, or its ORG/NAME in the Hugging Face "
                  "cache");
  }
}

}  // namespace
}  // namespace ultraspeed::apps
