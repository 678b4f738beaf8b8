// Whole runs with calibration, on inputs of a test's own.
#include "quantize/calibration.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/philox.h"
#include "model/tensor_names.h"
#include "quantize/family.h"
#include "quantize/quantize_fixture.h"
#include "support/scale.h"
#include "tensor/bf16.h"

namespace ultraspeed::quantize {
namespace {

constexpr uint64_t kNumTokens = test::kIsSanitized ? 210 : 700;
constexpr uint32_t kLonelyExpert = 6;  // one token
constexpr uint32_t kUnusedExpert = 7;  // none

class CalibratedRun : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(source_);
    generator_ = bf16_options();
    auto generated = test::write_checkpoint(source_, generator_);
    ASSERT_TRUE(generated) << generated.error().message;
    generated_ = *std::move(generated);
  }

  // A token's row has much in common with others; the first experts take turns.
  float row_value(uint32_t layer, uint64_t token, uint32_t column) const {
    const uint64_t place = layer * kNumTokens + token;
    double value = random_uniform(1, place, column) - 0.5;
    for (uint32_t k = 0; k < 6; ++k) {
      value += (random_uniform(2, place, k) - 0.5) * (4 * random_uniform(3, k, column) - 2);
    }
    return static_cast<float>(value);
  }

  Status write_inputs(ExpertInputsWriter* writer) {
    ++num_readings_;
    const uint32_t hidden = generator_.hidden_size, top_k = generator_.num_experts_per_token;
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint64_t token = 0; token < kNumTokens; ++token) {
        std::vector<uint16_t> row;
        for (uint32_t i = 0; i < hidden; ++i) {
          row.push_back(tensor::bf16_from_float(row_value(layer, token, i)));
        }
        if (token == bad_token_) row[3] = 0x7fc0;
        std::vector<uint32_t> route;
        for (uint32_t k = 0; k < top_k; ++k) {
          route.push_back(static_cast<uint32_t>((token + k) % 6));
        }
        if (token == 5) route.back() = kLonelyExpert;
        US_TRY(writer->add(layer, token, row, route));
      }
    }
    return {};
  }

  QuantizeOptions options(uint32_t num_threads = 2) {
    QuantizeOptions options = small_run(source_, num_threads);
    options.memory_bytes = 8'000'000;
    options.calibration = {.text = "text.txt",
                           .text_checksum = 77,
                           .damping = 0.01,
                           .shape = {.hidden_size = generator_.hidden_size,
                                     .num_experts = generator_.num_experts,
                                     .top_k = generator_.num_experts_per_token,
                                     .num_tokens = kNumTokens,
                                     .layers = {1, 2, 3}},
                           .read_text = [this](auto* writer) { return write_inputs(writer); }};
    return options;
  }

  void run(const QuantizeOptions& options, const std::string& target) const {
    const auto result = quantize(options, OutputFolder(target));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(std::filesystem::exists(target + "/.quantize"));
  }

  void expect_error(const QuantizeOptions& options, ErrorCode code, const std::string& part) const {
    const auto result = quantize(options, OutputFolder(target_));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_FALSE(model::Checkpoint::open(target_));
  }

  // The numbers of a matrix in a checkpoint.
  static std::vector<double> matrix(const std::string& folder, const std::string& module) {
    const auto checkpoint = model::Checkpoint::open(folder);
    EXPECT_TRUE(checkpoint);
    const auto stored = find_matrix(*checkpoint, module, {});
    std::vector<float> values(size_t{stored->rows} * stored->columns);
    std::vector<std::byte> buffer;
    EXPECT_TRUE(stored->read_rows(0, stored->rows, values, &buffer));
    return {values.begin(), values.end()};
  }

  // Of a gate's outputs for the layer's tokens, whoever they are routed to.
  double gate_error(const std::string& folder, uint32_t layer, uint32_t expert) const {
    const std::string module = model::expert_name(layer, expert, model::kExpertGateModule);
    const std::vector<double> exact = matrix(source_, module), rounded = matrix(folder, module);
    const size_t hidden = generator_.hidden_size;
    double sum = 0;
    for (uint64_t token = 0; token < kNumTokens; token += 7) {
      std::vector<double> x;
      for (uint32_t i = 0; i < hidden; ++i) {
        x.push_back(static_cast<double>(row_value(layer - 1, token, i)));
      }
      for (size_t row = 0; row < exact.size(); row += hidden) {
        double output = 0;
        for (size_t i = 0; i < hidden; ++i) output += (exact[row + i] - rounded[row + i]) * x[i];
        sum += output * output;
      }
    }
    return sum;
  }

  test::TemporaryDirectory folder_;
  std::string source_ = folder_.path() + "/source", target_ = folder_.path() + "/target";
  test::GeneratorOptions generator_;
  test::GeneratedCheckpoint generated_;
  int num_readings_ = 0;
  uint64_t bad_token_ = kNumTokens;
};

