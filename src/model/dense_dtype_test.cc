// Dense matrices rounded to FP8 as they are loaded: the rule, the error, which matrices, and that
// ranks get pieces of the same matrix.
#include "model/dense_dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "model/checkpoint.h"
#include "support/checkpoint_generator.h"
#include "support/dequantize.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

WeightShape shape_of(WeightFormat format, uint32_t rows, uint32_t columns) {
  return {format, rows, columns, tensor::packed_bytes(format, rows, columns)};
}

struct Quantized {
  Result<SquareSums> sums;
  std::vector<float> values;
};

Quantized quantize(uint32_t rows, uint32_t columns, const std::vector<float>& values) {
  const WeightShape shape = shape_of(WeightFormat::kFp8Block128, rows, columns);
  std::vector<std::byte> fp8(shape.bytes);
  Quantized quantized{quantize_fp8(shape_of(WeightFormat::kF32, rows, columns),
                                   std::as_bytes(std::span(values)), fp8),
                      {}};
  if (quantized.sums) quantized.values = test::dequantize(shape, fp8);
  return quantized;
}

TEST(QuantizeFp8, KeepsWhatTheCodesHold) {
  // Two rows of a block and a part of one, each with a scale of its own; 448 in each makes it 2^k.
  constexpr uint32_t kColumns = 140;
  std::vector<float> values(2 * kColumns);
  for (uint32_t i = 0; i < values.size(); ++i) {
    const bool is_second_block = i % kColumns >= 128;
    const float scale = (i < kColumns ? 0.5F : 8.0F) * (is_second_block ? 0.25F : 1.0F);
    const bool is_first_of_block = i % kColumns == 0 || i % kColumns == 128;
    values[i] = scale * (is_first_of_block ? -448.0F : static_cast<float>(i % 15) - 7.0F);
  }
  const Quantized quantized = quantize(2, kColumns, values);
  ASSERT_TRUE(quantized.sums) << quantized.sums.error().message;
  EXPECT_EQ(quantized.values, values);
  EXPECT_EQ(quantized.sums->errors, 0);
  EXPECT_GT(quantized.sums->values, 0);
}

TEST(QuantizeFp8, RoundsToTheNearestCodeTiesToEven) {
  std::vector<float> values(128, 0.0F);
  values[0] = 448;  // the scale is 1
  values[1] = 17;   // codes 16 and 18 are as near
  values[2] = 19;   // 18 and 20
  values[3] = -17.1F;
  values[4] = 0x1p-10F;  // half of the least code
  values[5] = 0x1.8p-9F;
  const Quantized quantized = quantize(1, 128, values);
  ASSERT_TRUE(quantized.sums);
  const std::vector<float> expected = {448, 16, 20, -18, 0, 0x1p-8F};
  EXPECT_EQ(std::vector(quantized.values.begin(), quantized.values.begin() + 6), expected);
  double errors = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    errors += std::pow(double{quantized.values[i]} - double{values[i]}, 2);
  }
  EXPECT_DOUBLE_EQ(quantized.sums->errors, errors);
}

TEST(QuantizeFp8, TakesZerosAndTinyValues) {
  const Quantized zeros = quantize(1, 128, std::vector<float>(128, 0.0F));
  ASSERT_TRUE(zeros.sums);
  EXPECT_EQ(zeros.values, std::vector<float>(128, 0.0F));
  EXPECT_EQ(zeros.sums->relative_rms(), 0);
  const Quantized tiny = quantize(1, 128, std::vector<float>(128, 1e-40F));
  ASSERT_TRUE(tiny.sums);
  for (const float value : tiny.values) EXPECT_LE(std::abs(value), 0x1p-126F);
}

TEST(QuantizeFp8, RefusesWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> values(3 * 130, 1.0F);
    values[130 + 129] = bad;
    const Quantized quantized = quantize(3, 130, values);
    ASSERT_FALSE(quantized.sums);
    EXPECT_EQ(quantized.sums.error().code, ErrorCode::kInvalidData);
    EXPECT_NE(quantized.sums.error().message.find("row 1, column 129"), std::string::npos)
        << quantized.sums.error().message;
  }
}

class DenseLoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(test::write_checkpoint(directory_.path(), {}).has_value());
    auto config = ModelConfig::load(directory_.path());
    auto checkpoint = Checkpoint::open(directory_.path());
    ASSERT_TRUE(config && checkpoint);
    config_ = std::move(*config);
    checkpoint_.emplace(std::move(*checkpoint));
  }

  // Dequantised. `loader` is a WeightLoader or a DenseLoader.
  template <class Loader>
  static std::vector<float> load(const Loader& loader, const WeightSource& source) {
    const auto shape = loader.shape(source);
    EXPECT_TRUE(shape) << shape.error().message;
    if (!shape) return {};
    std::vector<std::byte> packed(shape->bytes);
    const Status loaded = loader.load(source, packed);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return test::dequantize(*shape, packed);
  }

  test::TemporaryDirectory directory_;
  ModelConfig config_;
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(DenseLoaderTest, RoundsProjectionsAndHeadAlone) {
  const WeightLoader stored(*checkpoint_, config_);
  const DenseLoader loader(stored, config_, DenseDtype::kFp8);
  uint32_t num_rounded = 0;
  for (const WeightSource& source : all_weights(config_, 0, 1)) {
    const auto before = stored.shape(source), after = loader.shape(source);
    ASSERT_TRUE(before && after);
    const bool is_rounded = *before != *after;
    const bool is_bf16_dense =
        (source.role == TensorRole::kOProj || source.role == TensorRole::kLmHead) &&
        before->format == WeightFormat::kBf16;
    EXPECT_EQ(is_rounded, is_bf16_dense) << tensor_role_name(source.role);
    const std::vector<float> exact = load(stored, source);
    const std::vector<float> rounded = load(loader, source);
    if (!is_rounded) {
      EXPECT_EQ(exact, rounded) << tensor_role_name(source.role);
      continue;
    }
    ++num_rounded;
    EXPECT_EQ(after->format, WeightFormat::kFp8Block128);
    EXPECT_NE(exact, rounded);
    ASSERT_EQ(exact.size(), rounded.size());
  }
  EXPECT_EQ(num_rounded, config_.num_layers() + 1);
  const DenseError error = loader.error();
  EXPECT_EQ(error.num_matrices, num_rounded);
  EXPECT_LT(error.loaded_bytes, error.stored_bytes * 6 / 10);
  // Four significant bits: at most 1 / 16 of a value, and 1 / sqrt(12) of that if evenly spread.
  EXPECT_GT(error.relative_rms, 0.01);
  EXPECT_LT(error.relative_rms, 1.0 / 16);
  EXPECT_GE(error.worst_rms, error.relative_rms);
  EXPECT_NE(error.worst, "");
}

TEST_F(DenseLoaderTest, RanksHoldPiecesOfTheSameMatrix) {
  const DenseLoader loader({*checkpoint_, config_}, config_, DenseDtype::kFp8);
  const std::vector<float> whole = load(loader, {TensorRole::kOProj, 1, 0, 0, 1});
  const uint32_t columns = config_.layers[1].attention_output_size();
  for (uint32_t shard = 0; shard < 2; ++shard) {
    const std::vector<float> piece = load(loader, {TensorRole::kOProj, 1, 0, shard, 2});
    ASSERT_EQ(piece.size(), whole.size() / 2);
    for (size_t i = 0; i < piece.size(); ++i) {
      const size_t row = i / (columns / 2), column = i % (columns / 2) + shard * columns / 2;
      ASSERT_EQ(piece[i], whole[row * columns + column]) << "shard " << shard << ", " << i;
    }
  }
  const auto refused = loader.shape({TensorRole::kOProj, 1, 0, 0, 4});
  ASSERT_FALSE(refused);  // 64 columns a rank
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST_F(DenseLoaderTest, CheckpointDtypeChangesNothing) {
  const WeightLoader stored(*checkpoint_, config_);
  const DenseLoader loader(stored, config_, DenseDtype::kCheckpoint);
  const WeightSource head = {TensorRole::kLmHead, 0, 0, 0, 1};
  EXPECT_EQ(load(stored, head), load(loader, head));
  EXPECT_EQ(loader.error().num_matrices, 0u);
}

}  // namespace
}  // namespace ultraspeed::model
