#include "train/drafter_export.h"

#include "base/check.h"

namespace ultraspeed::train {
namespace {

std::vector<float> values_of(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  const float* data = flat.data_ptr<float>();
  return {data, data + flat.numel()};
}

}  // namespace

Status export_drafter(const DrafterNet& net, const std::string& directory, LinearFormat format) {
  US_CHECK(net.config().has_mask_embedding, "a drafter without a mask embedding");
  std::vector<ExportedTensor> tensors;
  for (const Parameter& parameter : net.parameters()) {
    if (parameter.name == "mask_embedding") continue;
    ExportedTensor tensor = {parameter.name, {}, values_of(parameter.value)};
    for (const int64_t size : parameter.value.sizes()) {
      tensor.shape.push_back(static_cast<uint64_t>(size));
    }
    tensors.push_back(std::move(tensor));
  }
  return write_drafter_folder(directory, net.config(), tensors, values_of(net.at("mask_embedding")),
                              format);
}

uint64_t exported_bytes(const DrafterNet& net, LinearFormat format) {
  uint64_t bytes = 0;
  for (const Parameter& parameter : net.parameters()) {
    const auto count = static_cast<uint64_t>(parameter.value.numel());
    const bool is_fp8 = format == LinearFormat::kFp8 && parameter.kind == ParameterKind::kMatrix &&
                        !parameter.is_of_selector();
    bytes += is_fp8 ? count : 2 * count;
  }
  return bytes;
}

}  // namespace ultraspeed::train
