// Checkpoint folders: single and sharded, indices, and what can be missing or contradictory.
#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/tensor_names.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using test::StoredTensor;
using test::TemporaryDirectory;
using test::write_file;

constexpr std::string_view kIndex = "/model.safetensors.index.json";

std::vector<StoredTensor> two_tensors() {
  return {{"model.norm.weight", "U8", {2}, {std::byte{1}, std::byte{2}}},
          {"lm_head.weight", "U8", {1}, {std::byte{3}}}};
}

void expect_error(const TemporaryDirectory& directory, ErrorCode code, const std::string& part) {
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_FALSE(checkpoint.has_value()) << part;
  EXPECT_EQ(checkpoint.error().code, code) << checkpoint.error().message;
  EXPECT_EQ(checkpoint.error().message.find(directory.path()), 0U) << checkpoint.error().message;
  EXPECT_NE(checkpoint.error().message.find(part), std::string::npos) << checkpoint.error().message;
}

TEST(Checkpoint, OpensSingleAndShardedFolders) {
  for (const uint32_t num_files : {1U, 2U}) {
    const TemporaryDirectory directory;
    ASSERT_TRUE(test::write_checkpoint_files(directory.path(), two_tensors(), num_files,
                                             {{"save_format", "mxfp4"}, {"tp_size", "8"}})
                    .has_value());
    const auto checkpoint = Checkpoint::open(directory.path());
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
    EXPECT_EQ(checkpoint->files().size(), num_files);
    EXPECT_EQ(checkpoint->num_tensors(), 2U);
    EXPECT_EQ(checkpoint->save_format(), "mxfp4");
    EXPECT_EQ(checkpoint->tp_size(), 8U);
    const auto tensor = checkpoint->find("model.norm.weight");
    ASSERT_TRUE(tensor.has_value());
    EXPECT_EQ(tensor->name, "model.norm.weight");
    EXPECT_EQ(tensor->info->shape, std::vector<uint64_t>{2});
    std::array<std::byte, 2> bytes = {};
    ASSERT_TRUE(checkpoint->read("model.norm.weight", bytes).has_value());
    EXPECT_EQ(bytes[1], std::byte{2});
    EXPECT_FALSE(checkpoint->find("model.norm").has_value());
    const auto missing = checkpoint->read("model.norm", bytes);
    ASSERT_FALSE(missing.has_value());
    EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  }
}

TEST(Checkpoint, OpensADraftersSingleFile) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(test::write_safetensors(directory.path() + "/dflash_draft_model.safetensors",
                                      {{"fc.weight", "U8", {1}, {std::byte{0}}}}, {})
                  .has_value());
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->contents().drafter.num_tensors, 1U);
}

TEST(Checkpoint, SaysWhatIsMissing) {
  const auto no_folder = Checkpoint::open("/nonexistent/folder");
  ASSERT_FALSE(no_folder.has_value());
  EXPECT_EQ(no_folder.error().code, ErrorCode::kNotFound);
  EXPECT_NE(no_folder.error().message.find("/nonexistent/folder: no such folder"),
            std::string::npos);
  const TemporaryDirectory directory;
  expect_error(directory, ErrorCode::kNotFound, "no weights: expected model.safetensors");
  ASSERT_TRUE(test::write_checkpoint_files(directory.path(), two_tensors(), 2, {}).has_value());
  std::filesystem::remove(directory.path() + "/model-00002-of-00002.safetensors");
  expect_error(directory, ErrorCode::kNotFound,
               "1 of the 2 shards that model.safetensors.index.json lists are missing: "
               "model-00002-of-00002.safetensors");
}

TEST(Checkpoint, ShortensALongListOfMissingShards) {
  const TemporaryDirectory directory;
  std::string map;
  for (int i = 0; i < 20; ++i) {
    map += fmt::format("{}\"t{}\": \"s{:02}.safetensors\"", i == 0 ? "" : ",", i, i);
  }
  ASSERT_TRUE(write_file(directory.path() + std::string(kIndex), "{\"weight_map\": {" + map + "}}")
                  .has_value());
  expect_error(directory, ErrorCode::kNotFound, "20 of the 20 shards");
  expect_error(directory, ErrorCode::kNotFound, "s07.safetensors, ...");
}

TEST(Checkpoint, RejectsAnIndexThatDisagreesWithItsShards) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(test::write_checkpoint_files(directory.path(), two_tensors(), 2, {}).has_value());
  ASSERT_TRUE(write_file(directory.path() + std::string(kIndex),
                         R"({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors",
                             "absent": "model-00002-of-00002.safetensors"}})")
                  .has_value());
  expect_error(directory, ErrorCode::kNotFound,
               "/model-00002-of-00002.safetensors: no tensor 'absent', which "
               "model.safetensors.index.json places there");
}

TEST(Checkpoint, RejectsATensorInTwoShards) {
  const TemporaryDirectory directory;
  for (const char* name : {"/a.safetensors", "/b.safetensors"}) {
    ASSERT_TRUE(test::write_safetensors(directory.path() + name, two_tensors(), {}).has_value());
  }
  ASSERT_TRUE(write_file(directory.path() + std::string(kIndex),
                         R"({"weight_map": {"model.norm.weight": "a.safetensors",
                             "lm_head.weight": "b.safetensors"}})")
                  .has_value());
  expect_error(directory, ErrorCode::kInvalidData, "is also in");
}

