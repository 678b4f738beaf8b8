// The weights of a drafter that was trained before, to go on from: a safetensors file of BF16, F32
// and FP8 tensors. It needs nothing but this module, which is built where no JSON library is.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/drafter_files.h"

namespace ultraspeed::train {

// In the order of the file; FP8 tensors multiplied with their scales, which are left out.
// Errors: kInvalidData for what is no such file, kUnsupported for other types of numbers.
Result<std::vector<ExportedTensor>> parse_drafter_weights(const std::string& path,
                                                          std::span<const std::byte> bytes);
Result<std::vector<ExportedTensor>> read_drafter_weights(const std::string& path);

}  // namespace ultraspeed::train
