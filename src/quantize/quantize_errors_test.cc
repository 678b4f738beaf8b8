// What the outside world gets wrong, and what is said then.
#include <limits>

#include "model/checkpoint.h"
#include "quantize/quantize_fixture.h"

namespace ultraspeed::quantize {
namespace {

using test::StoredTensor;

class QuantizeErrors : public testing::Test {
 protected:
  void SetUp() override {
    source_ = folder_.path() + "/source";
    target_ = folder_.path() + "/target";
    std::filesystem::create_directory(source_);
    options_ = bf16_options();
    options_.num_files = 2;
    generated_ = test::generate_checkpoint(options_);
    write();
  }

  void write() {
    const Status status = test::write_checkpoint(source_, options_, generated_);
    ASSERT_TRUE(status) << status.error().message;
  }

  StoredTensor& tensor(const std::string& name) {
    for (StoredTensor& stored : generated_.tensors) {
      if (stored.name == name) return stored;
    }
    ADD_FAILURE() << name;
    return generated_.tensors.front();
  }

  void set_bf16(const std::string& name, size_t index, uint16_t bits) {
    std::memcpy(&tensor(name).bytes[2 * index], &bits, sizeof(bits));
  }

  // The run fails with this error, and leaves nothing that looks like a checkpoint.
  void expect_error(const QuantizeOptions& options, ErrorCode code,
                    const std::vector<std::string>& parts) const {
    const auto result = quantize(options, OutputFolder(target_));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code) << result.error().message;
    for (const std::string& part : parts) {
      EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    }
    EXPECT_FALSE(model::Checkpoint::open(target_));
  }
  void expect_error(ErrorCode code, const std::vector<std::string>& parts) const {
    expect_error(small_run(source_), code, parts);
  }

