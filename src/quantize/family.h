// Which checkpoints can be quantised, and what of a model's configuration decides how: the one
// place in quantize/ that reads and writes config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "quantize/stored_matrix.h"

namespace ultraspeed::quantize {

struct Family {
  std::string model_type;
  std::string config_text;  // config.json as it stands
  GridHint qkv_grid;        // of q, k, v or all of them in one
  // Published checkpoints of the family keep output projections in BF16.
  bool keeps_output_projections = false;
};

// Reads DIRECTORY/config.json and checks by the headers that the checkpoint holds the whole model.
// Errors: kUnsupported for other families and for quantisations that are not FP8 or MXFP4 as
// docs/weights_format.md has them; kInvalidData, kNotFound.
Result<Family> read_family(const model::Checkpoint& checkpoint);

// What config.json says of the quantised checkpoint.
struct QuantizedForm {
  bool has_mxfp4_experts = false;
  std::vector<std::string> ignored_layers;  // modules of linear layers that stay BF16 or F32
};

// config.json with the quantization_config of this form; everything else as it stands.
Result<std::string> quantized_config(const Family& family, const QuantizedForm& form);

}  // namespace ultraspeed::quantize
