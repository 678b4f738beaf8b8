// Dense matrices loaded as FP8 although the checkpoint keeps them in BF16 or F32, which halves what
// a step reads of them: the attention's output projections and the head of published checkpoints.
// The error is measured as they are loaded.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/weights.h"

namespace ultraspeed::model {

enum class DenseDtype : uint8_t {
  kCheckpoint,  // as stored
  kFp8,
};
inline constexpr std::array kAllDenseDtypes = {DenseDtype::kCheckpoint, DenseDtype::kFp8};

constexpr std::string_view dense_dtype_name(DenseDtype dtype) {
  return dtype == DenseDtype::kFp8 ? "fp8" : "checkpoint";
}

// The shape in which a matrix of shape `stored` is loaded: with kFp8 the attention's projections,
// dense layers and the head of a target are FP8. Tables, routers, experts, drafters and MTP layers
// stay as they are.
// Errors: kUnsupported for a split that FP8 does not admit (weight_shape()).
Result<WeightShape> loaded_shape(const ModelConfig& config, const WeightSource& source,
                                 const WeightShape& stored, DenseDtype dtype);

// Sums over a matrix's elements.
struct SquareSums {
  double values = 0, errors = 0;

  double relative_rms() const { return values == 0 ? 0 : std::sqrt(errors / values); }
};

// Writes the matrix that `packed` holds as BF16 or F32 in FP8: a scale for each row and 128
// columns, the largest magnitude / 448; codes to nearest, ties to even.
// Errors: kInvalidData for NaNs and infinities, with row and column.
// REQUIRES: stored.format is kBf16 or kF32; sizes are those of the shapes.
Result<SquareSums> quantize_fp8(const WeightShape& stored, std::span<const std::byte> packed,
                                std::span<std::byte> fp8);

// What matrices lost, all together.
struct DenseError {
  uint32_t num_matrices = 0;
  uint64_t stored_bytes = 0, loaded_bytes = 0;
  double relative_rms = 0;  // sqrt(sum of squared errors / sum of squares)
  double worst_rms = 0;     // of one matrix
  std::string worst;        // which: "output projection of layer 3"
};

// A target's WeightLoader, with dense matrices of a dtype. Const calls may run on several threads
// at once.
class DenseLoader {
 public:
  DenseLoader(const WeightLoader& loader, const ModelConfig& config, DenseDtype dtype)
      : loader_(loader), config_(&config), dtype_(dtype) {}

  Result<WeightShape> shape(const WeightSource& source) const;
  // As WeightLoader::load(); of a matrix that is quantised it needs the stored form's memory too.
  Status load(const WeightSource& source, std::span<std::byte> out) const;
  Status check_complete() const { return loader_.check_complete(); }
  // Of what was loaded so far.
  DenseError error() const;

 private:
  WeightLoader loader_;
  const ModelConfig* config_;
  DenseDtype dtype_;
  mutable std::mutex mutex_;  // guards what follows
  mutable DenseError error_;
  mutable SquareSums sums_;
};

}  // namespace ultraspeed::model
