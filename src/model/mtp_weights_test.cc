// The weights of MTP layers: every layout loads to exactly the numbers it was made from, and what
// is missing or of another shape is named.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "model/checkpoint.h"
#include "model/weights.h"
#include "support/checkpoint_generator.h"
#include "support/dequantize.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;
using test::DenseWeight;
using test::GeneratorOptions;

constexpr uint32_t kNumHeads = 2;

struct OpenedMtp {
  test::TemporaryDirectory directory;
  test::GeneratedCheckpoint generated;
  ModelConfig heads;
  std::optional<Checkpoint> checkpoint;

  // `change` is made to the tensors before they are written.
  explicit OpenedMtp(GeneratorOptions options,
                     const std::function<void(std::vector<test::StoredTensor>*)>& change = {}) {
    options.num_mtp_layers = kNumHeads;
    generated = test::generate_checkpoint(options);
    if (change) change(&generated.tensors);
    EXPECT_TRUE(test::write_checkpoint(directory.path(), options, generated).has_value());
    checkpoint = Checkpoint::open(directory.path()).value();
    EXPECT_EQ(checkpoint->contents().num_mtp_layers, kNumHeads);
    heads = ModelConfig::load(directory.path())->mtp_stack(kNumHeads).value();
  }

  WeightLoader loader() const { return {*checkpoint, heads}; }

  std::vector<float> load(const WeightSource& source) const {
    const auto shape = loader().shape(source);
    EXPECT_TRUE(shape) << shape.error().message;
    std::vector<std::byte> packed(shape->bytes);
    EXPECT_TRUE(loader().load(source, packed));
    return test::dequantize(*shape, packed);
  }

  std::vector<float> values(const std::string& name) const { return generated.mtp.at(name).values; }
};

// What a whole matrix holds, by the tensors' published names.
std::vector<float> expected(const OpenedMtp& opened, const WeightSource& source) {
  const auto of = [&](const std::string& name) {
    return opened.values("model.mtp.layers." + std::to_string(source.layer) + "." + name);
  };
  switch (source.role) {
    case TensorRole::kMtpEmbeddingNorm:
      return of("enorm.weight");
    case TensorRole::kMtpHiddenNorm:
      return of("hnorm.weight");
    case TensorRole::kMtpProj:
      return of("eh_proj.weight");
    case TensorRole::kMtpFinalNorm:
      return of("final_layernorm.weight");
    case TensorRole::kInputNorm:
      return of("input_layernorm.weight");
    case TensorRole::kPostAttentionNorm:
      return of("pre_mlp_layernorm.weight");
    case TensorRole::kQkvProj:
      return of("self_attn.qkv_proj.weight");
    case TensorRole::kAttentionSink:
      return of("self_attn.attention_sink_bias");
    case TensorRole::kOProj:
      return of("self_attn.o_proj.weight");
    case TensorRole::kDenseGateUp: {
      std::vector<float> both = of("mlp.gate_proj.weight");
      const std::vector<float> up = of("mlp.up_proj.weight");
      both.insert(both.end(), up.begin(), up.end());
      return both;
    }
    case TensorRole::kDenseDown:
      return of("mlp.down_proj.weight");
    default:
      ADD_FAILURE() << tensor_role_name(source.role);
      return {};
  }
}

TEST(MtpWeights, LoadEveryLayoutExactly) {
  for (const QkvLayout layout : {QkvLayout::kSplit, QkvLayout::kFused}) {
    for (const WeightFormat format : {WeightFormat::kFp8Block128, WeightFormat::kBf16}) {
      GeneratorOptions options;
      options.qkv_layout = layout;
      options.linear_format = format;
      const OpenedMtp opened(options);
      ASSERT_TRUE(opened.loader().check_complete());
      const auto sources = all_weights(opened.heads, 0, 1);
      EXPECT_EQ(sources.size(), kNumHeads * 11u);
      for (const WeightSource& source : sources) {
        EXPECT_EQ(opened.load(source), expected(opened, source))
            << tensor_role_name(source.role) << " of layer " << source.layer;
      }
    }
  }
}

TEST(MtpWeights, TheProjectionIsSplitByRows) {
  const OpenedMtp opened({});
  std::vector<float> joined;
  for (uint32_t shard = 0; shard < 4; ++shard) {
    const auto part = opened.load({TensorRole::kMtpProj, 1, 0, shard, 4, Stack::kMtp});
    joined.insert(joined.end(), part.begin(), part.end());
  }
  EXPECT_EQ(joined, opened.values("model.mtp.layers.1.eh_proj.weight"));
}

TEST(MtpWeights, HaveTheFormatsOfTheConfiguration) {
  GeneratorOptions options;
  options.output_projection_format = WeightFormat::kFp8Block128;  // not in ignored_layers
  const OpenedMtp opened(options);
  for (const WeightSource& source : all_weights(opened.heads, 0, 1)) {
    EXPECT_EQ(opened.loader().shape(source).value(), expected_shape(opened.heads, source).value())
        << tensor_role_name(source.role);
  }
}

TEST(MtpWeights, WhatIsMissingOrOfAnotherShapeIsNamed) {
  const auto error_with = [](const std::function<void(std::vector<test::StoredTensor>*)>& change) {
    const OpenedMtp opened({}, change);
    const Status status = opened.loader().check_complete();
    return status ? "" : status.error().message;
  };
  const auto named = [](const std::string& name) {
    return [name](const auto& tensor) { return tensor.name == name; };
  };
  EXPECT_TRUE(
      error_with(
          [&](auto* tensors) { std::erase_if(*tensors, named("model.mtp.layers.1.hnorm.weight")); })
          .ends_with("no tensor 'model.mtp.layers.1.hnorm.weight'; expected it as the weight "
                     "of the MTP hidden norm in layer 1"));
  const std::string shape = error_with([&](auto* tensors) {
    std::ranges::find_if(*tensors, named("model.mtp.layers.0.eh_proj.weight"))->shape = {512, 256};
  });
  EXPECT_TRUE(
      shape.ends_with("tensor 'model.mtp.layers.0.eh_proj.weight' is BF16 [512, 256]; "
                      "expected BF16 [256, 512] for the MTP projection in layer 0"))
      << shape;
}

}  // namespace
}  // namespace ultraspeed::model