TEST_F(CalibratedRun, LowersTheOutputErrorOfEveryExpertThatRoundsAtAll) {
  const std::string nearest = folder_.path() + "/nearest";
  run(small_run(source_), nearest);
  run(options(), target_);
  EXPECT_EQ(num_readings_, 1);
  for (const uint32_t expert : {0U, 3U, kLonelyExpert, kUnusedExpert}) {
    EXPECT_LT(gate_error(target_, 2, expert), 0.5 * gate_error(nearest, 2, expert)) << expert;
  }
  // Experts alone, and only their codes and scales.
  const auto before = model::Checkpoint::open(nearest), after = model::Checkpoint::open(target_);
  ASSERT_TRUE(before && after);
  EXPECT_EQ(before->num_tensors(), after->num_tensors());
  const auto attention = model::layer_name(2, model::kQModule);
  EXPECT_EQ(matrix(target_, attention), matrix(nearest, attention));
  for (const auto name : {model::kExpertUpModule, model::kExpertDownModule}) {
    const std::string module = model::expert_name(3, 1, name);
    EXPECT_NE(matrix(target_, module), matrix(nearest, module));
  }
}

TEST_F(CalibratedRun, NeitherThreadsNorMemoryChangeAByte) {
  run(options(1), target_);
  const auto expected = contents_of(target_);
  for (const uint32_t num_threads : {2U, 5U}) {
    QuantizeOptions other = options(num_threads);
    if (num_threads == 5) other.memory_bytes = 1'000'000'000;
    const std::string target = folder_.path() + "/threads" + std::to_string(num_threads);
    run(other, target);
    EXPECT_EQ(contents_of(target) == expected, true) << num_threads;
  }
}

