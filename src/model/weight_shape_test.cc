// Shapes from config.json alone: what a plan of the large models relies on.
#include <gtest/gtest.h>

#include "model/weights.h"
#include "tensor/weight_format.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

ModelConfig load(const std::string& name) {
  auto config = ModelConfig::load(std::string(US_SOURCE_DIR) + "/configs/" + name);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  return config.value_or(ModelConfig{});
}

uint64_t bytes_of(const ModelConfig& config, uint32_t num_shards) {
  uint64_t bytes = 0;
  for (const WeightSource& source : all_weights(config, 0, num_shards)) {
    const auto shape = expected_shape(config, source);
    EXPECT_TRUE(shape.has_value()) << shape.error().message;
    if (shape) bytes += shape->bytes;
  }
  return bytes;
}

TEST(WeightFormat, KnowsItsSizes) {
  EXPECT_EQ(tensor::packed_bytes(WeightFormat::kF32, 3, 5), 60U);
  EXPECT_EQ(tensor::packed_bytes(WeightFormat::kBf16, 3, 5), 30U);
  EXPECT_EQ(tensor::packed_bytes(WeightFormat::kFp8Block128, 4, 130), 4U * 130 + 4 * 2 * 4);
  EXPECT_EQ(tensor::packed_bytes(WeightFormat::kMxfp4, 4, 64), 4U * 32 + 4 * 2);
  EXPECT_EQ(tensor::code_bytes(WeightFormat::kMxfp4, 4, 64), 128U);
  EXPECT_EQ(tensor::scale_bytes(WeightFormat::kBf16, 4, 64), 0U);
  EXPECT_EQ(tensor::scale_columns(WeightFormat::kFp8Block128, 129), 2U);
}

TEST(WeightShape, OfTheLargeModel) {
  const ModelConfig config = load("mimo-v2.5-pro");
  const auto qkv = expected_shape(config, {TensorRole::kQkvProj, 0, 0, 3, 8});
  ASSERT_TRUE(qkv.has_value()) << qkv.error().message;
  EXPECT_EQ(qkv->format, WeightFormat::kFp8Block128);
  EXPECT_EQ(qkv->rows, 3392U);
  EXPECT_EQ(qkv->columns, 6144U);
  EXPECT_EQ(qkv->bytes, 3392U * 6144 + 3392U * 48 * 4);
  const auto output = expected_shape(config, {TensorRole::kOProj, 5, 0, 3, 8});
  ASSERT_TRUE(output.has_value());
  EXPECT_EQ(*output, (WeightShape{WeightFormat::kBf16, 6144, 2048, 6144U * 2048 * 2}));
  const auto gate_up = expected_shape(config, {TensorRole::kExpertGateUp, 69, 383, 7, 8});
  ASSERT_TRUE(gate_up.has_value());
  EXPECT_EQ(*gate_up, (WeightShape{WeightFormat::kMxfp4, 512, 6144, 512U * 6144 / 32 * 17}));
  const auto down = expected_shape(config, {TensorRole::kExpertDown, 69, 383, 7, 8});
  ASSERT_TRUE(down.has_value());
  EXPECT_EQ(*down, (WeightShape{WeightFormat::kMxfp4, 6144, 256, 6144U * 256 / 32 * 17}));
  const auto head = expected_shape(config, {TensorRole::kLmHead, 0, 0, 7, 8});
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->rows, 19072U);
  const auto sink = expected_shape(config, {TensorRole::kAttentionSink, 1, 0, 7, 8});
  ASSERT_TRUE(sink.has_value());
  EXPECT_EQ(*sink, (WeightShape{WeightFormat::kF32, 1, 16, 64}));
  EXPECT_EQ(expected_shape(config, {TensorRole::kRouter, 1, 0, 7, 8})->rows, 384U);
  EXPECT_EQ(expected_shape(config, {TensorRole::kDenseDown, 0, 0, 7, 8})->columns, 2048U);
}

