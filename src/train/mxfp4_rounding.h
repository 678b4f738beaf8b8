// What a matrix becomes when it is stored as MXFP4: E2M1 codes and a power of two for each 32
// columns, chosen by the rule `even` (docs/quantize.md, section 2). Bit for bit what the quantizer
// writes and the engine reads.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

namespace ultraspeed::train {

// matrices: f32 [..., rows, columns], 32 divides columns, finite. Gradients pass through as if
// nothing had been rounded. BF16 holds the result exactly, and rounding it again changes nothing.
torch::Tensor round_to_mxfp4(const torch::Tensor& matrices);

}  // namespace ultraspeed::train
