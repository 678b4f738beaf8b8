// A trained net as a checkpoint that the engine loads and the quantizer reads.
#pragma once

#include <string>

#include "base/result.h"
#include "train/language_net.h"

namespace ultraspeed::train {

// Writes config.json and model.safetensors with the numbers of LanguageNet::exported: routers F32,
// all else BF16, experts by one. Copies the files of a tokenizer from `tokenizer_folder`, "": none.
// Quantising the result gives experts that are what a rounding net computed with, bit for bit.
Status export_language(const LanguageNet& net, const std::string& directory,
                       const std::string& tokenizer_folder);

}  // namespace ultraspeed::train
