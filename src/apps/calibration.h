// quantize --calibrate: the source reads a text on the processor, and what its experts read there
// is kept for quantize/calibration.h.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "quantize/calibration.h"

namespace ultraspeed::apps {

struct CalibrationTextOptions {
  std::string source;  // the checkpoint folder
  std::string text;    // a file; "-": standard input
  uint64_t max_tokens = 0;
  double damping = 0;
  uint32_t num_threads = 1;
};

inline constexpr uint32_t kCalibrationWindow = 2048;  // tokens that are read at once
inline constexpr uint64_t kMinCalibrationTokens = 256;

// What a user should know of a text that is too short to tell much of the experts: "" for none.
std::string short_text_warning(const quantize::ExpertInputsShape& shape);

// Reads the text and everything of the model but its weights; those are loaded when the result's
// read_text is called. Errors: those of a model that does not run here; kInvalidArgument for one
// without experts and for a text of fewer than kMinCalibrationTokens tokens; those of read_file().
Result<quantize::CalibrationOptions> prepare_calibration(const CalibrationTextOptions& options);

}  // namespace ultraspeed::apps
