// A safetensors file being put together, in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

struct ExportedTensor {
  std::string name;  // as in the file: "fc.weight"
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

// Errors: kInvalidData for a number that is not finite, naming `path` and the tensor.
// REQUIRES: as many values as the shape says.
Status check_exportable(const std::string& path, const ExportedTensor& tensor);

class WeightsFile {
 public:
  void add_bf16(const ExportedTensor& tensor);
  void add_f32(const ExportedTensor& tensor);
  // E4M3 codes, and a scale for each 128 x 128 block as NAME_scale_inv. REQUIRES: a matrix.
  void add_fp8(const ExportedTensor& tensor);

  std::string finish() const;

 private:
  void add(const std::string& name, const char* dtype, const std::vector<uint64_t>& shape,
           std::string_view bytes);

  std::string header_ = R"({"__metadata__": {"format": "pt"})", data_;
};

// "[1, 2]"
template <class Values>
std::string list_json(const Values& values) {
  std::string json;
  for (const auto& value : values) json += fmt::format("{}{}", json.empty() ? "" : ", ", value);
  return "[" + json + "]";
}

// The shortest text that reads as the same float.
std::string number_json(float value);

}  // namespace ultraspeed::train
