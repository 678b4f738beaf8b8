// Calibration: experts' matrices are rounded by what they read in a text, so that what they give
// there changes little (error_feedback.h says how, docs/quantize.md what it is worth).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "quantize/conversion.h"
#include "quantize/error_feedback.h"
#include "quantize/expert_inputs.h"

namespace ultraspeed::quantize {

inline constexpr double kMinDamping = 1e-6, kMaxDamping = 1e6;

struct CalibrationOptions {
  std::string text;            // a name for the report
  uint64_t text_checksum = 0;  // of its tokens
  double damping = 0.01;       // error_feedback.h; from kMinDamping to kMaxDamping
  ExpertInputsShape shape;
  // Has the source read the text. Called at most once, before anything is converted; not by a run
  // that goes on after an interruption and has the file already.
  std::function<Status(ExpertInputsWriter*)> read_text;
};

// Says of each expert's matrix in a layer of the shape what it reads. Errors: kInvalidData for
// matrices that are not there or do not fit.
Status find_inputs(const ExpertInputsShape& shape, std::vector<Conversion>* conversions);

// Not thread-safe; works on threads of its own.
class Calibration {
 public:
  // REQUIRES: the conversions outlive it.
  Calibration(ExpertInputs inputs, const std::vector<Conversion>& conversions, double damping,
              uint32_t num_threads)
      : inputs_(std::move(inputs)),
        conversions_(&conversions),
        damping_(damping),
        num_threads_(num_threads) {}

  // What feedback() takes at its most, for any of the conversions, with its result.
  static uint64_t memory_bytes(const ExpertInputsShape& shape,
                               const std::vector<Conversion>& conversions);

  // By the tokens that are routed to the expert; where they are fewer than the matrix has columns,
  // others of the text join them, evenly spread over it.
  // Errors: kInvalidData for weights or activations that are no finite numbers, and for inputs that
  // the damping is too small for, naming a tensor; kIo.
  Result<ErrorFeedback> feedback(const MatrixInput& input);

 private:
  Status read_routes(uint32_t layer);
  // Ascending.
  std::vector<uint64_t> choose_tokens(uint32_t expert, size_t num_wanted) const;
  // f32 [tokens, hidden_size]
  Status read_rows(uint32_t layer, std::span<const uint64_t> tokens,
                   std::vector<float>* rows) const;

  ExpertInputs inputs_;
  const std::vector<Conversion>* conversions_;
  double damping_;
  uint32_t num_threads_;
  std::vector<uint32_t> routes_;  // of the layer at work: experts, [num_tokens, top_k]
  uint32_t layer_ = UINT32_MAX;
};

}  // namespace ultraspeed::quantize