  test::TemporaryDirectory folder_;
  std::string source_, target_;
  test::GeneratorOptions options_;
  test::GeneratedCheckpoint generated_;
};

constexpr uint16_t kBf16Nan = 0x7fc0;
constexpr uint16_t kBf16Infinity = 0xff80;

TEST_F(QuantizeErrors, NanAndInfinityAreNamedWithTheirPlace) {
  const std::string expert = "model.layers.2.mlp.experts.3.up_proj.weight";  // [64, 256]
  set_bf16(expert, 17 * 256 + 45, kBf16Nan);
  write();
  expect_error(ErrorCode::kInvalidData, {expert, "row 17, column 45", "nan"});
  set_bf16(expert, 17 * 256 + 45, 0);
  const std::string linear = "model.layers.0.self_attn.q_proj.weight";
  set_bf16(linear, 255, kBf16Infinity);
  write();
  std::filesystem::remove_all(target_);
  expect_error(ErrorCode::kInvalidData, {linear, "row 0, column 255", "-inf"});
  set_bf16(linear, 255, 0);
  const std::string norm = "model.layers.1.input_layernorm.weight";
  set_bf16(norm, 8, kBf16Nan);
  write();
  std::filesystem::remove_all(target_);
  expect_error(ErrorCode::kInvalidData, {norm, "column 8"});
}

// The first of several, whatever the threads.
TEST_F(QuantizeErrors, TheFirstBadTensorIsNamed) {
  for (const int expert : {6, 1, 4}) {
    set_bf16("model.layers.1.mlp.experts." + std::to_string(expert) + ".gate_proj.weight", 3,
             kBf16Nan);
  }
  write();
  for (const uint32_t num_threads : {1U, 2U, 7U}) {
    std::filesystem::remove_all(target_);
    QuantizeOptions options = small_run(source_, num_threads);
    options.memory_bytes = 3'000'000;
    expect_error(options, ErrorCode::kInvalidData, {"model.layers.1.mlp.experts.1.gate_proj"});
  }
}

TEST_F(QuantizeErrors, BadScalesOfFp8) {
  options_.linear_format = options_.expert_format = tensor::WeightFormat::kFp8Block128;
  generated_ = test::generate_checkpoint(options_);
  const std::string scale = "model.layers.1.mlp.experts.2.down_proj.weight_scale_inv";
  const float bad = -std::numeric_limits<float>::infinity();
  std::memcpy(tensor(scale).bytes.data() + sizeof(float), &bad, sizeof(bad));
  write();
  expect_error(ErrorCode::kInvalidData, {scale, "row 1, column 0"});
}

TEST_F(QuantizeErrors, FoldersThatCannotBeTheTarget) {
  const auto expect_refused = [&](const std::string& target, const std::string& part) {
    const auto before = contents_of(source_);
    const auto result = quantize(small_run(source_), OutputFolder(target));
    ASSERT_FALSE(result) << target;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_EQ(contents_of(source_) == before, true);
  };
  expect_refused(source_, "is the source");
  expect_refused(source_ + "/../source/", "is the source");
  expect_refused(source_ + "/deep/target", "lies in the source");
  std::filesystem::create_directory(target_);
  ASSERT_TRUE(test::write_file(target_ + "/precious.txt", "mine"));
  expect_refused(target_, "it holds 'precious.txt'");
  EXPECT_EQ(contents_of(target_).size(), 1U);
  ASSERT_TRUE(test::write_file(folder_.path() + "/file", "mine"));
  expect_refused(folder_.path() + "/file", "is a file");
  // A finished run is not begun again.
  const std::string done = folder_.path() + "/done";
  ASSERT_TRUE(quantize(small_run(source_), OutputFolder(done)));
  expect_refused(done, "expected a folder that is new or empty");
}

TEST_F(QuantizeErrors, TheTargetCannotBeCreated) {
  ASSERT_TRUE(test::write_file(folder_.path() + "/file", "mine"));
  const auto result = quantize(small_run(source_), OutputFolder(folder_.path() + "/file/target"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo) << result.error().message;
}

TEST_F(QuantizeErrors, DamagedSources) {
  const auto result = quantize(small_run(source_ + "/none"), OutputFolder(target_));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  const std::string shard = source_ + "/model-00002-of-00002.safetensors";
  const auto size = std::filesystem::file_size(shard);
  std::filesystem::resize_file(shard, size - 1000);
  expect_error(ErrorCode::kInvalidData, {"model-00002-of-00002.safetensors", "truncated"});
  std::filesystem::remove(shard);
  expect_error(ErrorCode::kNotFound, {"model-00002-of-00002.safetensors"});
}

TEST_F(QuantizeErrors, AMissingTensorIsFoundBeforeAnythingIsWritten) {
  const std::string name = "model.layers.3.mlp.experts.7.down_proj.weight";
  std::erase_if(generated_.tensors,
                [&](const StoredTensor& stored) { return stored.name == name; });
  write();
  expect_error(ErrorCode::kNotFound, {name});
  EXPECT_FALSE(std::filesystem::exists(target_));
}

TEST_F(QuantizeErrors, ColumnsThatAreNoWholeBlocks) {
  options_.moe_intermediate_size = 48;
  generated_ = test::generate_checkpoint(options_);
  write();
  expect_error(ErrorCode::kUnsupported, {"down_proj.weight", "48 columns", "multiple of 32"});
  EXPECT_FALSE(std::filesystem::exists(target_));
}

TEST_F(QuantizeErrors, DtypesThatCannotBeRead) {
  tensor("model.mtp.layers.0.self_attn.k_proj.weight").dtype = "F16";
  write();
  expect_error(ErrorCode::kUnsupported, {"model.mtp.layers.0.self_attn.k_proj.weight", "is F16"});
}

TEST_F(QuantizeErrors, AScaleWithoutAWeight) {
  generated_.tensors.push_back(
      {"model.layers.0.mlp.spare.weight_scale_inv", "F32", {1, 1}, std::vector<std::byte>(4)});
  write();
  expect_error(ErrorCode::kInvalidData,
               {"model.layers.0.mlp.spare.weight_scale_inv", "its weight"});
}

TEST_F(QuantizeErrors, TooLittleMemory) {
  QuantizeOptions options = small_run(source_, 2);
  options.memory_bytes = 900'000;
  expect_error(options, ErrorCode::kInvalidArgument, {"--memory 900000"});
  options.memory_bytes = 1'000'000;
  options.num_threads = 8;
  expect_error(options, ErrorCode::kOutOfMemory, {"--memory", "--threads"});
}

TEST_F(QuantizeErrors, OtherFamilies) {
  const auto expect_config = [&](const std::string& json, ErrorCode code, const std::string& part) {
    ASSERT_TRUE(test::write_file(source_ + "/config.json", json));
    expect_error(code, {"config.json", part});
  };
  expect_config(R"({"model_type": "gpt_oss"})", ErrorCode::kUnsupported, "nothing to quantise");
  expect_config(R"({"model_type": "deepseek_v3"})", ErrorCode::kUnsupported, "qwen3_moe");
  expect_config("{}", ErrorCode::kUnsupported, "missing");
  expect_config("[]", ErrorCode::kInvalidData, "not a JSON object");
  expect_config(std::string(100, '[') + std::string(100, ']'), ErrorCode::kInvalidData, "nested");
  expect_config(R"({"model_type": "qwen3", "quantization_config": {"quant_method": "gptq"}})",
                ErrorCode::kUnsupported, "quantise the original");
  expect_config(R"({"model_type": "qwen3_moe", "num_hidden_layers": 0})", ErrorCode::kInvalidData,
                "num_hidden_layers");
}

}  // namespace
}  // namespace ultraspeed::quantize
