#include "train/drafter_import.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <vector>

#include "train/drafter_reader.h"

namespace ultraspeed::train {
namespace {

Status set_parameter(const std::string& path, const Parameter& parameter,
                     const torch::Tensor& value, DrafterNet* net) {
  if (parameter.value.sizes() != value.sizes()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: '{}' has {} numbers, and another shape than the {} of this run", path,
                      parameter.name, value.numel(), parameter.value.numel());
  }
  net->set(parameter.name, value);
  return {};
}

Status import_mask(const std::string& path, const Parameter& parameter, DrafterNet* net) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  if (!file || bytes.empty()) return make_error(ErrorCode::kNotFound, "{}: cannot read", path);
  const auto dict = torch::jit::pickle_load(bytes).toGenericDict();
  return set_parameter(path, parameter, dict.at("embedding").toTensor().flatten(), net);
}

}  // namespace

Status import_drafter(const std::string& directory, DrafterNet* net) {
  const std::string path = directory + "/model.safetensors";
  US_ASSIGN(const std::vector<ExportedTensor> tensors, read_drafter_weights(path));
  for (const Parameter& parameter : net->parameters()) {
    if (parameter.name == "mask_embedding") {
      US_TRY(import_mask(directory + "/mask_embedding.pt", parameter, net));
      continue;
    }
    const auto found = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const auto& t) { return t.name == parameter.name; });
    if (found == tensors.end()) {
      if (parameter.is_of_selector()) continue;
      return make_error(ErrorCode::kInvalidArgument, "{}: has no '{}'", path, parameter.name);
    }
    const std::vector<int64_t> shape(found->shape.begin(), found->shape.end());
    US_TRY(set_parameter(path, parameter, torch::tensor(found->values).view(shape), net));
  }
  return {};
}

}  // namespace ultraspeed::train
