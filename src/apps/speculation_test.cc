// Which drafter a model gets, which are refused, and what is said of one that is of no use.
#include "apps/speculation.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/drafter_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

using engine::DrafterKind;

class SpeculationOptionsTest : public testing::Test {
 protected:
  // A drafter with blocks of 6 in a folder inside the model's.
  void write_drafter(const std::string& name) {
    std::filesystem::create_directory(model_ + "/" + name);
    test::DrafterOptions options;
    options.block_size = 6;
    options.num_layers = 1;
    const auto written = test::write_drafter(model_ + "/" + name, options);
    ASSERT_TRUE(written) << written.error().message;
  }

  Result<Speculation> open(const std::string& drafter = "", uint32_t block = 0) {
    SpeculationOptions options;
    options.block = block;
    if (!drafter.empty()) options.drafter = parse_drafter(drafter).value();
    return Speculation::open(options, model_, num_mtp_layers_);
  }
  Speculation opened(const std::string& drafter = "", uint32_t block = 0) {
    auto speculation = open(drafter, block);
    EXPECT_TRUE(speculation) << speculation.error().message;
    return std::move(*speculation);
  }
  std::string refusal(ErrorCode code, const std::string& drafter = "", uint32_t block = 0) {
    const auto speculation = open(drafter, block);
    if (speculation) return "";
    EXPECT_EQ(speculation.error().code, code);
    return speculation.error().message;
  }

  const test::TemporaryDirectory directory_;
  const std::string model_ = directory_.path();
  uint32_t num_mtp_layers_ = 0;
};

TEST_F(SpeculationOptionsTest, TheModelsOwnDrafterIsTheDefault) {
  const Speculation without = opened();
  EXPECT_EQ(without.drafter().kind, DrafterKind::kSuffix);
  EXPECT_EQ(without.dflash(), nullptr);
  EXPECT_EQ(without.block(), 8u);
  EXPECT_EQ(without.session_drafter({}), "suffix");

  write_drafter("dflash");
  const Speculation own = opened();
  EXPECT_EQ(own.drafter().kind, DrafterKind::kDflash);
  ASSERT_NE(own.dflash(), nullptr);
  EXPECT_EQ(own.block(), 6u);
  EXPECT_EQ(own.session_drafter({}), "dflash");
  EXPECT_EQ(opened("suffix").dflash(), nullptr);
  EXPECT_EQ(opened("dflash", 2).block(), 2u);
}

TEST_F(SpeculationOptionsTest, ADrafterMayLieElsewhere) {
  write_drafter("other");
  const Speculation other = opened(model_ + "/other", 6);
  EXPECT_EQ(other.dflash()->config().file, model_ + "/other/config.json");
  EXPECT_EQ(other.session_drafter({}), model_ + "/other");
}

TEST_F(SpeculationOptionsTest, SaysWhatIsMissing) {
  EXPECT_EQ(refusal(ErrorCode::kNotFound, "dflash"),
            "--drafter dflash: no folder " + model_ +
                "/dflash; expected one with a DFlash drafter: config.json and *.safetensors");
  EXPECT_EQ(refusal(ErrorCode::kNotFound, "./nowhere"),
            "--drafter ./nowhere: no folder ./nowhere; expected one with a DFlash drafter: "
            "config.json and *.safetensors");
  std::filesystem::create_directory(model_ + "/dflash");
  EXPECT_EQ(refusal(ErrorCode::kNotFound),
            "--drafter dflash: no config.json in " + model_ +
                "/dflash, expected that of a drafter (--drafter suffix goes without it)");
  write_drafter("dflash");
  std::filesystem::remove(model_ + "/dflash/model.safetensors");
  EXPECT_NE(refusal(ErrorCode::kNotFound).find("(--drafter suffix goes without it)"),
            std::string::npos);
}

TEST_F(SpeculationOptionsTest, ABlockIsAtMostTheDrafters) {
  write_drafter("dflash");
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument, "dflash", 7),
            "--block 7: " + model_ + "/dflash/config.json drafts blocks of at most 6 tokens");
  EXPECT_EQ(opened("replay:4", 4).block(), 4u);
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument, "replay:5", 4),
            "--drafter replay:5: more than the block of 4 tokens (see --block)");
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument, "replay:9"),
            "--drafter replay:9: more than the block of 8 tokens (see --block)");
}

