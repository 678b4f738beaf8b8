#include "quantize/quantizer.h"

#include "model/checkpoint.h"
#include "quantize/quantize_fixture.h"
#include "support/dequantize.h"
#include "support/model_runner.h"

namespace ultraspeed::quantize {
namespace {

using test::StoredTensor;

// What the checkpoint should become, tensor by tensor.
std::vector<StoredTensor> reference_tensors(const std::vector<StoredTensor>& tensors,
                                            uint64_t qkv_chunks) {
  std::vector<StoredTensor> expected;
  for (const StoredTensor& tensor : tensors) {
    std::string module = tensor.name;
    const bool is_weight = module.ends_with(".weight") && tensor.shape.size() == 2;
    if (is_weight) module.resize(module.size() - std::string(".weight").size());
    std::vector<StoredTensor> made = {tensor};
    const auto contains = [&](const char* part) { return module.find(part) != std::string::npos; };
    if (is_weight && contains(".experts.")) {
      made = reference_mxfp4(tensor, module);
    } else if (is_weight && (contains("q_proj") || contains("k_proj") || contains("v_proj"))) {
      made = reference_fp8(tensor, module, contains("qkv_proj") ? qkv_chunks : 1);
    } else if (is_weight && contains(".mlp.") && !module.ends_with(".gate")) {
      made = reference_fp8(tensor, module, 1);
    }
    std::move(made.begin(), made.end(), std::back_inserter(expected));
  }
  return expected;
}

class QuantizeLayouts : public testing::TestWithParam<model::QkvLayout> {
 protected:
  void SetUp() override {
    options_ = bf16_options(GetParam());
    source_ = folder_.path() + "/source";
    target_ = folder_.path() + "/target";
    std::filesystem::create_directory(source_);
    auto generated = test::write_checkpoint(source_, options_);
    ASSERT_TRUE(generated) << generated.error().message;
    generated_ = *std::move(generated);
    const auto result = quantize(small_run(source_), OutputFolder(target_));
    ASSERT_TRUE(result) << result.error().message;
    result_ = *result;
  }

  std::vector<StoredTensor> expected() const {
    return reference_tensors(generated_.tensors, options_.num_kv_heads);
  }

