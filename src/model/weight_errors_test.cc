// What WeightLoader says about tensors that are missing, of the wrong dtype or shape, or not
// numbers: each message names file, tensor, and what was expected.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>

#include "model/checkpoint.h"
#include "model/weights.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using test::GeneratedCheckpoint;
using test::GeneratorOptions;
using test::StoredTensor;
using test::TemporaryDirectory;

StoredTensor& stored(GeneratedCheckpoint& checkpoint, const std::string& name) {
  for (StoredTensor& tensor : checkpoint.tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << name;
  return checkpoint.tensors.front();
}

class WeightErrors : public testing::Test {
 protected:
  // Writes the default checkpoint with `damage` done to its tensors and loads all of it.
  Status load_damaged(const std::function<void(GeneratedCheckpoint&)>& damage) {
    GeneratedCheckpoint generated = original_;
    damage(generated);
    US_TRY(test::write_checkpoint(directory_.path(), options_, generated));
    US_ASSIGN(const ModelConfig config, ModelConfig::load(directory_.path()));
    US_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(directory_.path()));
    const WeightLoader loader(checkpoint, config);
    const Status complete = loader.check_complete();
    for (const WeightSource& source : all_weights(config, 0, 1)) {
      const auto shape = loader.shape(source);
      if (!shape) {
        EXPECT_FALSE(complete.has_value());
        return tl::unexpected(shape.error());
      }
      std::vector<std::byte> packed(shape->bytes);
      US_TRY(loader.load(source, packed));
    }
    EXPECT_TRUE(complete.has_value()) << complete.error().message;
    return {};
  }

  void expect_error(const std::function<void(GeneratedCheckpoint&)>& damage, ErrorCode code,
                    const std::vector<std::string>& parts) {
    const Status status = load_damaged(damage);
    ASSERT_FALSE(status.has_value()) << parts.front();
    EXPECT_EQ(status.error().code, code) << status.error().message;
    EXPECT_EQ(status.error().message.find(directory_.path()), 0U) << status.error().message;
    for (const std::string& part : parts) {
      EXPECT_NE(status.error().message.find(part), std::string::npos)
          << status.error().message << "\nexpected: " << part;
    }
  }

  void remove_and_expect(const std::string& name, const std::string& purpose) {
    const auto remove = [&](GeneratedCheckpoint& checkpoint) {
      std::erase_if(checkpoint.tensors, [&](const auto& tensor) { return tensor.name == name; });
    };
    expect_error(remove, ErrorCode::kNotFound, {"no tensor '" + name + "'", purpose});
  }

  // Overwrites the bytes of a tensor at an element.
  template <class Value>
  std::function<void(GeneratedCheckpoint&)> poke(const std::string& name, size_t index,
                                                 Value value) {
    return [=](GeneratedCheckpoint& checkpoint) {
      std::memcpy(&stored(checkpoint, name).bytes.at(index * sizeof(Value)), &value, sizeof(Value));
    };
  }

  TemporaryDirectory directory_;
  GeneratorOptions options_;
  GeneratedCheckpoint original_ = test::generate_checkpoint(options_);
};

const std::string kExpertDown = "model.layers.1.mlp.experts.2.down_proj";
const std::string kQ = "model.layers.0.self_attn.q_proj";

TEST_F(WeightErrors, AcceptsTheUndamagedCheckpoint) {
  const Status status = load_damaged([](GeneratedCheckpoint&) {});
  EXPECT_TRUE(status.has_value()) << status.error().message;
}

TEST_F(WeightErrors, NamesMissingTensors) {
  remove_and_expect("model.embed_tokens.weight", "expected it as the weight of the embedding");
  remove_and_expect("lm_head.weight", "the lm_head");
  remove_and_expect("model.norm.weight", "the final norm");
  remove_and_expect("model.layers.2.input_layernorm.weight", "the input norm in layer 2");
  remove_and_expect("model.layers.2.post_attention_layernorm.weight",
                    "the post-attention norm in layer 2");
  remove_and_expect("model.layers.0.self_attn.k_proj.weight", "the qkv projection in layer 0");
  remove_and_expect(kQ + ".weight_scale_inv", "the scales of an FP8 weight of the qkv projection");
  remove_and_expect("model.layers.1.self_attn.attention_sink_bias",
                    "the attention sink in layer 1");
  remove_and_expect("model.layers.3.self_attn.o_proj.weight", "the output projection in layer 3");
  remove_and_expect("model.layers.0.mlp.up_proj.weight", "the dense gate/up in layer 0");
  remove_and_expect("model.layers.0.mlp.down_proj.weight", "the dense down in layer 0");
  remove_and_expect("model.layers.1.mlp.gate.weight", "the router in layer 1");
  remove_and_expect("model.layers.1.mlp.gate.e_score_correction_bias",
                    "the router bias in layer 1");
  remove_and_expect("model.layers.3.mlp.experts.7.up_proj.weight",
                    "the expert gate/up 7 in layer 3");
  remove_and_expect(kExpertDown + ".weight_scale",
                    "the scales of an MXFP4 weight of the expert down 2 in layer 1");
}

