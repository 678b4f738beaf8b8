// Drafter: every tensor of both forms loads to the numbers it was made from, whole and in shards,
// and what does not fit is named.
#include "model/drafter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <tuple>

#include "support/dequantize.h"
#include "support/drafter_generator.h"
#include "support/reference_folder.h"
#include "support/temporary_directory.h"
#include "support/torch_archive_writer.h"

namespace ultraspeed::model {
namespace {

using test::DrafterOptions;
using test::GeneratedDrafter;

WeightSource source_of(TensorRole role, uint32_t layer = 0, uint32_t shard = 0,
                       uint32_t num_shards = 1) {
  return {role, layer, 0, shard, num_shards, Stack::kDflash};
}

std::vector<float> load(const Drafter& drafter, const WeightSource& source) {
  const auto shape = drafter.shape(source);
  EXPECT_TRUE(shape.has_value()) << shape.error().message;
  std::vector<std::byte> packed(shape->bytes);
  const auto status = drafter.load(source, packed);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return test::dequantize(*shape, packed);
}

class DrafterTest : public testing::Test {
 protected:
  void SetUp() override {
    auto generated = test::write_drafter(directory_.path(), options_);
    ASSERT_TRUE(generated.has_value()) << generated.error().message;
    generated_ = std::move(*generated);
  }

  // Rows [begin, begin + count) of a stored matrix.
  std::vector<float> rows(const std::string& name, uint32_t begin, uint32_t count) const {
    const test::DenseWeight& dense = generated_.weights.at(name);
    const auto first = dense.values.begin() + static_cast<ptrdiff_t>(begin) * dense.columns;
    return {first, first + static_cast<ptrdiff_t>(count) * dense.columns};
  }

  void expect_open_error(ErrorCode code, const std::string& part) const {
    const auto drafter = Drafter::open(directory_.path());
    ASSERT_FALSE(drafter.has_value()) << part;
    EXPECT_EQ(drafter.error().code, code) << drafter.error().message;
    EXPECT_NE(drafter.error().message.find(part), std::string::npos) << drafter.error().message;
  }

