// What a source's experts are said to read is what they read, and who cannot be calibrated.
#include "apps/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "apps/files.h"
#include "apps/loaded_model.h"
#include "apps/prompt.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kWindow = 300;  // the model's positions, fewer than kCalibrationWindow

class CalibrationText : public testing::Test {
 protected:
  void SetUp() override {
    options_.vocab_size = 12288;  // the tokenizer's
    options_.max_position_embeddings = kWindow;
    options_.expert_format = tensor::WeightFormat::kBf16;
    write_model();
    for (int i = 0; i < 120; ++i)
      text_ += fmt::format("{} times {} is {}.\n", i, i + 7, i * (i + 7));
    write_text(text_);
  }

  void write_model() {
    auto generated = test::write_checkpoint(folder_.path(), options_);
    ASSERT_TRUE(generated) << generated.error().message;
    generated_ = *std::move(generated);
    std::filesystem::copy_file(US_SOURCE_DIR "/models/tiny-mimo/tokenizer.json",
                               folder_.path() + "/tokenizer.json",
                               std::filesystem::copy_options::overwrite_existing);
  }
  void write_text(const std::string& text) { ASSERT_TRUE(write_file(asked_.text, text)); }

  void expect_error(ErrorCode code, const std::string& part) const {
    const auto prepared = prepare_calibration(asked_);
    ASSERT_FALSE(prepared);
    EXPECT_EQ(prepared.error().code, code);
    EXPECT_NE(prepared.error().message.find(part), std::string::npos) << prepared.error().message;
  }

  template <class Values>
  static double product(const test::DenseWeight& weight, uint32_t r, const Values& x) {
    double sum = 0;
    for (size_t i = 0; i < weight.columns; ++i) {
      sum += static_cast<double>(weight.values[r * size_t{weight.columns} + i]) *
             static_cast<double>(x[i]);
    }
    return sum;
  }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

  // An expert's output for a row.
  std::vector<double> expert_output(uint32_t layer, uint32_t expert,
                                    std::span<const float> row) const {
    const auto& gate_up = generated_.at(model::TensorRole::kExpertGateUp, layer, expert);
    const auto& down = generated_.at(model::TensorRole::kExpertDown, layer, expert);
    std::vector<double> activation(down.columns), output(down.rows);
    for (uint32_t i = 0; i < down.columns; ++i) {
      const double gate = product(gate_up, i, row);
      activation[i] = gate * sigmoid(gate) * product(gate_up, down.columns + i, row);
    }
    for (uint32_t r = 0; r < down.rows; ++r) output[r] = product(down, r, activation);
    return output;
  }

  // What a layer's experts add for a row, each by its share of the scores.
  std::vector<double> layer_output(uint32_t layer, std::span<const uint32_t> experts,
                                   std::span<const float> row) const {
    const auto& router = generated_.at(model::TensorRole::kRouter, layer);
    double sum = 0;
    for (const uint32_t expert : experts) sum += sigmoid(product(router, expert, row));
    std::vector<double> output(row.size());
    for (const uint32_t expert : experts) {
      const double weight = sigmoid(product(router, expert, row)) / sum;
      const std::vector<double> part = expert_output(layer, expert, row);
      for (size_t i = 0; i < output.size(); ++i) output[i] += weight * part[i];
    }
    return output;
  }

  test::TemporaryDirectory folder_, scratch_;
  test::GeneratorOptions options_;
  test::GeneratedCheckpoint generated_;
  std::string text_;
  CalibrationTextOptions asked_ = {.source = folder_.path(),
                                   .text = scratch_.path() + "/text.txt",
                                   .max_tokens = 700,
                                   .damping = 0.01,
                                   .num_threads = 2};
};

