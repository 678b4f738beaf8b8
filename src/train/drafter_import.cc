#include "train/drafter_import.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <vector>

#include "train/drafter_files.h"
#include "train/drafter_reader.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

Result<std::string> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (!file || bytes.empty()) return make_error(ErrorCode::kNotFound, "{}: cannot read", path);
  return bytes;
}

// Lines of a config.json that say how a drafter's numbers are meant. Its format is not of them, and
// its selector only where both have one.
std::vector<std::string> meant_lines(const std::string& json, bool has_selector) {
  std::vector<std::string> lines;
  std::istringstream stream(json);
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with(",")) line.pop_back();
    const bool is_format = line.find("\"quantization_config\"") != std::string::npos;
    const bool is_selector = line.find("\"selector\"") != std::string::npos;
    if (!is_format && (has_selector || !is_selector)) lines.push_back(line);
  }
  return lines;
}

// Tensors of other meaning may have the same shapes: other taps, another window, another theta.
Status check_config(const std::string& path, const std::string& json, const DrafterNet& net) {
  const std::string expected = drafter_config_json(net.config(), LinearFormat::kBf16);
  const bool has_selector =
      net.config().selector.rank != 0 && json.find("\"selector\"") != std::string::npos;
  const auto theirs = meant_lines(json, has_selector);
  const auto ours = meant_lines(expected, has_selector);
  const auto [a, b] = std::mismatch(theirs.begin(), theirs.end(), ours.begin(), ours.end());
  if (a == theirs.end() && b == ours.end()) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: has '{}' where this run has '{}'; give the flags of that drafter", path,
                    a == theirs.end() ? "nothing more" : *a, b == ours.end() ? "nothing more" : *b);
}

Status set_parameter(const std::string& path, const Parameter& parameter,
                     const torch::Tensor& value, DrafterNet* net) {
  if (parameter.value.sizes() != value.sizes()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: '{}' has {} numbers, and another shape than the {} of this run", path,
                      parameter.name, value.numel(), parameter.value.numel());
  }
  if (!torch::isfinite(value).all().item<bool>()) {
    return make_error(ErrorCode::kInvalidData, "{}: '{}' has a number that is not finite", path,
                      parameter.name);
  }
  net->set(parameter.name, value);
  return {};
}

Result<torch::Tensor> read_mask(const std::string& path, const std::string& bytes) {
  try {
    const std::vector<char> pickle(bytes.begin(), bytes.end());
    return torch::jit::pickle_load(pickle).toGenericDict().at("embedding").toTensor().flatten();
  } catch (const std::exception&) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: expected a mask embedding, as train-drafter writes it", path);
  }
}

// Gives the checksum of the tensors' numbers, in the file's order.
Result<uint64_t> import_weights(const std::string& path, DrafterNet* net) {
  US_ASSIGN(const std::vector<ExportedTensor> tensors, read_drafter_weights(path));
  const auto find = [&](const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const auto& t) { return t.name == name; });
  };
  const std::vector<Parameter>& parameters = net->parameters();
  const bool has_selector = std::all_of(parameters.begin(), parameters.end(), [&](const auto& p) {
    return !p.is_of_selector() || find(p.name) != tensors.end();
  });
  for (const Parameter& parameter : parameters) {
    if (parameter.name == "mask_embedding") continue;  // a file of its own
    if (parameter.is_of_selector() && !has_selector) continue;
    const auto found = find(parameter.name);
    if (found == tensors.end()) {
      return make_error(ErrorCode::kInvalidArgument, "{}: has no '{}'", path, parameter.name);
    }
    const std::vector<int64_t> shape(found->shape.begin(), found->shape.end());
    US_TRY(set_parameter(path, parameter, torch::tensor(found->values).view(shape), net));
  }
  uint64_t sum = 0;
  for (const auto& tensor : tensors) {
    sum = checksum(std::as_bytes(std::span(tensor.values)), sum);
  }
  return sum;
}

}  // namespace

Result<uint64_t> import_drafter(const std::string& directory, DrafterNet* net) {
  const std::string config = directory + "/config.json", mask = directory + "/mask_embedding.pt";
  US_ASSIGN(const uint64_t weights_sum, import_weights(directory + "/model.safetensors", net));
  US_ASSIGN(const std::string json, read_bytes(config));
  US_TRY(check_config(config, json, *net));
  US_ASSIGN(const std::string mask_bytes, read_bytes(mask));
  US_ASSIGN(const torch::Tensor mask_value, read_mask(mask, mask_bytes));
  for (const Parameter& parameter : net->parameters()) {
    if (parameter.name != "mask_embedding") continue;
    US_TRY(set_parameter(mask, parameter, mask_value, net));
  }
  return checksum(bytes_of(mask_bytes), weights_sum);
}

}  // namespace ultraspeed::train