TEST(Checkpoint, RejectsABadTpSize) {
  const TemporaryDirectory directory;
  for (const char* tp_size : {"0", "-1", "8x", "", "99999"}) {
    ASSERT_TRUE(
        test::write_checkpoint_files(directory.path(), two_tensors(), 1, {{"tp_size", tp_size}})
            .has_value());
    expect_error(directory, ErrorCode::kInvalidData, "tp_size is '" + std::string(tp_size) + "'");
  }
}

TEST(Checkpoint, CountsPartsByOwner) {
  const TemporaryDirectory directory;
  test::GeneratorOptions options;
  options.qkv_layout = QkvLayout::kFused;
  options.num_mtp_layers = 2;
  auto generated = test::generate_checkpoint(options);
  generated.tensors.push_back({"visual.patch_embed.weight", "U8", {1}, {std::byte{0}}});
  ASSERT_TRUE(test::write_checkpoint(directory.path(), options, generated).has_value());
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const CheckpointContents contents = checkpoint->contents();
  EXPECT_EQ(contents.num_mtp_layers, 2U);
  // 5 norms, eh_proj, qkv, o_proj and sinks, 3 FFN matrices; 4 of these have FP8 scales.
  EXPECT_EQ(contents.mtp.num_tensors, 2U * 16);
  EXPECT_EQ(contents.other.num_tensors, 1U);
  EXPECT_EQ(contents.other.bytes, 1U);
  EXPECT_EQ(contents.drafter.num_tensors, 0U);
  EXPECT_EQ(contents.backbone.num_tensors, checkpoint->num_tensors() - 33);
}

TEST(TensorNames, AreClassified) {
  EXPECT_EQ(classify_tensor_name("model.layers.3.mlp.gate.weight").owner, TensorOwner::kBackbone);
  EXPECT_EQ(classify_tensor_name("lm_head.weight").owner, TensorOwner::kBackbone);
  EXPECT_EQ(classify_tensor_name("model.mtp.layers.2.enorm.weight").owner, TensorOwner::kMtp);
  EXPECT_EQ(classify_tensor_name("model.mtp.layers.2.enorm.weight").mtp_layer, 2U);
  EXPECT_EQ(classify_tensor_name("model.mtp.norm.weight").owner, TensorOwner::kMtp);
  EXPECT_EQ(classify_tensor_name("layers.0.self_attn.q_norm.weight").owner, TensorOwner::kDrafter);
  EXPECT_EQ(classify_tensor_name("hidden_norm.weight").owner, TensorOwner::kDrafter);
  EXPECT_EQ(classify_tensor_name("audio_encoder.x").owner, TensorOwner::kOther);
  EXPECT_EQ(layer_name(3, kOModule), "model.layers.3.self_attn.o_proj");
  EXPECT_EQ(expert_name(1, 7, kExpertUpModule), "model.layers.1.mlp.experts.7.up_proj");
}

TEST(CheckpointIndex, ReadsNumbersAndTextAsTpSize) {
  const auto index = CheckpointIndex::parse(
      "i.json", R"({"metadata": {"tp_size": 4, "save_format": "mxfp4", "total_size": 9},
                    "weight_map": {"a": "y.safetensors", "b": "x.safetensors"}})");
  ASSERT_TRUE(index.has_value()) << index.error().message;
  EXPECT_EQ(index->tp_size, 4U);
  EXPECT_EQ(index->save_format, "mxfp4");
  EXPECT_EQ(index->shards, (std::vector<std::string>{"x.safetensors", "y.safetensors"}));
  EXPECT_EQ(index->shard_of.at("a"), 1U);
  const auto text = CheckpointIndex::parse(
      "i.json", R"({"metadata": {"tp_size": "8"}, "weight_map": {"a": "y.safetensors"}})");
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(text->tp_size, 8U);
}

TEST(CheckpointIndex, RejectsWhatIsMalformed) {
  const std::string long_name(260, 'x');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not valid JSON"},
      {"{}", "key 'weight_map' is missing"},
      {R"({"weight_map": []})", "key 'weight_map' is []"},
      {R"({"weight_map": {}})", "names 0 shards"},
      {R"({"weight_map": {"a": 1}})", "tensor 'a' is mapped to 1"},
      {R"({"weight_map": {"a": ""}})", "plain name"},
      {R"({"weight_map": {"a": "../x.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "/etc/x.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "sub/x.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "sub\\x.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": ".safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "x\u0000.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "x.bin"}})", "plain name"},
      {R"({"weight_map": {"a": ")" + long_name + R"(.safetensors"}})", "plain name"},
      {R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})",
       "key 'weight_map.a' occurs twice"},
      {R"({"weight_map": {"a": "x.safetensors"}, "weight_map": {}})",
       "key 'weight_map' occurs twice"},
      {R"({"metadata": 1, "weight_map": {"a": "x.safetensors"}})", "key 'metadata' is 1"},
      {R"({"metadata": {"tp_size": 0}, "weight_map": {"a": "x.safetensors"}})",
       "'metadata.tp_size' is 0"},
      {R"({"metadata": {"tp_size": "two"}, "weight_map": {"a": "x.safetensors"}})",
       "tp_size is 'two'"},
      {R"({"metadata": {"save_format": 4}, "weight_map": {"a": "x.safetensors"}})",
       "'metadata.save_format' is 4"},
  };
  for (const auto& [text, part] : cases) {
    const auto index = CheckpointIndex::parse("i.json", text);
    ASSERT_FALSE(index.has_value()) << text;
    EXPECT_EQ(index.error().code, ErrorCode::kInvalidData);
    EXPECT_EQ(index.error().message.find("i.json: "), 0U) << index.error().message;
    EXPECT_NE(index.error().message.find(part), std::string::npos) << index.error().message;
  }
}

}  // namespace
}  // namespace ultraspeed::model
