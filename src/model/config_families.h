// The families of config.json, each read into a ModelConfig that has its file and model_type.
// Internal to model/.
#pragma once

#include <string_view>

#include "base/result.h"
#include "model/config.h"
#include "model/json_reader.h"

namespace ultraspeed::model {

// Shapes alone (config_shapes.cc): kShapeOnly. Errors: kInvalidData, kUnsupported, naming the key.
Status read_llama(const JsonObject& json, ModelConfig& config);
Status read_gpt_oss(const JsonObject& json, ModelConfig& config);

// The sizes that all families name alike.
Status read_sizes(const JsonObject& json, ModelConfig& config);

// MXFP4 experts, if the model has any, have whole scale blocks. inner_key: where their
// moe_intermediate_size stands.
Status check_mxfp4(const JsonObject& json, const ModelConfig& config, std::string_view inner_key);

}  // namespace ultraspeed::model
