// off_grid_model SOURCE TARGET: the bundled model as a BF16 checkpoint that computes the same but
// whose weights lie on no grid of MXFP4 or FP8, for docs/quantize.md to measure what quantising
// costs. Of every feed-forward layer, inner channel i of the up projection is multiplied by c[i]
// and column i of the down projection divided by it, c random in [1, 2); other matrices become BF16
// as they are. What rounding to BF16 costs is measured against the original.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/files.h"
#include "apps/terminal.h"
#include "base/philox.h"
#include "model/checkpoint.h"
#include "model/tensor_names.h"
#include "quantize/conversion.h"
#include "quantize/stored_matrix.h"
#include "support/safetensors_writer.h"
#include "tensor/bf16.h"

namespace ultraspeed {
namespace {

// c[i] of the layer or expert that the module belongs to.
float channel_factor(const std::string& module, uint32_t channel) {
  const std::string owner = module.substr(0, module.rfind('.'));
  uint64_t seed = 1;
  for (const char c : owner) seed = seed * 131 + static_cast<unsigned char>(c);
  return static_cast<float>(1 + random_uniform(seed, 0, channel));
}

Result<test::StoredTensor> as_bf16(const model::Checkpoint& checkpoint, const std::string& module) {
  US_ASSIGN(const auto matrix, quantize::find_matrix(checkpoint, module, {}));
  std::vector<float> values(size_t{matrix.rows} * matrix.columns);
  std::vector<std::byte> buffer;
  US_TRY(matrix.read_rows(0, matrix.rows, values, &buffer));
  test::StoredTensor tensor{module + ".weight", "BF16", {matrix.rows, matrix.columns}, {}};
  for (size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<uint32_t>(i / matrix.columns);
    const auto column = static_cast<uint32_t>(i % matrix.columns);
    if (module.ends_with("up_proj")) values[i] *= channel_factor(module, row);
    if (module.ends_with("down_proj")) values[i] /= channel_factor(module, column);
    const uint16_t bits = tensor::bf16_from_float(values[i]);
    const auto bytes = std::as_bytes(std::span(&bits, 1));
    tensor.bytes.insert(tensor.bytes.end(), bytes.begin(), bytes.end());
  }
  return tensor;
}

Status write_model(const std::string& source, const std::string& target) {
  US_ASSIGN(const auto checkpoint, model::Checkpoint::open(source));
  std::vector<test::StoredTensor> tensors;
  for (const model::SafetensorsFile& file : checkpoint.files()) {
    for (const auto& [name, info] : file.header().tensors) {
      if (name.ends_with(model::kFp8ScaleSuffix) || name.ends_with(model::kMxScaleSuffix)) continue;
      const std::string module = name.substr(0, name.rfind(model::kWeightSuffix));
      if (quantize::tensor_kind(module) != quantize::TensorKind::kOther) {
        US_ASSIGN(tensors.emplace_back(), as_bf16(checkpoint, module));
        continue;
      }
      auto& copy = tensors.emplace_back(
          test::StoredTensor{name, std::string(model::dtype_name(info.dtype)), info.shape, {}});
      copy.bytes.resize(info.bytes);
      US_TRY(checkpoint.read(name, copy.bytes));
    }
  }
  US_ASSIGN(auto config, apps::read_json_file(source + "/config.json"));
  config.erase("quantization_config");
  std::filesystem::create_directories(target);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    std::filesystem::copy_file(source + "/" + name, target + "/" + name,
                               std::filesystem::copy_options::overwrite_existing);
  }
  US_TRY(apps::write_json_file(target + "/config.json", config));
  return test::write_checkpoint_files(target, tensors, 1, {});
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc != 3) {
    fmt::print(stderr, "off_grid_model SOURCE TARGET\n");
    return 2;
  }
  const Status status = write_model(argv[1], argv[2]);
  return status ? 0 : apps::report_error(status.error());
}
