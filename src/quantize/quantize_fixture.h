// What tests of whole runs share: generated checkpoints, runs of them, and a second, plain writing
// of the stored forms to compare with.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "quantize/quantizer.h"
#include "support/checkpoint_generator.h"
#include "support/temporary_directory.h"

namespace ultraspeed::quantize {

// A BF16 model of the smallest sizes with all kinds of tensors, in several files.
inline test::GeneratorOptions bf16_options(model::QkvLayout layout = model::QkvLayout::kSplit) {
  test::GeneratorOptions options;
  options.qkv_layout = layout;
  options.linear_format = tensor::WeightFormat::kBf16;
  options.expert_format = tensor::WeightFormat::kBf16;
  options.num_files = 3;
  options.num_mtp_layers = 1;
  return options;
}

// A run with small bands and files, so that there are several of both.
inline QuantizeOptions small_run(const std::string& source, uint32_t num_threads = 2) {
  QuantizeOptions options;
  options.source = source;
  options.memory_bytes = 1'000'000;
  options.shard_bytes = 300'000;
  options.num_threads = num_threads;
  return options;
}

// Files by name, relative to the folder, subfolders included.
inline std::map<std::string, std::string> contents_of(const std::string& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    contents[entry.path().lexically_relative(folder).string()] =
        std::string(std::istreambuf_iterator<char>(file), {});
  }
  return contents;
}

// Fails, as a full disk does, after so many bytes, in the middle of a write.
class LimitedFolder final : public OutputFolder {
 public:
  LimitedFolder(std::string path, uint64_t limit_bytes)
      : OutputFolder(std::move(path)), left_(static_cast<int64_t>(limit_bytes)) {}

  Status write_at(const OutputFile& file, uint64_t offset,
                  std::span<const std::byte> bytes) const override {
    const int64_t left = left_.fetch_sub(static_cast<int64_t>(bytes.size()));
    if (left >= static_cast<int64_t>(bytes.size())) {
      return OutputFolder::write_at(file, offset, bytes);
    }
    if (left > 0) {
      US_TRY(OutputFolder::write_at(file, offset, bytes.first(static_cast<size_t>(left))));
    }
    return make_error(ErrorCode::kIo, "{}: cannot write: No space left on device", file.path());
  }

 private:
  mutable std::atomic<int64_t> left_;
};

// The numbers of a BF16 or F32 tensor of a generated checkpoint.
inline std::vector<float> numbers_of(const test::StoredTensor& tensor) {
  std::vector<float> values;
  const bool is_bf16 = tensor.dtype == "BF16";
  EXPECT_TRUE(is_bf16 || tensor.dtype == "F32") << tensor.dtype;
  for (size_t i = 0; i < tensor.bytes.size(); i += is_bf16 ? 2 : 4) {
    uint32_t bits = 0;
    if (is_bf16) {
      std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2, &tensor.bytes[i], 2);
    } else {
      std::memcpy(&bits, &tensor.bytes[i], 4);
    }
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    values.push_back(value);
  }
  return values;
}

// The nearest of the magnitudes `values`, ties to the even index.
template <class Values>
size_t nearest(const Values& values, double magnitude) {
  size_t best = 0;
  for (size_t i = 1; i < std::size(values); ++i) {
    const double distance = std::abs(values[i] - magnitude);
    const double least = std::abs(values[best] - magnitude);
    if (distance < least || (distance == least && i % 2 == 0)) best = i;
  }
  return best;
}

// MXFP4 under the rule EVEN, as docs/quantize.md words it, with none of the engine's codecs.
inline std::vector<test::StoredTensor> reference_mxfp4(const test::StoredTensor& tensor,
                                                       const std::string& module) {
  static constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const std::vector<float> values = numbers_of(tensor);
  const uint64_t rows = tensor.shape.at(0), columns = tensor.shape.at(1);
  test::StoredTensor codes{module + ".weight", "U8", {rows, columns / 2}, {}};
  test::StoredTensor scales{module + ".weight_scale", "U8", {rows, columns / 32}, {}};
  codes.bytes.resize(values.size() / 2);
  for (size_t block = 0; block < values.size(); block += 32) {
    double largest = 0;
    for (size_t i = block; i < block + 32; ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(values[i])));
    }
    int exponent = -127;
    if (largest > 0) {
      const int floor = std::ilogb(largest);
      // To one bit after the first, ties up.
      const double rounded = std::floor(std::ldexp(largest, 1 - floor) + 0.5);
      exponent = std::max(-127, floor - 2 + (rounded >= 4 ? 1 : 0));
    }
    scales.bytes.push_back(static_cast<std::byte>(exponent + 127));
    for (size_t i = block; i < block + 32; ++i) {
      const double value = std::ldexp(static_cast<double>(values[i]), -exponent);
      const auto code = static_cast<unsigned>(nearest(kMagnitudes, std::abs(value)) |
                                              (std::signbit(value) ? 8 : 0));
      codes.bytes[i / 2] |= static_cast<std::byte>(i % 2 == 0 ? code : code << 4);
    }
  }
  return {std::move(codes), std::move(scales)};
}

// FP8 with a grid that restarts in each of `chunks` equal chunks of rows.
inline std::vector<test::StoredTensor> reference_fp8(const test::StoredTensor& tensor,
                                                     const std::string& module, uint64_t chunks) {
  std::vector<double> magnitudes;  // e4m3 by definition, all but its NaN
  magnitudes.reserve(127);
  for (int code = 0; code < 127; ++code) {
    magnitudes.push_back(code < 8 ? std::ldexp(code, -9) : std::ldexp(8 + code % 8, code / 8 - 10));
  }
  const std::vector<float> values = numbers_of(tensor);
  const uint64_t rows = tensor.shape.at(0), columns = tensor.shape.at(1);
  const uint64_t chunk_rows = rows / chunks, grid_columns = (columns + 127) / 128;
  std::vector<float> grid;
  std::vector<std::byte> codes(values.size());
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
    for (uint64_t first = 0; first < chunk_rows; first += 128) {
      const uint64_t begin = chunk * chunk_rows + first;
      const uint64_t end = std::min(begin + 128, (chunk + 1) * chunk_rows);
      for (uint64_t left = 0; left < columns; left += 128) {
        const uint64_t right = std::min(left + 128, columns);
        float largest = 0;
        for (uint64_t row = begin; row < end; ++row) {
          for (uint64_t column = left; column < right; ++column) {
            largest = std::max(largest, std::abs(values[row * columns + column]));
          }
        }
        const float scale = largest == 0 ? 1 : largest / 448;
        grid.push_back(scale);
        for (uint64_t row = begin; row < end; ++row) {
          for (uint64_t column = left; column < right; ++column) {
            const float value = values[row * columns + column] / scale;
            const size_t code = nearest(magnitudes, static_cast<double>(std::abs(value)));
            codes[row * columns + column] =
                static_cast<std::byte>(code | (std::signbit(value) ? 128U : 0U));
          }
        }
      }
    }
  }
  const auto bytes = std::as_bytes(std::span(grid));
  return {{module + ".weight", "F8_E4M3", {rows, columns}, std::move(codes)},
          {module + ".weight_scale_inv",
           "F32",
           {grid.size() / grid_columns, grid_columns},
           {bytes.begin(), bytes.end()}}};
}

}  // namespace ultraspeed::quantize
