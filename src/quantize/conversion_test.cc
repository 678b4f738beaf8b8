#include "quantize/conversion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "quantize/quantize_fixture.h"
#include "quantize/shard_plan.h"
#include "support/random_tensors.h"
#include "support/safetensors_writer.h"

namespace ultraspeed::quantize {
namespace {

TEST(TensorKind, ByName) {
  const auto kind = [](const char* module) { return tensor_kind(module); };
  EXPECT_EQ(kind("model.layers.3.mlp.experts.117.gate_proj"), TensorKind::kExpert);
  EXPECT_EQ(kind("model.layers.3.self_attn.qkv_proj"), TensorKind::kQkv);
  EXPECT_EQ(kind("model.mtp.layers.0.self_attn.v_proj"), TensorKind::kQkv);
  EXPECT_EQ(kind("model.layers.3.self_attn.o_proj"), TensorKind::kOutputProjection);
  EXPECT_EQ(kind("model.layers.0.mlp.down_proj"), TensorKind::kDenseFfn);
  EXPECT_EQ(kind("model.embed_tokens"), TensorKind::kEmbedding);
  EXPECT_EQ(kind("lm_head"), TensorKind::kHead);
  for (const char* other :
       {"model.layers.3.mlp.gate", "model.layers.3.self_attn.q_norm", "model.norm",
        "model.mtp.layers.0.eh_proj", "visual.blocks.3.mlp.down_proj", "model.layers.mlp.up_proj",
        "model.layers.3.mlp.experts.gate_up_proj", "model.layers.3.mlp.experts.1.2.up_proj"}) {
    EXPECT_EQ(kind(other), TensorKind::kOther) << other;
  }
}

TEST(ComesBefore, NumbersCountByValue) {
  const std::vector<std::string> ordered = {"a.2.b",          "a.2.c",           "a.10.b",
                                            "a.010.c",        "a.100.b",         "a.b",
                                            "lm_head.weight", "model.layers.0.x"};
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (size_t j = 0; j < ordered.size(); ++j) {
      EXPECT_EQ(comes_before(ordered[i], ordered[j]), i < j) << ordered[i] << " " << ordered[j];
    }
  }
  EXPECT_NE(comes_before("a.1", "a.01"), comes_before("a.01", "a.1"));
}

TEST(ScaleGrid, RowsOfPlainAndRestartingGrids) {
  const ScaleGrid plain = {300, 1};
  EXPECT_EQ(plain.num_rows(), 3U);
  EXPECT_EQ(plain.begin_of(2), 256U);
  EXPECT_EQ(plain.begin_of(3), 300U);
  const ScaleGrid restarting = {704, 2};  // chunks of 352: 128 + 128 + 96
  EXPECT_EQ(restarting.num_rows(), 6U);
  const std::vector<uint32_t> begins = {0, 128, 256, 352, 480, 608, 704};
  for (uint32_t i = 0; i < begins.size(); ++i) EXPECT_EQ(restarting.begin_of(i), begins[i]) << i;
  for (uint32_t row = 0; row < 704; ++row) {
    const uint32_t grid_row = restarting.grid_row_of(row);
    EXPECT_GE(row, begins[grid_row]);
    EXPECT_LT(row, begins[grid_row + 1]);
  }
}

// A model with the names of Qwen3-MoE, or of Qwen3 and Llama without experts.
std::vector<test::StoredTensor> llama_like_tensors(uint32_t num_experts) {
  using tensor::WeightFormat;
  std::vector<test::StoredTensor> tensors;
  test::RandomTensors random(3);
  const auto matrix = [&](const std::string& module, uint32_t rows, uint32_t columns) {
    random.matrix(module, rows, columns, WeightFormat::kBf16, 1, tensors);
  };
  const auto norm = [&](const std::string& module, uint32_t size) {
    random.vector(module + ".weight", size, WeightFormat::kBf16, 1.0F, 0.1F, tensors);
  };
  const auto feed_forward = [&](const std::string& prefix, uint32_t inner) {
    matrix(prefix + "gate_proj", inner, 128);
    matrix(prefix + "up_proj", inner, 128);
    matrix(prefix + "down_proj", 128, inner);
  };
  matrix("model.embed_tokens", 64, 128);
  matrix("lm_head", 64, 128);
  norm("model.norm", 128);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    norm(prefix + "input_layernorm", 128);
    norm(prefix + "post_attention_layernorm", 128);
    norm(prefix + "self_attn.q_norm", 32);
    matrix(prefix + "self_attn.q_proj", 160, 128);
    matrix(prefix + "self_attn.k_proj", 32, 128);
    matrix(prefix + "self_attn.v_proj", 32, 128);
    matrix(prefix + "self_attn.o_proj", 128, 160);
    if (num_experts == 0) feed_forward(prefix + "mlp.", 96);
    if (num_experts > 0) matrix(prefix + "mlp.gate", num_experts, 128);
    for (uint32_t expert = 0; expert < num_experts; ++expert) {
      feed_forward(fmt::format("{}mlp.experts.{}.", prefix, expert), 64);
    }
  }
  return tensors;
}