TEST_F(SpeculationOptionsTest, MtpLayersAreTheModels) {
  EXPECT_EQ(refusal(ErrorCode::kNotFound, "mtp"),
            "--drafter mtp: " + model_ +
                " has no MTP layers (tensors model.mtp.layers.K.*); --drafter suffix needs none");
  num_mtp_layers_ = 3;
  const Speculation mtp = opened("mtp");
  EXPECT_EQ(mtp.drafter().kind, DrafterKind::kMtp);
  EXPECT_EQ(mtp.block(), 4u);
  EXPECT_EQ(opened("mtp", 2).block(), 2u);
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument, "mtp", 5),
            "--block 5: 3 MTP layers draft blocks of at most 4 tokens");
  engine::SamplingParams penalised;
  penalised.presence_penalty = 0.5F;
  EXPECT_EQ(mtp.session_drafter(penalised), "mtp");
  EXPECT_EQ(opened().drafter().kind, DrafterKind::kSuffix);
}

TEST_F(SpeculationOptionsTest, SaysWhoStandsIn) {
  write_drafter("dflash");
  const Speculation own = opened();
  engine::SamplingParams penalised;
  EXPECT_EQ(own.describe_stand_in(penalised), "");
  penalised.presence_penalty = 0.5F;
  EXPECT_EQ(own.session_drafter(penalised), "suffix");
  EXPECT_TRUE(own.describe_stand_in(penalised).starts_with("drafting with suffix: "));
  EXPECT_EQ(opened("random").describe_stand_in(penalised), "");
}

TEST_F(SpeculationOptionsTest, WarnsOfADrafterOfNoUse) {
  write_drafter("dflash");
  const Speculation own = opened();
  engine::SpeculationStats stats;
  const auto add_cycles = [&stats](int count, uint32_t num_accepted) {
    for (int i = 0; i < count; ++i) {
      stats.add({.num_drafts = 5, .num_accepted = num_accepted, .num_tokens = num_accepted + 1});
    }
  };
  add_cycles(15, 0);
  EXPECT_EQ(own.describe_low_acceptance({}, stats), "");  // too few to say
  add_cycles(1, 1);
  EXPECT_EQ(own.describe_low_acceptance({}, stats),
            "drafter dflash: accepted length 1.06 over 16 cycles, too little to gain time; "
            "'ultraspeed doctor' looks for the reason");
  EXPECT_EQ(opened("suffix").describe_low_acceptance({}, stats), "");
  EXPECT_EQ(opened("dflash", 1).describe_low_acceptance({}, stats), "");
  engine::SamplingParams penalised;
  penalised.presence_penalty = 0.5F;
  EXPECT_EQ(own.describe_low_acceptance(penalised, stats), "");
  add_cycles(4, 3);
  EXPECT_EQ(own.describe_low_acceptance({}, stats), "");  // 33 tokens in 20 cycles
}

TEST_F(SpeculationOptionsTest, SuffixBlocksAreShorterWhereColumnsCostMost) {
  using program::Activations;
  EXPECT_EQ(opened("suffix").block_on(kProcessor, {}), 4u);
  EXPECT_EQ(opened("suffix").block_on(kProcessor, {.activations = Activations::kInt8}), 8u);
  EXPECT_EQ(opened("suffix").block_on("NVIDIA H100", {}), 8u);
  EXPECT_EQ(opened("suffix", 8).block_on(kProcessor, {}), 8u) << "asked for";
  EXPECT_EQ(opened("none").block_on(kProcessor, {}), 8u);
}

TEST_F(SpeculationOptionsTest, DecodeStepsHaveRoomForTheDraftsOfAllSessions) {
  const auto width = [&](const Speculation& speculation, uint32_t max_sessions) {
    return speculation.decode_width_on(kProcessor, max_sessions);
  };
  const Speculation suffix = opened();  // blocks of 8
  EXPECT_EQ(width(suffix, 1), 8u);
  EXPECT_EQ(width(suffix, 3), 24u);
  EXPECT_EQ(width(suffix, 8), 64u);
  EXPECT_EQ(width(suffix, 4096), 64u);
  EXPECT_EQ(width(opened("suffix", 3), 5), 16u) << "15 columns";
  EXPECT_EQ(width(opened("suffix", 20), 2), 20u) << "a block";
  EXPECT_EQ(width(opened("suffix", 20), 4), 32u) << "not of all sessions at once";
  const Speculation none = opened("none");
  EXPECT_EQ(width(none, 1), 8u);
  EXPECT_EQ(width(none, 8), 8u);
  EXPECT_EQ(width(none, 9), 16u);
  EXPECT_EQ(width(none, 4096), 64u);

  EXPECT_EQ(suffix.decode_width_on("NVIDIA H100", 8), 8u) << "columns cost time there";
  EXPECT_EQ(opened("suffix", 20).decode_width_on("NVIDIA H100", 8), 20u);

  EXPECT_TRUE(suffix.check_decode_width(0));
  EXPECT_TRUE(suffix.check_decode_width(24));
  const auto refused = opened("suffix", 20).check_decode_width(16);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "--decode-width 16: fewer than the 20 columns of a block (see --block)");
}

}  // namespace
}  // namespace ultraspeed::apps