TEST_F(CalibratedRun, ContinuesWithWhatTheSourceHasRead) {
  run(options(), target_);
  const auto expected = contents_of(target_);
  uint64_t num_bytes = options().calibration->shape.file_bytes();
  const uint64_t input_bytes = num_bytes;
  for (const auto& [name, contents] : expected) num_bytes += contents.size();
  struct Stop {
    uint64_t bytes;
    int num_readings;  // in both runs
  };
  for (const Stop& stop : {Stop{input_bytes / 2, 2}, Stop{input_bytes + 1'000, 1},
                           Stop{(input_bytes + num_bytes) / 2, 1}}) {
    std::filesystem::remove_all(target_);
    num_readings_ = 0;
    ASSERT_FALSE(quantize(options(), LimitedFolder(target_, stop.bytes)));
    run(options(1), target_);
    EXPECT_EQ(num_readings_, stop.num_readings) << stop.bytes;
    EXPECT_EQ(contents_of(target_) == expected, true) << stop.bytes;
  }
}

TEST_F(CalibratedRun, AnotherTextIsAnotherRun) {
  const uint64_t input_bytes = options().calibration->shape.file_bytes();
  // Nothing was finished: the other text is read.
  ASSERT_FALSE(quantize(options(), LimitedFolder(target_, input_bytes + 1'000)));
  QuantizeOptions other = options();
  other.calibration->text_checksum = 78;
  ASSERT_FALSE(quantize(other, LimitedFolder(target_, input_bytes + 1'000'000)));
  EXPECT_EQ(num_readings_, 2);
  expect_error(options(), ErrorCode::kInvalidArgument, "another calibration");
}

// The second run stops before its own text is read: the third must not take the first one's.
TEST_F(CalibratedRun, AnotherTextsRowsAreNotTaken) {
  const uint64_t input_bytes = options().calibration->shape.file_bytes();
  ASSERT_FALSE(quantize(options(), LimitedFolder(target_, input_bytes + 1'000)));
  QuantizeOptions other = options();
  other.calibration->text_checksum = 78;
  ASSERT_FALSE(quantize(other, LimitedFolder(target_, input_bytes / 2)));
  run(other, target_);
  EXPECT_EQ(num_readings_, 3);
}

TEST_F(CalibratedRun, ADamagedFileOfInputsIsNoticed) {
  const uint64_t input_bytes = options().calibration->shape.file_bytes();
  ASSERT_FALSE(quantize(options(), LimitedFolder(target_, input_bytes + 1'000)));
  std::fstream file(target_ + "/.quantize/expert_inputs",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(input_bytes - 100));
  file.put('x');
  file.close();
  expect_error(options(), ErrorCode::kInvalidData, "expert_inputs: is not what was written");
}

TEST_F(CalibratedRun, TheReportNamesIt) {
  run(options(), target_);
  const auto report = nlohmann::json::parse(contents_of(target_).at("quantize_report.json"));
  const auto& named = report["flags"]["calibration"];
  EXPECT_EQ(named["method"], "gptq");
  EXPECT_EQ(named["text"], "text.txt");
  EXPECT_EQ(named["num_tokens"], kNumTokens);
  EXPECT_EQ(named["damping"], 0.01);
}

TEST_F(CalibratedRun, Errors) {
  bad_token_ = 9;
  expect_error(options(), ErrorCode::kInvalidData, "layer 1 computes NaN or infinity for token 9");
  bad_token_ = kNumTokens;
  QuantizeOptions small = options();
  small.memory_bytes = 1'500'000;
  expect_error(small, ErrorCode::kOutOfMemory, "--memory 1500000: calibration alone takes");
  QuantizeOptions other_model = options();
  other_model.calibration->shape.layers.push_back(4);
  expect_error(other_model, ErrorCode::kInvalidData, "model.layers.4.mlp.experts.0.gate_proj");
  QuantizeOptions other_size = options();
  other_size.calibration->shape.hidden_size = 128;
  expect_error(other_size, ErrorCode::kInvalidData, "has 256 columns; expected 128");
}

TEST_F(CalibratedRun, ARefusedRunLeavesNothing) {
  QuantizeOptions large = options();
  large.calibration->shape.num_tokens = uint64_t{1} << 44;
  large.memory_bytes = uint64_t{1} << 60;
  expect_error(large, ErrorCode::kIo, "are free; expected");
  EXPECT_FALSE(std::filesystem::exists(target_));
  bad_token_ = 9;
  expect_error(options(), ErrorCode::kInvalidData, "for token 9");
  EXPECT_FALSE(std::filesystem::exists(target_));
  std::filesystem::create_directory(target_);
  expect_error(options(), ErrorCode::kInvalidData, "for token 9");
  EXPECT_TRUE(std::filesystem::is_empty(target_));
  // What was finished stays, to go on from.
  bad_token_ = kNumTokens;
  const uint64_t input_bytes = options().calibration->shape.file_bytes();
  ASSERT_FALSE(quantize(options(), LimitedFolder(target_, input_bytes + 1'000)));
  EXPECT_TRUE(std::filesystem::exists(target_ + "/.quantize/expert_inputs"));
}

TEST_F(CalibratedRun, ADampingOutOfItsRangeIsRefusedBeforeTheTextIsRead) {
  for (const double damping : {std::nan(""), 0.0, -1.0, 2e6, HUGE_VAL}) {
    QuantizeOptions wrong = options();
    wrong.calibration->damping = damping;
    expect_error(wrong, ErrorCode::kInvalidArgument, "expected 1e-06 to 1000000");
  }
  EXPECT_EQ(num_readings_, 0);
  EXPECT_FALSE(std::filesystem::exists(target_));
}

// As a damping does that is too small for the inputs' rounding errors.
TEST_F(CalibratedRun, InputsThatCannotBeFactoredAreAnError) {
  const ExpertInputsShape shape = options().calibration->shape;
  const OutputFolder folder(folder_.path());
  {
    auto writer = ExpertInputsWriter::create(folder, "inputs", shape);
    ASSERT_TRUE(writer && write_inputs(&*writer) && writer->finish());
  }
  const auto checkpoint = model::Checkpoint::open(source_);
  auto plan = plan_conversions(*checkpoint, *read_family(*checkpoint), {});
  ASSERT_TRUE(plan && find_inputs(shape, &plan->conversions));
  const auto expert = std::find_if(plan->conversions.begin(), plan->conversions.end(),
                                   [](const Conversion& c) { return c.input.has_value(); });
  Calibration calibration(*ExpertInputs::open(folder.path_of("inputs"), shape), plan->conversions,
                          -1, 1);
  const auto feedback = calibration.feedback(*expert->input);
  ASSERT_FALSE(feedback);
  EXPECT_EQ(feedback.error().code, ErrorCode::kInvalidData);
  EXPECT_NE(feedback.error().message.find("expected a larger damping"), std::string::npos)
      << feedback.error().message;
}

TEST_F(CalibratedRun, NanInAWeightIsNamed) {
  for (test::StoredTensor& tensor : generated_.tensors) {
    if (tensor.name != "model.layers.1.mlp.experts.2.up_proj.weight") continue;
    const uint16_t nan = 0x7fc0;
    std::memcpy(&tensor.bytes[2 * 300], &nan, sizeof(nan));
  }
  ASSERT_TRUE(test::write_checkpoint(source_, generator_, generated_));
  expect_error(options(), ErrorCode::kInvalidData,
               "'model.layers.1.mlp.experts.2.up_proj.weight' stands for nan at row 1, column 44");
}

}  // namespace
}  // namespace ultraspeed::quantize