TEST_F(WeightErrors, NamesWrongDtypes) {
  const auto set_dtype = [](const std::string& name, const std::string& dtype) {
    return [=](GeneratedCheckpoint& checkpoint) { stored(checkpoint, name).dtype = dtype; };
  };
  const std::string file = "/model.safetensors: tensor '";
  expect_error(set_dtype("model.embed_tokens.weight", "F16"), ErrorCode::kInvalidData,
               {file + "model.embed_tokens.weight' is F16; expected F32, BF16, F8_E4M3"});
  expect_error(set_dtype("model.norm.weight", "I16"), ErrorCode::kInvalidData,
               {file + "model.norm.weight' is I16; expected F32 or BF16"});
  expect_error(set_dtype("model.layers.1.mlp.gate.weight", "I32"), ErrorCode::kInvalidData,
               {"mlp.gate.weight' is I32; expected F32 or BF16"});
  expect_error(set_dtype(kQ + ".weight", "I8"), ErrorCode::kInvalidData,
               {file + kQ + ".weight' is I8; expected"});
  expect_error(set_dtype(kQ + ".weight_scale_inv", "I32"), ErrorCode::kInvalidData,
               {kQ + ".weight_scale_inv' is I32 [3, 2]; expected F32 [3, 2]"});
  expect_error(set_dtype(kExpertDown + ".weight_scale", "I8"), ErrorCode::kInvalidData,
               {kExpertDown + ".weight_scale' is I8 [256, 2]; expected U8 [256, 2]"});
}

TEST_F(WeightErrors, NamesWrongShapes) {
  const auto set_shape = [](const std::string& name, std::vector<uint64_t> shape) {
    return [=](GeneratedCheckpoint& checkpoint) { stored(checkpoint, name).shape = shape; };
  };
  expect_error(
      set_shape("model.embed_tokens.weight", {128, 512}), ErrorCode::kInvalidData,
      {"model.embed_tokens.weight' is BF16 [128, 512]; expected BF16 [256, 256]", "embedding"});
  expect_error(set_shape("model.norm.weight", {1, 256}), ErrorCode::kInvalidData,
               {"model.norm.weight' is BF16 [1, 256]; expected BF16 [256]"});
  expect_error(set_shape(kQ + ".weight", {256, 384}), ErrorCode::kInvalidData,
               {kQ + ".weight' is F8_E4M3 [256, 384]; expected F8_E4M3 [384, 256]"});
  expect_error(set_shape(kQ + ".weight_scale_inv", {2, 3}), ErrorCode::kInvalidData,
               {kQ + ".weight_scale_inv' is F32 [2, 3]; expected F32 [3, 2]"});
  expect_error(set_shape(kQ + ".weight_scale_inv", {1, 2, 3}), ErrorCode::kInvalidData,
               {"is F32 [1, 2, 3]; expected F32 [3, 2]"});
  expect_error(set_shape(kExpertDown + ".weight", {512, 16}), ErrorCode::kInvalidData,
               {kExpertDown + ".weight' is U8 [512, 16]; expected U8 [256, 32]"});
  expect_error(set_shape(kExpertDown + ".weight_scale", {512}), ErrorCode::kInvalidData,
               {kExpertDown + ".weight_scale' is U8 [512]; expected U8 [256, 2]"});
  const auto make_scalar = [](GeneratedCheckpoint& checkpoint) {
    StoredTensor& scales = stored(checkpoint, kQ + ".weight_scale_inv");
    scales.shape = {};
    scales.bytes.resize(4);
  };
  expect_error(make_scalar, ErrorCode::kInvalidData, {"is F32 []; expected F32 [3, 2]"});
}