// 561.5 GB on disk; here routers, norms and sinks are f32, and the FP8 scales are expanded.
TEST(WeightShape, AddsUpToTheCheckpoint) {
  const ModelConfig config = load("mimo-v2.5-pro");
  EXPECT_NEAR(static_cast<double>(bytes_of(config, 1)) * 1e-9, 562.2, 0.05);
  EXPECT_NEAR(static_cast<double>(bytes_of(config, 8)) * 1e-9, 70.85, 0.05);
  const ModelConfig fp8 = load("mimo-v2.5-pro-fp8");
  EXPECT_EQ(expected_format(fp8, TensorRole::kExpertDown, 1), WeightFormat::kFp8Block128);
  EXPECT_GT(bytes_of(fp8, 8), 125'000'000'000U);
}

TEST(WeightShape, CoversEveryMatrixOnce) {
  const ModelConfig config = load("mimo-v2.5-pro");
  const auto sources = all_weights(config, 2, 8);
  // A layer has two norms, qkv, o_proj; 60 have sinks; one is dense with two matrices; 69 have
  // router, bias and two matrices an expert.
  EXPECT_EQ(sources.size(), 3U + 70 * 4 + 60 + 2 + 69 * (2 + 384 * 2));
  for (const WeightSource& source : sources) {
    EXPECT_EQ(source.shard, 2U);
    EXPECT_EQ(source.num_shards, 8U);
  }
  EXPECT_EQ(sources.front().role, TensorRole::kEmbedding);
  EXPECT_EQ(sources.back().role, TensorRole::kLmHead);
}

TEST(WeightShape, ReportsImpossibleSplits) {
  ModelConfig config = load("mimo-v2-flash");
  const WeightSource qkv = {TensorRole::kQkvProj, 0, 0, 0, 8};
  const auto expect_refused = [&](const std::string& why) {
    const auto shape = expected_shape(config, qkv);
    ASSERT_FALSE(shape.has_value());
    EXPECT_EQ(shape.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(shape.error().message.find("config.json: qkv projection of layer 0 cannot be split "
                                         "over 8 ranks: expected the number of ranks to divide " +
                                         why),
              std::string::npos)
        << shape.error().message;
  };
  config.layers[0].num_kv_heads = 12;
  config.layers[0].num_q_heads = 96;
  expect_refused("12 kv heads, or to be a multiple of them");
  config.layers[0].num_q_heads = 12;
  expect_refused("12");
}

// 64 q heads and 4 kv heads of 192 and 128: on 8 ranks 8 q heads each, and one kv head for two.
TEST(WeightShape, FewKvHeadsAreOnSeveralRanks) {
  const ModelConfig config = load("mimo-v2-flash");
  EXPECT_EQ(expected_shape(config, {TensorRole::kQkvProj, 0, 0, 0, 4})->rows, 16U * 192 + 320);
  EXPECT_EQ(expected_shape(config, {TensorRole::kQkvProj, 0, 0, 7, 8})->rows, 8U * 192 + 320);
  for (uint32_t shard = 0; shard < 8; ++shard) {
    const auto heads = config.layers[0].shard_kv_heads(shard, 8);
    EXPECT_EQ(heads.begin, shard / 2);
    EXPECT_EQ(heads.count, 1U);
  }
}

TEST(WeightShape, ReportsUnalignedScales) {
  ModelConfig config = load("mimo-v2-flash");
  config.vocab_size = 3;
  config.hidden_size = 129;
  const auto shape = weight_shape(config, {TensorRole::kLmHead}, WeightFormat::kFp8Block128);
  ASSERT_FALSE(shape.has_value());
  EXPECT_NE(shape.error().message.find("3 x 129"), std::string::npos) << shape.error().message;
}

TEST(WeightShapeDeathTest, RequiresARoleThatTheLayerHas) {
  const ModelConfig config = load("mimo-v2.5-pro");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kRouter, 0}), "layer 0 is dense");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kDenseDown, 1}), "has experts");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kAttentionSink, 0}), "no sinks");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kExpertDown, 1, 384}),
               "expert 384 of 384");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kQkvProj, 70}), "layer 70 of 70");
  EXPECT_DEATH(std::ignore = expected_shape(config, {TensorRole::kQkvProj, 0, 0, 2, 2}),
               "shard 2 of 2");
}

}  // namespace
}  // namespace ultraspeed::model
