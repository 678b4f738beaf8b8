// Rows to MXFP4 with the errors of their columns made good by later ones.
#pragma once

#include <cstdint>
#include <span>

#include "quantize/encoder.h"
#include "quantize/error_feedback.h"
#include "quantize/scale_rule.h"

namespace ultraspeed::quantize {

// Rows that share a pass over the feedback: more would be no faster.
inline constexpr uint32_t kFeedbackRows = 64;

// As encode_mxfp4(), but each column is rounded after the feedback of those before it. A block's
// scale is chosen by the numbers with the feedback of all earlier blocks; these also decide whether
// it clips. Without feedback every number is that of encode_mxfp4(). Each row is on
// its own.
// `values` f32 [rows, feedback.columns]; takes as much memory again. REQUIRES: finite values.
void encode_mxfp4(ScaleRule rule, const ErrorFeedback& feedback, std::span<float> values,
                  EncodedRows* out);

}  // namespace ultraspeed::quantize