// The experts' outputs, computed from rows and routes, are what each layer adds to the residual.
TEST_F(CalibrationText, RowsAndRoutesExplainWhatLayersAdd) {
  const auto prepared = prepare_calibration(asked_);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->text, "text.txt");
  const quantize::ExpertInputsShape& shape = prepared->shape;
  EXPECT_EQ(shape.num_tokens, 700U);
  EXPECT_EQ(shape.layers, (std::vector<uint32_t>{1, 2, 3}));
  const OutputFolder scratch(scratch_.path());
  auto writer = quantize::ExpertInputsWriter::create(scratch, "inputs", shape);
  ASSERT_TRUE(writer);
  const Status read = prepared->read_text(&*writer);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_TRUE(writer->finish());
  const auto inputs = quantize::ExpertInputs::open(scratch_.path() + "/inputs", shape);
  ASSERT_TRUE(inputs) << inputs.error().message;

  ModelOptions options;
  options.directory = folder_.path();
  options.executor.kind = ExecutorKind::kCpu;
  options.speculation.drafter = DrafterChoice{.options = {}, .folder = {}};
  options.captured_layers = shape.layers;
  options.captures_expert_inputs = true;
  const auto model = LoadedModel::open(options);
  ASSERT_TRUE(model);
  const auto tokens = encode_raw(*model, text_);
  ASSERT_TRUE(tokens);
  const auto engine = model->open_engine(options, 1);
  ASSERT_TRUE(engine) << engine.error().message;
  const size_t hidden = shape.hidden_size;
  const auto check = [&](uint32_t begin, uint32_t count, const auto& residuals) -> Status {
    EXPECT_EQ(residuals.size(), 7U);  // before and after each, and the last layer's
    for (uint32_t layer = 0; layer < 3; ++layer) {
      const auto routes = inputs->routes(layer);
      EXPECT_TRUE(routes);
      for (uint32_t t = 0; t < count; t += 13) {
        const uint64_t token = kWindow + begin + t;  // of the second window
        std::vector<float> row(hidden);
        EXPECT_TRUE(inputs->read_row(layer, token, row));
        const auto experts = std::span(*routes).subspan(token * shape.top_k, shape.top_k);
        const std::vector<double> output = layer_output(layer + 1, experts, row);
        double squares = 0, errors = 0;
        for (size_t i = 0; i < hidden; ++i) {
          const double added = static_cast<double>(residuals[2 * layer + 1][t * hidden + i]) -
                               static_cast<double>(residuals[2 * layer][t * hidden + i]);
          squares += added * added;
          errors += (added - output[i]) * (added - output[i]);
        }
        EXPECT_LT(std::sqrt(errors / squares), 0.01) << layer << ", " << token;  // BF16 rows
      }
    }
    return {};
  };
  const Status checked = (*engine)->features(std::span(*tokens).subspan(kWindow, kWindow), check);
  EXPECT_TRUE(checked) << checked.error().message;
}

TEST_F(CalibrationText, Errors) {
  write_text("Hello.");
  expect_error(ErrorCode::kInvalidArgument, "expected at least 256");
  std::filesystem::remove(asked_.text);
  expect_error(ErrorCode::kNotFound, "text.txt");
  write_text(text_);
  std::filesystem::remove(folder_.path() + "/tokenizer.json");
  expect_error(ErrorCode::kNotFound, "no tokenizer.json");
  options_.moe_layers = {0, 0, 0, 0};
  write_model();
  expect_error(ErrorCode::kInvalidArgument, "has no experts");
  ASSERT_TRUE(write_file(folder_.path() + "/config.json", "{\"model_type\": \"llama\"}"));
  expect_error(ErrorCode::kInvalidData, "--calibrate: the source has to run here");
}

TEST(CalibrationWarning, IsOfTextsWithFewerRowsOfAnExpertThanColumns) {
  quantize::ExpertInputsShape shape = {
      .hidden_size = 512, .num_experts = 32, .top_k = 4, .num_tokens = 4096, .layers = {1}};
  EXPECT_EQ(short_text_warning(shape), "");
  shape.num_tokens = 4095;
  EXPECT_NE(short_text_warning(shape).find("4095 tokens may make the model worse than none: an "
                                           "expert reads 511 of them on average, and its matrices "
                                           "have 512 columns; better give 4096 tokens"),
            std::string::npos)
      << short_text_warning(shape);
}

}  // namespace
}  // namespace ultraspeed::apps