struct FamilyCase {
  std::string config;  // the keys that differ
  uint32_t num_experts;
  uint64_t num_mxfp4, num_fp8;
};

TEST(Families, LlamaQwenAndTheirExperts) {
  const std::vector<FamilyCase> cases = {
      {R"("model_type": "qwen3_moe", "num_experts": 5)", 5, 30, 8},
      {R"("model_type": "qwen3_moe", "num_local_experts": 3)", 3, 18, 8},
      {R"("model_type": "qwen3")", 0, 0, 14},
      {R"("model_type": "llama", "quantization_config": null)", 0, 0, 14}};
  for (const FamilyCase& test : cases) {
    SCOPED_TRACE(test.config);
    test::TemporaryDirectory folder;
    const std::string target = folder.path() + "_target";
    ASSERT_TRUE(
        test::write_checkpoint_files(folder.path(), llama_like_tensors(test.num_experts), 2, {}));
    ASSERT_TRUE(test::write_file(
        folder.path() + "/config.json",
        fmt::format(R"({{{}, "num_hidden_layers": 2, "rms_norm_eps": 1e-06}})", test.config)));
    const auto result = quantize(small_run(folder.path()), OutputFolder(target));
    ASSERT_TRUE(result) << result.error().message;
    uint64_t num_mxfp4 = 0, num_fp8 = 0;
    for (const KindSummary& kind : result->kinds) {
      if (kind.form == Form::kCopy) continue;
      (kind.form == Form::kMxfp4 ? num_mxfp4 : num_fp8) += kind.num_tensors;
      const double expected = kind.form == Form::kMxfp4 ? 0.112 : 0.0264;
      EXPECT_NEAR(kind.relative_error / expected, 1, 0.03);
    }
    EXPECT_EQ(num_mxfp4, test.num_mxfp4);
    EXPECT_EQ(num_fp8, test.num_fp8);
    const auto files = contents_of(target);
    std::filesystem::remove_all(target);
    const auto config = nlohmann::json::parse(files.at("config.json"));
    EXPECT_EQ(config["quantization_config"].contains("store_dtype"), test.num_mxfp4 > 0);
    EXPECT_TRUE(config["quantization_config"]["ignored_layers"].empty());
    const auto report = nlohmann::json::parse(files.at(std::string(kReportName)));
    EXPECT_EQ(report["tensors"].size(), num_mxfp4 + num_fp8);
    auto before = nlohmann::json::parse(contents_of(folder.path()).at("config.json"));
    before["quantization_config"] = config["quantization_config"];
    EXPECT_EQ(before, config);
  }
}

TEST(Families, AnIncompleteLayerIsNamed) {
  test::TemporaryDirectory folder;
  auto tensors = llama_like_tensors(4);
  std::erase_if(tensors, [](const test::StoredTensor& tensor) {
    return tensor.name == "model.layers.1.mlp.experts.2.up_proj.weight";
  });
  ASSERT_TRUE(test::write_checkpoint_files(folder.path(), tensors, 1, {}));
  ASSERT_TRUE(
      test::write_file(folder.path() + "/config.json",
                       R"({"model_type": "qwen3_moe", "num_hidden_layers": 2, "num_experts": 4})"));
  const auto result = quantize(small_run(folder.path()), OutputFolder(folder.path() + "_target"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_NE(result.error().message.find("model.layers.1.mlp.experts.2.up_proj.weight"),
            std::string::npos);
}

// Files of at most the limit, one tensor alone where it is larger, weights beside their scales.
TEST(PlanShards, FilesByTheLimit) {
  test::TemporaryDirectory folder;
  const auto generated = test::write_checkpoint(folder.path(), bf16_options());
  ASSERT_TRUE(generated);
  const auto checkpoint = model::Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint);
  const auto family = read_family(*checkpoint);
  ASSERT_TRUE(family) << family.error().message;
  const auto plan = plan_conversions(*checkpoint, *family, {});
  ASSERT_TRUE(plan);
  constexpr uint64_t kLimit = 100'000;
  const auto shards = plan_shards(plan->conversions, kLimit);
  EXPECT_GT(shards.size(), 10U);
  uint32_t next = 0;
  for (const PlannedShard& shard : shards) {
    EXPECT_EQ(shard.conversion_begin, next);
    next = shard.conversion_end;
    const uint64_t data_bytes = shard.bytes - shard.header.size();
    EXPECT_TRUE(data_bytes <= kLimit || shard.conversion_end - shard.conversion_begin == 1);
    const auto header = model::SafetensorsHeader::parse(
        shard.file, std::string_view(shard.header).substr(8), shard.header.size(), data_bytes);
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(header->tensors.size(), shard.tensors.size());
  }
  EXPECT_EQ(next, plan->conversions.size());
}

}  // namespace
}  // namespace ultraspeed::quantize