  test::GeneratorOptions options_;
  test::TemporaryDirectory folder_;
  std::string source_, target_;
  test::GeneratedCheckpoint generated_;
  QuantizeResult result_;
};

TEST_P(QuantizeLayouts, EveryTensorIsTheReferences) {
  const auto checkpoint = model::Checkpoint::open(target_);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto all = expected();
  EXPECT_EQ(checkpoint->num_tensors(), all.size());
  EXPECT_EQ(checkpoint->save_format(), "mxfp4");
  EXPECT_GT(result_.num_files, 3U);
  EXPECT_EQ(checkpoint->files().size(), result_.num_files);
  for (const StoredTensor& tensor : all) {
    const auto found = checkpoint->find(tensor.name);
    ASSERT_TRUE(found) << tensor.name;
    EXPECT_EQ(model::dtype_name(found->info->dtype), tensor.dtype) << tensor.name;
    ASSERT_EQ(found->info->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(found->info->offset % model::dtype_bytes(found->info->dtype), 0U) << tensor.name;
    std::vector<std::byte> bytes(found->info->bytes);
    ASSERT_TRUE(checkpoint->read(tensor.name, bytes));
    EXPECT_EQ(bytes, tensor.bytes) << tensor.name;
  }
}

// The engine loads the result and computes the very logits of one that the test has made.
TEST_P(QuantizeLayouts, TheEngineComputesTheSame) {
  const std::string reference = folder_.path() + "/reference";
  std::filesystem::create_directory(reference);
  std::filesystem::copy_file(target_ + "/config.json", reference + "/config.json");
  const test::Metadata metadata = {{"tp_size", std::to_string(options_.num_kv_heads)},
                                   {"save_format", "mxfp4"}};
  ASSERT_TRUE(test::write_checkpoint_files(reference, expected(), 1, metadata));
  const std::vector<int32_t> prompt = {1, 200, 33, 7, 150, 99};
  std::vector<std::vector<test::TopLogits>> logits;
  for (const std::string& folder : {target_, reference}) {
    auto runner = test::ModelRunner::open(folder, {});
    ASSERT_TRUE(runner) << runner.error().message;
    std::vector<int32_t> text = prompt;
    auto& all = logits.emplace_back();
    for (int step = 0; step < 12; ++step) {
      const auto top =
          step == 0 ? runner->feed(prompt, 1, 8) : runner->feed(std::span(text).last(1), 1, 8);
      ASSERT_TRUE(top) << top.error().message;
      all.push_back(top->front());
      text.push_back(top->front().ids.front());
    }
  }
  for (size_t step = 0; step < logits[0].size(); ++step) {
    EXPECT_EQ(logits[0][step].ids, logits[1][step].ids) << step;
    EXPECT_EQ(logits[0][step].logits, logits[1][step].logits) << step;
  }
}

TEST_P(QuantizeLayouts, NeitherThreadsNorMemoryNorSourceFilesChangeAByte) {
  const auto expected_files = contents_of(target_);
  struct Variant {
    uint32_t num_threads;
    uint64_t memory_bytes;
  };
  for (const Variant& variant :
       {Variant{1, 1'000'000}, Variant{5, 3'000'000}, Variant{2, 4'000'000'000}}) {
    QuantizeOptions options = small_run(source_, variant.num_threads);
    options.memory_bytes = variant.memory_bytes;
    const std::string other = folder_.path() + "/other";
    const auto result = quantize(options, OutputFolder(other));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(contents_of(other), expected_files) << variant.num_threads;
    std::filesystem::remove_all(other);
  }
  // The same tensors in a single file give the same files.
  const std::string single = folder_.path() + "/single";
  std::filesystem::create_directory(single);
  test::GeneratorOptions single_options = options_;
  single_options.num_files = 1;
  ASSERT_TRUE(test::write_checkpoint(single, single_options, generated_));
  const auto result = quantize(small_run(single), OutputFolder(folder_.path() + "/from_single"));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(contents_of(folder_.path() + "/from_single"), expected_files);
}

TEST_P(QuantizeLayouts, ConfigSaysWhatTheFilesHold) {
  const auto config = model::ModelConfig::load(target_);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->quantization.has_fp8_linears);
  EXPECT_TRUE(config->quantization.has_mxfp4_experts);
  EXPECT_EQ(config->quantization.ignored_layers,
            (std::vector<std::string>{
                "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj",
                "model.layers.2.self_attn.o_proj", "model.layers.3.self_attn.o_proj",
                "model.mtp.layers.0.self_attn.o_proj"}));
  const auto source = model::ModelConfig::load(source_);
  ASSERT_TRUE(source);
  EXPECT_EQ(config->layers.size(), source->layers.size());
  EXPECT_EQ(config->qkv_layout, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Layouts, QuantizeLayouts,
                         testing::Values(model::QkvLayout::kSplit, model::QkvLayout::kFused),
                         [](const auto& instance) {
                           return instance.param == model::QkvLayout::kSplit ? "Split" : "Fused";
                         });

class Quantize : public testing::Test {
 protected:
  std::string write(const test::GeneratorOptions& options, const std::string& name = "source") {
    std::string path = folder_.path() + "/" + name;
    std::filesystem::create_directory(path);
    auto generated = test::write_checkpoint(path, options);
    EXPECT_TRUE(generated) << generated.error().message;
    if (generated) generated_ = *std::move(generated);
    return path;
  }

  test::TemporaryDirectory folder_;
  test::GeneratedCheckpoint generated_;
};

// MXFP4 experts stand for the same numbers afterwards, FP8 layers have the same bytes.
TEST_F(Quantize, AQuantisedCheckpointKeepsItsNumbers) {
  const std::string source = write({});
  for (const ScaleRule rule : kAllScaleRules) {
    const std::string target = folder_.path() + "/" + std::string(scale_rule_name(rule));
    QuantizeOptions options = small_run(source);
    options.scale_rule = rule;
    const auto result = quantize(options, OutputFolder(target));
    ASSERT_TRUE(result) << result.error().message;
    for (const KindSummary& kind : result->kinds) EXPECT_EQ(kind.worst_error, 0);
    const auto checkpoint = model::Checkpoint::open(target);
    const auto config = model::ModelConfig::load(target);
    ASSERT_TRUE(checkpoint && config);
    const model::WeightLoader loader(*checkpoint, *config);
    const auto before = model::Checkpoint::open(source);
    ASSERT_TRUE(before);
    for (const auto& weight : model::all_weights(*config, 0, 1)) {
      const auto shape = loader.shape(weight);
      ASSERT_TRUE(shape) << shape.error().message;
      std::vector<std::byte> packed(shape->bytes);
      ASSERT_TRUE(loader.load(weight, packed));
      EXPECT_EQ(test::dequantize(*shape, packed),
                generated_.at(weight.role, weight.layer, weight.expert).values);
    }
  }
}

// FP8 experts become what their numbers become, their linear layers stay.
TEST_F(Quantize, Fp8ExpertsAreReadThroughTheirScales) {
  test::GeneratorOptions options;
  options.expert_format = tensor::WeightFormat::kFp8Block128;
  options.restart_split_scale_grid = true;
  const std::string source = write(options);
  const std::string target = folder_.path() + "/target";
  const auto result = quantize(small_run(source), OutputFolder(target));
  ASSERT_TRUE(result) << result.error().message;
  const auto checkpoint = model::Checkpoint::open(target);
  ASSERT_TRUE(checkpoint);
  const test::DenseWeight& dense = generated_.at(model::TensorRole::kExpertDown, 2, 5);
  const std::string module = "model.layers.2.mlp.experts.5.down_proj";
  const auto bytes = std::as_bytes(std::span(dense.values));
  const StoredTensor as_f32{"", "F32", {dense.rows, dense.columns}, {bytes.begin(), bytes.end()}};
  for (const StoredTensor& tensor : reference_mxfp4(as_f32, module)) {
    std::vector<std::byte> stored(tensor.bytes.size());
    ASSERT_TRUE(checkpoint->read(tensor.name, stored)) << tensor.name;
    EXPECT_EQ(stored, tensor.bytes) << tensor.name;
  }
  EXPECT_FALSE(checkpoint->find(module + ".weight_scale_inv"));
  for (const StoredTensor& tensor : generated_.tensors) {
    if (tensor.name.find("self_attn") == std::string::npos) continue;
    std::vector<std::byte> stored(tensor.bytes.size());
    ASSERT_TRUE(checkpoint->read(tensor.name, stored)) << tensor.name;
    EXPECT_EQ(stored, tensor.bytes) << tensor.name;
  }
}

TEST_F(Quantize, FlagsChooseWhatBecomesFp8) {
  const std::string source = write(bf16_options());
  const auto dtypes = [&](const LinearOptions& linears, const std::string& name) {
    QuantizeOptions options = small_run(source);
    options.linears = linears;
    const auto result = quantize(options, OutputFolder(folder_.path() + "/" + name));
    EXPECT_TRUE(result) << result.error().message;
    const auto checkpoint = model::Checkpoint::open(folder_.path() + "/" + name);
    EXPECT_TRUE(checkpoint);
    std::string text;
    for (const std::string& module :
         {std::string("model.layers.0.self_attn.k_proj"), std::string("model.layers.0.mlp.up_proj"),
          std::string("model.layers.3.self_attn.o_proj"), std::string("model.embed_tokens"),
          std::string("lm_head"), std::string("model.layers.1.mlp.gate")}) {
      text += std::string(model::dtype_name(checkpoint->find(module + ".weight")->info->dtype));
      text += ' ';
    }
    return text;
  };
  using enum LinearForm;
  EXPECT_EQ(dtypes({}, "a"), "F8_E4M3 F8_E4M3 BF16 BF16 BF16 F32 ");
  EXPECT_EQ(dtypes({.linears = kKeep}, "b"), "BF16 BF16 BF16 BF16 BF16 F32 ");
  EXPECT_EQ(dtypes({.output_projections = kFp8, .embedding = kFp8, .head = kFp8}, "c"),
            "F8_E4M3 F8_E4M3 F8_E4M3 F8_E4M3 F8_E4M3 F32 ");
  EXPECT_EQ(dtypes({.linears = kKeep, .head = kFp8}, "d"), "BF16 BF16 BF16 BF16 F8_E4M3 F32 ");
}

TEST_F(Quantize, OtherFilesAreCopied) {
  const std::string source = write(bf16_options());
  std::filesystem::create_directories(source + "/dflash/deep");
  std::filesystem::create_directory(source + "/original");
  ASSERT_TRUE(test::write_file(source + "/tokenizer.json", std::string(3'000'000, 'x')));
  ASSERT_TRUE(test::write_file(source + "/dflash/deep/mask_embedding.pt", "mask"));
  ASSERT_TRUE(test::write_file(source + "/pytorch_model.bin", "weights"));
  ASSERT_TRUE(test::write_file(source + "/.hidden", "hidden"));
  const auto result = quantize(small_run(source), OutputFolder(folder_.path() + "/target"));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->not_copied,
            (std::vector<std::string>{".hidden", "original/", "pytorch_model.bin"}));
  auto files = contents_of(folder_.path() + "/target");
  EXPECT_EQ(files["tokenizer.json"], std::string(3'000'000, 'x'));
  EXPECT_EQ(files["dflash/deep/mask_embedding.pt"], "mask");
  EXPECT_FALSE(files.contains("pytorch_model.bin"));
  EXPECT_EQ(files["generation_config.json"], contents_of(source)["generation_config.json"]);
}

TEST_F(Quantize, ProgressReachesItsTotal) {
  const std::string source = write(bf16_options());
  QuantizeOptions options = small_run(source);
  uint64_t last = 0, total = 0;
  options.progress = [&](uint64_t done, uint64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  ASSERT_TRUE(quantize(options, OutputFolder(folder_.path() + "/target")));
  EXPECT_GT(total, 1'000'000U);
  EXPECT_NEAR(static_cast<double>(last), static_cast<double>(total),
              0.02 * static_cast<double>(total));  // headers are not counted
}

}  // namespace
}  // namespace ultraspeed::quantize
