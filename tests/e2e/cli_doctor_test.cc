// ultraspeed doctor on pairs that do not fit, and on one that does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "e2e/cli.h"
#include "model/checkpoint.h"
#include "model/weights.h"
#include "support/dequantize.h"
#include "support/drafter_generator.h"
#include "support/temporary_directory.h"
#include "support/torch_archive_writer.h"
#include "tensor/bf16.h"

namespace ultraspeed::test {
namespace {

using nlohmann::json;

constexpr size_t kHidden = 512;
constexpr uint32_t kMaskToken = 300;
constexpr size_t kRepeated = 1313;  // "((", which the model goes on with once it begins

std::vector<float> bundled_matrix(model::TensorRole role) {
  const auto config = model::ModelConfig::load(kTinyMimo);
  const auto checkpoint = model::Checkpoint::open(kTinyMimo);
  const model::WeightLoader loader(*checkpoint, *config);
  const model::WeightSource source{.role = role};
  const model::WeightShape shape = loader.shape(source).value();
  std::vector<std::byte> packed(shape.bytes);
  EXPECT_TRUE(loader.load(source, packed));
  return dequantize(shape, packed);
}

// A final norm behind which the mask's row of the table looks like the head's row for kRepeated.
std::vector<uint16_t> norm_codes() {
  const auto embedding = bundled_matrix(model::TensorRole::kEmbedding);
  const auto head = bundled_matrix(model::TensorRole::kLmHead);
  std::vector<uint16_t> codes;
  for (size_t i = 0; i < kHidden; ++i) {
    const float from = embedding[kMaskToken * kHidden + i];
    const float to = head[kRepeated * kHidden + i];
    codes.push_back(tensor::bf16_from_float(from == 0 ? 0 : to / from));
  }
  return codes;
}

// A drafter whose every draft is kRepeated, for its layers add nothing to the mask's row of the
// table, on a prompt that the model continues with this token.
class DoctorTest : public testing::Test {
 protected:
  void SetUp() override {
    DrafterOptions options = tiny_mimo_drafter();
    options.is_mimo = false;
    options.is_silent = true;
    options.num_layers = 1;
    options.mask_token_id = kMaskToken;
    auto drafter = write_drafter(path_, options);
    ASSERT_TRUE(drafter) << drafter.error().message;
    const std::vector<uint16_t> codes = norm_codes();
    const auto norm =
        std::ranges::find(drafter->tensors, std::string("norm.weight"), &StoredTensor::name);
    ASSERT_EQ(norm->bytes.size(), codes.size() * sizeof(uint16_t));
    std::memcpy(norm->bytes.data(), codes.data(), norm->bytes.size());
    ASSERT_TRUE(write_checkpoint_files(path_, drafter->tensors, 1, {{"format", "pt"}}));
  }

  // As a file of another drafter would.
  void spoil() const {
    std::vector<uint16_t> codes;
    for (size_t i = 0; i < kHidden; ++i) {
      codes.push_back(tensor::bf16_from_float(i % 3 == 0 ? 1.0F : -0.5F));
    }
    ASSERT_TRUE(write_file(path_ + "/mask_embedding.pt", mask_embedding_file(kMaskToken, codes)));
  }

  Finished doctor(std::vector<std::string> flags = {}) const {
    flags.insert(flags.begin(), {"doctor", kTinyMimo, "--drafter", path_, "--prompt",
                                 "((((((((((((((((((((", "-n", "17"});
    return run_cli(flags);
  }

 private:
  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path();
};

TEST_F(DoctorTest, FindsAPairThatFitsHealthy) {
  const Finished healthy = doctor();
  EXPECT_EQ(healthy.exit_code, 0) << healthy.errors;
  const std::vector<std::string> lines = {"after layers 0, 4, 7 of 8\n",
                                          ", from row 300 of the target's table",
                                          "base 10000; the target's: 10000, 5000000\n",
                                          "chat template  yes\n",
                                          "per position    1.00",
                                          "drafts well"};
  for (const std::string& line : lines) {
    EXPECT_NE(healthy.output.find(line), std::string::npos) << line << " in\n" << healthy.output;
  }
  EXPECT_EQ(healthy.output.find("other conventions"), std::string::npos);
}

TEST_F(DoctorTest, FindsTheConventionThatFits) {
  spoil();
  const Finished sick = doctor({"--json"});
  EXPECT_EQ(sick.exit_code, 3) << sick.errors;
  const json result = json::parse(sick.output, nullptr, false);
  ASSERT_TRUE(result.is_object()) << sick.output;
  EXPECT_EQ(result["better"],
            "masks from row 300 of the target's table instead of mask_embedding.pt");
  EXPECT_FALSE(result["is_healthy"].get<bool>());
  EXPECT_LT(result["as_is"]["accepted_length"].get<double>(), 1.2);
  ASSERT_EQ(result["others"].size(), 4u);  // masks, RoPE, causality, window; no taps to move
  EXPECT_GT(result["others"][0]["accepted_length"].get<double>(), 4);
  const Finished shown = doctor();
  EXPECT_EQ(shown.exit_code, 3);
  EXPECT_NE(shown.output.find("the drafter fits with masks from row 300"), std::string::npos)
      << shown.output;
}

TEST(Doctor, NeedsADrafter) {
  const TemporaryDirectory bare;
  link_model_without_drafter(bare.path());
  const Finished none = run_cli({"doctor", bare.path()});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_NE(none.errors.find("no drafter in its folder dflash/; name one with --drafter DIR"),
            std::string::npos)
      << none.errors;
}

TEST(Doctor, RefusesADrafterWithoutFiles) {
  const auto message = [](std::vector<std::string> flags, const std::string& variable) {
    flags.insert(flags.begin(), {"doctor", kTinyMimo});
    const Finished refused = run_cli(flags, "", {variable});
    EXPECT_EQ(refused.exit_code, 1);
    return refused.errors;
  };
  for (const std::string name : {"none", "suffix", "random", "replay:2", "mtp"}) {
    const std::string expected =
        "--drafter " + name +
        ": has no files of its own to examine; expected dflash (the folder "
        "dflash/ of the model) or the folder of a DFlash drafter";
    EXPECT_NE(message({"--drafter", name}, "A=").find(expected), std::string::npos) << name;
    EXPECT_NE(message({}, "ULTRASPEED_DRAFTER=" + name).find(expected), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace ultraspeed::test