TEST_F(WeightErrors, NamesSiblingsOfDifferentFormats) {
  const auto make_bf16 = [](GeneratedCheckpoint& checkpoint) {
    StoredTensor& k = stored(checkpoint, "model.layers.0.self_attn.k_proj.weight");
    k.dtype = "BF16";
    k.bytes.assign(k.bytes.size() * 2, std::byte{0});
  };
  expect_error(make_bf16, ErrorCode::kUnsupported,
               {"k_proj.weight' is BF16; expected FP8", "sibling '" + kQ + ".weight'"});
}

TEST_F(WeightErrors, NamesTheFirstValueThatIsNoNumber) {
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  const float kInfinity = std::numeric_limits<float>::infinity();
  const auto at = [](int row, int column) {
    return "has a bad value at row " + std::to_string(row) + ", column " + std::to_string(column);
  };
  for (const uint8_t code : {uint8_t{0x7f}, uint8_t{0xff}}) {
    expect_error(poke<uint8_t>(kQ + ".weight", 5 * 256 + 9, code), ErrorCode::kInvalidData,
                 {"'" + kQ + ".weight' " + at(5, 9)});
  }
  for (const float scale : {kNan, kInfinity, -kInfinity, -1.0F, -0.0F}) {
    expect_error(poke(kQ + ".weight_scale_inv", 2 * 2 + 1, scale), ErrorCode::kInvalidData,
                 {"'" + kQ + ".weight_scale_inv' " + at(2, 1), "finite scale"});
  }
  expect_error(poke<uint8_t>(kExpertDown + ".weight_scale", 200 * 2 + 1, 255),
               ErrorCode::kInvalidData,
               {"'" + kExpertDown + ".weight_scale' " + at(200, 1), "255 is NaN"});
  for (const uint16_t bits : {uint16_t{0x7fc0}, uint16_t{0x7f80}, uint16_t{0xff80}}) {
    expect_error(poke<uint16_t>("model.embed_tokens.weight", 3 * 256 + 255, bits),
                 ErrorCode::kInvalidData, {"'model.embed_tokens.weight' " + at(3, 255)});
    expect_error(poke<uint16_t>("model.norm.weight", 17, bits), ErrorCode::kInvalidData,
                 {"'model.norm.weight' " + at(0, 17)});
  }
  expect_error(poke("model.layers.1.mlp.gate.weight", 2 * 256 + 4, kNan), ErrorCode::kInvalidData,
               {"mlp.gate.weight' " + at(2, 4)});
  expect_error(poke("model.layers.1.mlp.gate.e_score_correction_bias", 6, -kInfinity),
               ErrorCode::kInvalidData, {"e_score_correction_bias' " + at(0, 6)});
}

// The position of a bad code is that of the stored tensor, whatever shard finds it.
TEST_F(WeightErrors, NamesThePositionInTheStoredTensor) {
  GeneratedCheckpoint generated = original_;
  poke<uint16_t>("model.layers.1.self_attn.o_proj.weight", 10 * 256 + 130, 0x7fc0)(generated);
  ASSERT_TRUE(test::write_checkpoint(directory_.path(), options_, generated).has_value());
  const auto config = ModelConfig::load(directory_.path());
  const auto checkpoint = Checkpoint::open(directory_.path());
  ASSERT_TRUE(config.has_value() && checkpoint.has_value());
  const WeightLoader loader(*checkpoint, *config);
  for (uint32_t shard = 0; shard < 2; ++shard) {
    const WeightSource source = {TensorRole::kOProj, 1, 0, shard, 2};
    std::vector<std::byte> packed(loader.shape(source)->bytes);
    const Status status = loader.load(source, packed);
    ASSERT_EQ(status.has_value(), shard == 0);
    if (shard == 1) {
      EXPECT_NE(status.error().message.find("row 10, column 130"), std::string::npos);
    }
  }
}

TEST_F(WeightErrors, ReportsAFileThatShrinksWhileMapped) {
  ASSERT_TRUE(test::write_checkpoint(directory_.path(), options_, original_).has_value());
  const auto config = ModelConfig::load(directory_.path());
  const auto checkpoint = Checkpoint::open(directory_.path());
  ASSERT_TRUE(config.has_value() && checkpoint.has_value());
  const WeightLoader loader(*checkpoint, *config);
  std::filesystem::resize_file(directory_.path() + "/model.safetensors", 65536);
  const WeightSource source = {TensorRole::kLmHead};
  std::vector<std::byte> packed(loader.shape(source)->bytes);
  const Status status = loader.load(source, packed);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_NE(status.error().message.find("truncated while in use"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::model
