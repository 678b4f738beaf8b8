// product_rates: what cpu::multiply() reaches on one thread, for each weight format and number of
// inputs: a bound for the matrix products of a step. Prints microseconds and products per
// nanosecond; a working set within the second-level cache. First what loops of f32 products reach
// here that have nothing to wait for.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "cpu/kernels/int8.h"
#include "cpu/kernels/kernels.h"
#include "cpu/vector_layout.h"
#include "vector_ceilings.h"

namespace ultraspeed::cpu {
namespace {

struct Case {
  tensor::WeightFormat format;
  uint32_t rows, cols, chunks;
  WeightLayout layout;
};

double best_seconds(const MatrixRows& rows, const Inputs& x, uint32_t num_inputs,
                    const ProductOutput& out) {
  double best = 1;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    multiply(rows, x, num_inputs, out);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::min(best, seconds.count());
  }
  return best;
}

// A matrix with random codes and equal scales, in its layout.
std::vector<std::byte> make_matrix(const Case& shape) {
  std::mt19937 random(1);
  std::vector<std::byte> packed(tensor::packed_bytes(shape.format, shape.rows, shape.cols));
  const uint64_t codes = tensor::code_bytes(shape.format, shape.rows, shape.cols);
  const bool are_floats = shape.format == tensor::WeightFormat::kF32;
  for (uint64_t i = 0; i < codes && !are_floats; ++i) {
    packed[i] = static_cast<std::byte>((random() & 0xb7u) | 0x40u);  // no subnormal FP8 codes
  }
  if (shape.format == tensor::WeightFormat::kMxfp4) {
    std::fill(packed.begin() + static_cast<ptrdiff_t>(codes), packed.end(), std::byte{127});
  }
  for (uint64_t i = codes; i < packed.size() && shape.format != tensor::WeightFormat::kMxfp4;
       i += sizeof(float)) {
    const float scale = 0.5F;
    std::memcpy(&packed[i], &scale, sizeof(scale));
  }
  if (shape.layout == WeightLayout::kVectors) {
    to_vector_layout(shape.format, shape.rows, shape.cols, packed);
  } else {
    packed.resize(std::max(packed.size(), int8_layout_bytes(shape.format, shape.rows, shape.cols)));
    to_int8_layout(shape.format, shape.rows, shape.cols, packed);
  }
  return packed;
}

void measure(const Case& shape) {
  const std::vector<std::byte> matrix = make_matrix(shape);
  const MatrixRows rows{{shape.format, shape.rows, shape.cols, matrix.data(), shape.layout},
                        0,
                        shape.rows,
                        shape.chunks};
  fmt::print("{:<30} {} {:>5} x {:<5} {} chunks:", tensor::weight_format_name(shape.format),
             shape.layout == WeightLayout::kInt8 ? "int8" : "f32 ", shape.rows, shape.cols,
             shape.chunks);
  for (const uint32_t num_inputs : {1u, 2u, 3u, 4u, 6u, 8u}) {
    const std::vector<float> values(size_t{num_inputs} * shape.cols, 0.5F);
    std::vector<Int8Block> quantized(values.size() / kInt8BlockColumns);
    quantize(values.data(), static_cast<uint32_t>(values.size()), quantized.data());
    std::vector<const float*> floats;
    std::vector<const Int8Block*> int8;
    for (uint32_t i = 0; i < num_inputs; ++i) {
      floats.push_back(&values[size_t{i} * shape.cols]);
      int8.push_back(&quantized[size_t{i} * shape.cols / kInt8BlockColumns]);
    }
    std::vector<float> out(size_t{num_inputs} * shape.chunks * shape.rows);
    const ProductOutput output{out.data(), size_t{shape.chunks} * shape.rows, shape.rows};
    const double seconds = best_seconds(rows, {floats.data(), int8.data()}, num_inputs, output);
    const auto products = static_cast<double>(uint64_t{num_inputs} * shape.rows * shape.cols);
    fmt::print("  {:>2}: {:7.1f} us {:5.1f}/ns", num_inputs, 1e6 * seconds,
               1e-9 * products / seconds);
  }
  fmt::print("\n");
}

}  // namespace
}  // namespace ultraspeed::cpu

int main() {
  using ultraspeed::cpu::WeightLayout;
  using ultraspeed::tensor::WeightFormat;
  fmt::print("{}\n", ultraspeed::cpu::vector_target_name());
  if (const auto ceilings = ultraspeed::cpu::measure_vector_ceilings()) {
    fmt::print(
        "clock {:.2f} GHz; f32 products of 8 inputs {:.1f}/ns, with FP8 decoding {:.1f}/ns\n",
        ceilings->clock_ghz, ceilings->broadcasts_per_ns, ceilings->with_decoding_per_ns);
  }
  for (const WeightLayout layout : {WeightLayout::kVectors, WeightLayout::kInt8}) {
    for (const ultraspeed::cpu::Case& shape :
         {ultraspeed::cpu::Case{WeightFormat::kFp8Block128, 1152, 512, 1, layout},
          {WeightFormat::kFp8Block128, 512, 512, 8, layout},
          {WeightFormat::kFp8Block128, 512, 1536, 8, layout},
          {WeightFormat::kMxfp4, 256, 512, 1, layout},
          {WeightFormat::kMxfp4, 512, 128, 8, layout}}) {
      ultraspeed::cpu::measure(shape);
    }
  }
  ultraspeed::cpu::measure({WeightFormat::kF32, 32, 512, 1, WeightLayout::kVectors});
}
