// Whether a folder can be a model's, and what to do about one that cannot: files in formats of
// other programs, and files that are missing.
#pragma once

#include <string>

#include "base/result.h"

namespace ultraspeed::apps {

// Errors: kInvalidArgument for a file, kNotFound for no folder or one without config.json,
// kUnsupported for weights in another format (GGUF, PyTorch's, AWQ, GPTQ, ...), which name those
// that are read.
Status check_model_folder(const std::string& folder);

// Of config.json alone. Errors: kUnsupported for weights of another quantisation; what else is
// wrong with the file is not looked for.
Status check_quantization(const std::string& folder);

// Why text cannot be read and written without tokenizer.json, and how one is made where another
// tokenizer's files are.
std::string describe_missing_tokenizer(const std::string& folder);

}  // namespace ultraspeed::apps
