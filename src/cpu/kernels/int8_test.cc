// Every int8 kernel that this processor has gives the bits of the plain loops, and these are what
// docs/numerics.md says.
#include "cpu/kernels/int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/executor.h"
#include "cpu/kernels/added_products_test.h"
#include "cpu/math.h"
#include "hwy/targets.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cpu {
namespace {

using tensor::WeightFormat;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

// A matrix in the int8 layout and the packed one it was made of.
struct TestMatrix {
  std::vector<std::byte> packed, memory;
  Matrix as_packed, as_int8;
};

TestMatrix make_matrix(WeightFormat format, uint32_t rows, uint32_t cols,
                       std::vector<std::byte> packed) {
  TestMatrix test;
  test.packed = std::move(packed);
  test.memory = test.packed;
  test.memory.resize(std::max<size_t>(test.packed.size(), int8_layout_bytes(format, rows, cols)));
  EXPECT_TRUE(fits_int8_layout(format, cols));
  to_int8_layout(format, rows, cols, test.memory);
  test.as_packed = {format, rows, cols, test.packed.data()};
  test.as_int8 = {format, rows, cols, test.memory.data(), WeightLayout::kInt8};
  return test;
}

// Every code; scales of several powers of two.
TestMatrix random_matrix(WeightFormat format, uint32_t rows, uint32_t cols, std::mt19937* random) {
  std::vector<std::byte> packed(tensor::packed_bytes(format, rows, cols));
  const uint64_t codes = tensor::code_bytes(format, rows, cols);
  for (uint64_t i = 0; i < packed.size(); ++i) {
    auto code = static_cast<uint8_t>((*random)());
    const bool is_fp8_nan = format == WeightFormat::kFp8Block128 && (code & 0x7f) == 0x7f;
    if (is_fp8_nan) code = 0x7e;
    if (i >= codes) code = static_cast<uint8_t>(120 + code % 12);
    packed[i] = static_cast<std::byte>(code);
  }
  if (format == WeightFormat::kFp8Block128) {
    std::uniform_real_distribution<float> scale(0.001F, 0.1F);
    for (uint64_t i = codes; i < packed.size(); i += sizeof(float)) {
      const float value = scale(*random);
      std::memcpy(&packed[i], &value, sizeof(value));
    }
  }
  return make_matrix(format, rows, cols, std::move(packed));
}

std::vector<float> random_inputs(size_t count, std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(*random);
  return values;
}

std::vector<Int8Block> quantized(const std::vector<float>& values) {
  std::vector<Int8Block> blocks(values.size() / kInt8BlockColumns);
  quantize_plain(values.data(), static_cast<uint32_t>(values.size()), blocks.data());
  return blocks;
}

std::vector<const Int8Block*> pointers(const std::vector<Int8Block>& blocks, uint32_t num_inputs) {
  std::vector<const Int8Block*> x;
  for (uint32_t i = 0; i < num_inputs; ++i) x.push_back(&blocks[i * blocks.size() / num_inputs]);
  return x;
}

// One binary32 operation after the other, straight from the document.
float product(const TestMatrix& matrix, uint32_t row, const Int8Block* x, uint32_t begin,
              uint32_t end, uint32_t piece) {
  float sum = 0;
  for (uint32_t column = begin; column < end; column += piece) {
    const uint32_t block = column / 32;
    const Int8Weights weights = int8_weights(matrix.as_int8, row, block);
    int64_t dot = 0;
    for (uint32_t i = column % 32; i < column % 32 + piece; ++i) {
      dot += int64_t{weights.codes[i]} * x[block].codes[i];
    }
    sum = std::fma(static_cast<float>(dot), weights.scale * x[block].scale, sum);
  }
  return sum;
}

struct PieceShape {
  uint32_t rows, cols, chunks, piece;
  std::vector<uint32_t> begins = {};  // of chunks and of what follows them; empty: equal parts
};

void expect_equal_products(const TestMatrix& matrix, const PieceShape& shape,
                           const std::vector<Int8Block>& blocks, uint32_t num_inputs) {
  const std::vector<const Int8Block*> x = pointers(blocks, num_inputs);
  const uint32_t first = 3, num_rows = shape.rows - 5;
  const MatrixRows rows{matrix.as_int8, first, num_rows, shape.chunks};
  const size_t stride = num_rows + 2;
  std::vector<float> expected(num_inputs * shape.chunks * stride, -1);
  const uint32_t chunk_columns = shape.cols / shape.chunks;
  const auto begin = [&](uint32_t chunk) {
    return shape.begins.empty() ? chunk * chunk_columns : shape.begins[chunk];
  };
  for (uint32_t i = 0; i < num_inputs; ++i) {
    for (uint32_t chunk = 0; chunk < shape.chunks; ++chunk) {
      for (uint32_t r = 0; r < num_rows; ++r) {
        expected[(i * shape.chunks + chunk) * stride + r] =
            product(matrix, first + r, x[i], begin(chunk), begin(chunk + 1), shape.piece);
      }
    }
  }
  const auto check = [&](std::string_view name, auto multiply) {
    std::vector<float> actual(expected.size(), -1);
    multiply(rows, x.data(), num_inputs,
             ProductOutput{actual.data(), shape.chunks * stride, stride});
    ASSERT_EQ(std::memcmp(expected.data(), actual.data(), expected.size() * sizeof(float)), 0)
        << name << ", " << weight_format_name(matrix.as_int8.format) << ", " << num_inputs
        << " inputs, " << shape.chunks << " chunks of " << chunk_columns << " columns";
    expect_added_products(
        expected, {actual.data(), shape.chunks * stride, stride}, num_inputs, shape.chunks,
        num_rows, [&](const ProductOutput& sums) { multiply(rows, x.data(), num_inputs, sums); });
  };
  check("plain", multiply_int8_plain);
  check("chosen", multiply_int8);
  if (shape.piece < 16) return;
  for (const Int8Kernel& kernel : int8_kernels()) check(kernel.name, kernel.multiply);
}

TEST(Int8, EveryKernelHasTheBitsOfThePlainLoops) {
  std::mt19937 random(3);
  for (const auto format : {WeightFormat::kFp8Block128, WeightFormat::kMxfp4}) {
    for (const PieceShape& shape :
         {PieceShape{16, 512, 1, 32}, PieceShape{48, 384, 2, 32}, PieceShape{16, 128, 8, 16},
          PieceShape{32, 768, 8, 32}, PieceShape{32, 384, 8, 16}, PieceShape{32, 160, 1, 32},
          PieceShape{24, 64, 2, 32}, PieceShape{40, 128, 8, 16}, PieceShape{16, 64, 8, 8},
          PieceShape{16, 96, 8, 4}, PieceShape{16, 32, 1, 32}}) {
      const TestMatrix matrix = random_matrix(format, shape.rows, shape.cols, &random);
      for (uint32_t num_inputs = 1; num_inputs <= 18; ++num_inputs) {
        const auto inputs = random_inputs(size_t{num_inputs} * shape.cols, &random);
        expect_equal_products(matrix, shape, quantized(inputs), num_inputs);
      }
    }
  }
}

TEST(Int8, Mxfp4IsCutBetweenBlocks) {
  std::mt19937 random(4);
  const TestMatrix matrix = random_matrix(WeightFormat::kMxfp4, 32, 320, &random);
  const PieceShape shape{32, 320, 8, 32, {0, 32, 64, 96, 160, 192, 224, 256, 320}};
  for (uint32_t num_inputs = 1; num_inputs <= 9; ++num_inputs) {
    const auto inputs = random_inputs(size_t{num_inputs} * shape.cols, &random);
    expect_equal_products(matrix, shape, quantized(inputs), num_inputs);
  }
}

// gpt-oss's experts on one rank and on two.
TEST(Chunks, ARanksChunksAreThoseOfTheWholeRow) {
  const auto begin = [](uint32_t columns, uint32_t chunks, uint32_t chunk) {
    return program::chunk_begin(WeightFormat::kMxfp4, columns, chunks, chunk);
  };
  const std::vector<uint32_t> begins = {0, 352, 704, 1056, 1440, 1792, 2144, 2496, 2880};
  for (uint32_t chunk = 0; chunk <= 8; ++chunk) {
    EXPECT_EQ(begin(2880, 8, chunk), begins[chunk]);
    EXPECT_EQ(program::chunk_begin(WeightFormat::kBf16, 2880, 8, chunk), 360 * chunk);
    EXPECT_EQ(begin(384, 8, chunk), 48 * chunk);
    EXPECT_EQ(begin(96, 8, chunk), 12 * chunk);
    if (chunk > 4) continue;
    EXPECT_EQ(begin(1440, 4, chunk), begins[chunk]);
    EXPECT_EQ(1440 + begin(1440, 4, chunk), begins[chunk + 4]);
  }
}

TEST(Int8, ExtremeCodesDoNotSaturate) {
  const PieceShape shape{16, 64, 1, 32};
  for (const float sign : {1.0F, -1.0F}) {
    std::vector<std::byte> packed(tensor::packed_bytes(WeightFormat::kFp8Block128, 16, 64),
                                  std::byte{0x7e});  // 448
    const float scale = 1;
    for (uint32_t row = 0; row < 16; ++row) {
      std::memcpy(&packed[16 * 64 + row * 4], &scale, sizeof(scale));
      if (row % 2 != 0) std::fill_n(packed.begin() + row * 64, 64, std::byte{0xfe});  // -448
      if (row == 5) std::fill_n(packed.begin() + row * 64, 64, std::byte{0});
    }
    const TestMatrix matrix = make_matrix(WeightFormat::kFp8Block128, 16, 64, packed);
    EXPECT_EQ(int8_weights(matrix.as_int8, 0, 0).codes[0], 112);  // 14 * 8
    const std::vector<float> x(64, sign * 3);
    const auto blocks = quantized(x);
    EXPECT_EQ(blocks[0].codes[7], static_cast<int8_t>(sign * 127));
    expect_equal_products(matrix, shape, blocks, 1);
    EXPECT_NEAR(product(matrix, 0, blocks.data(), 0, 64, 32), sign * 448 * 3 * 64, 400);
    EXPECT_EQ(product(matrix, 5, blocks.data(), 0, 64, 32), 0);
  }
}

TEST(Int8, EveryMxfp4CodeAndScaleIsExact) {
  for (uint32_t scale = 0; scale < 255; ++scale) {
    std::vector<std::byte> packed(tensor::packed_bytes(WeightFormat::kMxfp4, 16, 32));
    for (uint32_t row = 0; row < 16; ++row) {
      packed[row * 16 + row] = static_cast<std::byte>(row | (15 - row) << 4);
      packed[256 + row] = static_cast<std::byte>(scale);
    }
    const TestMatrix matrix = make_matrix(WeightFormat::kMxfp4, 16, 32, packed);
    std::vector<float> as_packed(32), as_int8(32);
    for (uint32_t row = 0; row < 16; ++row) {
      dequantize_row(matrix.as_packed, row, 0, 32, as_packed.data());
      dequantize_row(matrix.as_int8, row, 0, 32, as_int8.data());
      ASSERT_EQ(as_packed, as_int8) << row << " " << scale;
    }
    const std::vector<float> x(32, 127.0F);  // codes 127, scale 1
    expect_equal_products(matrix, {16, 32, 1, 32}, quantized(x), 1);
  }
}

// Half a unit, of which the largest magnitude has at least 64; none from 8 units on.
TEST(Int8, Fp8ValuesAreRoundedToTheNearestCode) {
  std::mt19937 random(9);
  const TestMatrix matrix = random_matrix(WeightFormat::kFp8Block128, 32, 256, &random);
  std::vector<float> before(256), after(256);
  for (uint32_t row = 0; row < 32; ++row) {
    dequantize_row(matrix.as_packed, row, 0, 256, before.data());
    dequantize_row(matrix.as_int8, row, 0, 256, after.data());
    for (uint32_t begin = 0; begin < 256; begin += 32) {
      float most = 0;
      for (uint32_t i = begin; i < begin + 32; ++i) most = std::max(most, std::abs(before[i]));
      for (uint32_t i = begin; i < begin + 32; ++i) {
        const float limit = std::abs(before[i]) < most / 8 ? most / 127 : most * 1e-6F;
        ASSERT_LE(std::abs(before[i] - after[i]), limit) << row << " " << i;
      }
    }
  }
}

TEST(Int8, QuantizedVectors) {
  std::mt19937 random(13);
  auto x = random_inputs(32 * 12, &random);
  const auto fill = [&](uint32_t block, float value) {
    std::fill_n(x.begin() + block * 32, 32, value);
  };
  fill(1, 0.0F);
  fill(2, 1e-38F);
  fill(3, std::numeric_limits<float>::max());
  fill(4, -0x1p-100F);
  fill(5, std::numeric_limits<float>::denorm_min());
  x[6 * 32 + 31] = kInfinity;
  x[7 * 32] = kNotANumber;
  x[8 * 32 + 16] = -kInfinity;
  for (uint32_t i = 0; i < 32; ++i) x[9 * 32 + i] = static_cast<float>(i) + 0.5F;  // ties
  x[9 * 32 + 31] = 127;
  const auto expected = quantized(x);
  for (const Int8Block& block : expected) {
    const int sum = std::accumulate(block.codes, block.codes + 32, 0);
    EXPECT_EQ(block.offset, -128 * sum);
    EXPECT_EQ(block.half_offsets[0] + block.half_offsets[1], block.offset);
  }
  EXPECT_EQ(expected[1].scale, 0);
  EXPECT_EQ(expected[2].scale, 0);
  EXPECT_EQ(expected[3].codes[0], 127);
  EXPECT_EQ(expected[4].codes[0], -127);
  for (const uint32_t block : {6u, 7u, 8u}) EXPECT_TRUE(std::isnan(expected[block].scale));
  EXPECT_EQ(expected[9].codes[0], 0);
  EXPECT_EQ(expected[9].codes[1], 2);
  EXPECT_EQ(expected[9].codes[2], 2);
  for (int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    std::vector<Int8Block> actual(expected.size());
    quantize(x.data(), static_cast<uint32_t>(x.size()), actual.data());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(Int8Block)), 0)
          << vector_target_name() << ", block " << i;
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(Int8, ANanReachesEveryProduct) {
  std::mt19937 random(17);
  const TestMatrix matrix = random_matrix(WeightFormat::kMxfp4, 16, 64, &random);
  std::vector<float> x = random_inputs(64, &random);
  x[40] = kNotANumber;
  const auto blocks = quantized(x);
  const Int8Block* input = blocks.data();
  std::vector<float> out(16);
  multiply({matrix.as_int8, 0, 16}, {nullptr, &input}, 1, {out.data(), 16});
  for (const float value : out) EXPECT_TRUE(std::isnan(value));
}

TEST(Int8, ShapesThatDoNotFit) {
  EXPECT_FALSE(fits_int8_layout(WeightFormat::kF32, 32));
  EXPECT_FALSE(fits_int8_layout(WeightFormat::kBf16, 32));
  EXPECT_FALSE(fits_int8_layout(WeightFormat::kFp8Block128, 48));
  EXPECT_TRUE(fits_int8_layout(WeightFormat::kMxfp4, 96));
}

TEST(Int8Layout, TheExecutorCountsItsBytes) {
  program::Program program;
  program.weights.push_back({"fp8", tensor::WeightFormat::kFp8Block128, 32, 256, 3});
  program.weights.push_back({"norm", tensor::WeightFormat::kF32, 1, 10, 1});
  const auto bytes = [&](Activations activations) {
    CpuOptions options;
    options.activations = activations;
    return make_cpu_executor(options)->weight_bytes(program);
  };
  // Codes, and a scale for each row and 128 columns, or 32.
  EXPECT_EQ(bytes(Activations::kF32), 3u * (32 * 256 + 32 * 2 * 4) + 64);
  EXPECT_EQ(bytes(Activations::kInt8), 3u * (32 * 256 + 32 * 8 * 4) + 64);
}

// A drafter's weights are in int8, one that the target takes, too, twice in memory.
TEST(Int8Layout, TheExecutorCountsADraftersCopies) {
  program::Program program;
  for (const char* name : {"head", "draft", "target"}) {
    program.weights.push_back({name, tensor::WeightFormat::kFp8Block128, 32, 256, 1});
  }
  const auto use = [&](program::WeightId id, bool is_drafters) {
    program::LinearOperands op;
    op.weight = id;
    program.stages.push_back({"linear", 0, op, is_drafters});
  };
  use(0, false);
  use(0, true);
  use(1, true);
  use(2, false);
  const uint64_t f32 = 32 * 256 + 32 * 2 * 4, int8 = 32 * 256 + 32 * 8 * 4;
  EXPECT_EQ(make_cpu_executor({})->weight_bytes(program), 3 * f32);
  EXPECT_EQ(make_cpu_executor({.int8_drafts = true})->weight_bytes(program), 2 * f32 + 2 * int8);
}

}  // namespace
}  // namespace ultraspeed::cpu
