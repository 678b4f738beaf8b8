// What a matrix becomes when it is stored as FP8: E4M3 codes and a scale for each 128 x 128 block,
// the block's largest magnitude / 448 (docs/weights_format.md).
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

namespace ultraspeed::train {

// The nearest matrix [rows, columns] that FP8 can hold, codes to nearest, ties to even. Gradients
// pass through as if nothing had been rounded.
torch::Tensor round_to_fp8(const torch::Tensor& matrix);

}  // namespace ultraspeed::train