  test::TemporaryDirectory directory_;
  DrafterOptions options_;
  GeneratedDrafter generated_;
};

TEST_F(DrafterTest, LoadsEveryTensorWhole) {
  const auto drafter = Drafter::open(directory_.path());
  ASSERT_TRUE(drafter.has_value()) << drafter.error().message;
  ASSERT_TRUE(drafter->check_complete().has_value());
  EXPECT_TRUE(drafter->config().has_mask_embedding);
  EXPECT_EQ(load(*drafter, source_of(TensorRole::kFeatureProj)), generated_.at("fc.weight"));
  EXPECT_EQ(load(*drafter, source_of(TensorRole::kFeatureNorm)),
            generated_.at("hidden_norm.weight"));
  EXPECT_EQ(load(*drafter, source_of(TensorRole::kFinalNorm)), generated_.at("norm.weight"));
  EXPECT_EQ(load(*drafter, source_of(TensorRole::kMaskEmbedding)), generated_.mask_embedding);
  const std::pair<TensorRole, const char*> in_layer[] = {
      {TensorRole::kInputNorm, "input_layernorm.weight"},
      {TensorRole::kPostAttentionNorm, "post_attention_layernorm.weight"},
      {TensorRole::kQProj, "self_attn.q_proj.weight"},
      {TensorRole::kOProj, "self_attn.o_proj.weight"},
      {TensorRole::kQNorm, "self_attn.q_norm.weight"},
      {TensorRole::kKNorm, "self_attn.k_norm.weight"},
      {TensorRole::kAttentionSink, "self_attn.attention_sink_bias"},
      {TensorRole::kDenseDown, "mlp.down_proj.weight"}};
  for (uint32_t layer = 0; layer < options_.num_layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    for (const auto& [role, name] : in_layer) {
      EXPECT_EQ(load(*drafter, source_of(role, layer)), generated_.at(prefix + name)) << name;
    }
  }
}

TEST_F(DrafterTest, GathersTheHeadsOfAShard) {
  const auto drafter = Drafter::open(directory_.path());
  ASSERT_TRUE(drafter.has_value());
  const uint32_t kv_rows = options_.num_kv_heads * options_.head_dim / 2;
  for (uint32_t shard = 0; shard < 2; ++shard) {
    std::vector<float> expected =
        rows("layers.1.self_attn.k_proj.weight", shard * kv_rows, kv_rows);
    const auto values = rows("layers.1.self_attn.v_proj.weight", shard * kv_rows, kv_rows);
    expected.insert(expected.end(), values.begin(), values.end());
    EXPECT_EQ(load(*drafter, source_of(TensorRole::kKvProj, 1, shard, 2)), expected);
    EXPECT_EQ(load(*drafter, source_of(TensorRole::kFeatureProj, 0, shard, 2)),
              rows("fc.weight", shard * 128, 128));
    const auto half = generated_.mask_embedding.begin() + shard * 128;
    EXPECT_EQ(load(*drafter, source_of(TensorRole::kMaskEmbedding, 0, shard, 2)),
              std::vector<float>(half, half + 128));
  }
  // Two of four shards have the same head.
  for (uint32_t shard = 0; shard < 4; ++shard) {
    EXPECT_EQ(load(*drafter, source_of(TensorRole::kKvProj, 1, shard, 4)),
              load(*drafter, source_of(TensorRole::kKvProj, 1, shard / 2, 2)));
  }
}

TEST_F(DrafterTest, OpensTheReferenceDrafter) {
  const auto directory = test::reference_folder("qwen3_dflash");
  ASSERT_TRUE(directory.has_value()) << directory.error().message;
  const auto drafter = Drafter::open(*directory);
  ASSERT_TRUE(drafter.has_value()) << drafter.error().message;
  EXPECT_FALSE(drafter->config().has_mask_embedding);
  const auto complete = drafter->check_complete();
  EXPECT_TRUE(complete.has_value()) << complete.error().message;
}

TEST_F(DrafterTest, NamesAMissingTensor) {
  std::vector<test::StoredTensor> tensors = generated_.tensors;
  std::erase_if(tensors, [](const auto& tensor) {
    return tensor.name == "layers.2.self_attn.k_norm.weight";
  });
  ASSERT_TRUE(test::write_checkpoint_files(directory_.path(), tensors, 1, {}).has_value());
  const auto drafter = Drafter::open(directory_.path());
  ASSERT_TRUE(drafter.has_value());
  const auto complete = drafter->check_complete();
  ASSERT_FALSE(complete.has_value());
  EXPECT_NE(complete.error().message.find(
                "no tensor 'layers.2.self_attn.k_norm.weight'; expected it as the weight of the "
                "key norm in layer 2"),
            std::string::npos)
      << complete.error().message;
}

TEST_F(DrafterTest, NamesAMaskEmbeddingOfAnotherModel) {
  const std::string path = directory_.path() + "/mask_embedding.pt";
  ASSERT_TRUE(test::write_file(path, test::mask_embedding_file(8, std::vector<uint16_t>(256))));
  expect_open_error(ErrorCode::kInvalidData, "for mask token 8, but");
  ASSERT_TRUE(test::write_file(path, test::mask_embedding_file(7, std::vector<uint16_t>(255))));
  expect_open_error(ErrorCode::kInvalidData, "255 elements, but");
  ASSERT_TRUE(test::write_file(path, "no archive of any kind at all"));
  expect_open_error(ErrorCode::kInvalidData, "mask_embedding.pt");
}

// Codes are the target's tables times the selector's matrices; each matrix must be there.
TEST(DrafterSelector, LoadsCodesOfTheTargetsTables) {
  const test::TemporaryDirectory target_directory, directory;
  const auto target = test::write_checkpoint(target_directory.path(), {});
  DrafterOptions options;
  options.selector_rank = 6;
  auto generated = test::write_drafter(directory.path(), options);
  ASSERT_TRUE(target.has_value() && generated.has_value());
  const auto config = ModelConfig::load(target_directory.path());
  const auto checkpoint = Checkpoint::open(target_directory.path());
  const auto drafter = Drafter::open(directory.path());
  ASSERT_TRUE(config.has_value() && checkpoint.has_value() && drafter.has_value());
  ASSERT_TRUE(drafter->check_complete().has_value());
  EXPECT_EQ(load(*drafter, source_of(TensorRole::kSelectorProj)),
            generated->at("selector.hidden_proj.weight"));
  const WeightLoader loader(*checkpoint, *config);
  const std::tuple<TensorRole, TensorRole, const char*> tables[] = {
      {TensorRole::kPredecessorCodes, TensorRole::kEmbedding, "selector.predecessor_proj.weight"},
      {TensorRole::kSuccessorCodes, TensorRole::kLmHead, "selector.successor_proj.weight"}};
  for (const auto& [role, table_role, name] : tables) {
    const WeightSource source = source_of(role, 0, 1, 2);  // whole on every shard
    const auto shape = drafter->shape(source);
    ASSERT_TRUE(shape.has_value()) << shape.error().message;
    EXPECT_EQ(*shape, (WeightShape{tensor::WeightFormat::kF32, 256, 6, 256 * 6 * 4}));
    std::vector<float> codes(256 * 6);
    ASSERT_TRUE(drafter->load(source, std::as_writable_bytes(std::span(codes)), &loader));
    const auto& table = target->at(table_role).values;
    const auto& matrix = generated->at(name);
    for (uint32_t i = 0; i < codes.size(); ++i) {
      double sum = 0;
      for (uint32_t k = 0; k < 256; ++k) {
        sum += double{table[i / 6 * 256 + k]} * matrix[i % 6 * 256 + k];
      }
      ASSERT_NEAR(codes[i], sum, 1e-5 * (1 + std::abs(sum))) << name << " " << i;
    }
  }
  std::erase_if(generated->tensors,
                [](const auto& t) { return t.name == "selector.successor_proj.weight"; });
  ASSERT_TRUE(test::write_checkpoint_files(directory.path(), generated->tensors, 1, {}));
  const Status status = Drafter::open(directory.path())->check_complete();
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("selector.successor_proj.weight"), std::string::npos)
      << status.error().message;
}

}  // namespace
}  // namespace ultraspeed::model
