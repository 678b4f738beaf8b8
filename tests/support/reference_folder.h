// The archives of tests/data, unpacked into the build directory on first use.
#pragma once

#include <string>

#include "base/result.h"

namespace ultraspeed::test {

// Of the families besides the bundled model's: biases, sinks and YaRN; stretched RoPE and a tied
// table; windows and FP8; a dense layer and experts in FP8.
inline constexpr const char* kFamilyFolders[] = {"gpt_oss_mxfp4", "llama_rope_tied",
                                                 "qwen3_sliding_fp8", "qwen3_moe_fp8"};

// The folder of tests/data/NAME.tar.xz. Safe to call from several test processes at once. An
// archive that is missing or damaged is an error, which the caller reports as a failure.
Result<std::string> reference_folder(const std::string& name);

}  // namespace ultraspeed::test
