#include "train/language_export.h"

#include <filesystem>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "train/language_files.h"
#include "train/output_files.h"
#include "train/weights_file.h"

namespace ultraspeed::train {
namespace {

constexpr std::string_view kTokenizerFiles[] = {"tokenizer.json", "tokenizer_config.json",
                                                "chat_template.jinja", "generation_config.json"};

ExportedTensor exported_tensor(const std::string& name, const torch::Tensor& value) {
  const torch::Tensor flat = value.to(torch::kCPU, torch::kFloat32).contiguous();
  const float* data = flat.data_ptr<float>();
  ExportedTensor tensor = {name, {}, {data, data + flat.numel()}};
  for (const int64_t size : value.sizes()) tensor.shape.push_back(static_cast<uint64_t>(size));
  return tensor;
}

// The tensors of the file that a parameter becomes. A stack's name with the expert's number put in:
// "...mlp.experts." and "gate_proj.weight".
std::vector<ExportedTensor> tensors_of(const LanguageNet& net, const Parameter& parameter) {
  const torch::Tensor value = net.exported(parameter);
  if (!is_expert(parameter)) return {exported_tensor(parameter.name, value)};
  const size_t module = parameter.name.rfind('.', parameter.name.rfind('.') - 1) + 1;
  std::vector<ExportedTensor> tensors;
  for (int64_t expert = 0; expert < value.size(0); ++expert) {
    tensors.push_back(exported_tensor(fmt::format("{}{}.{}", parameter.name.substr(0, module),
                                                  expert, parameter.name.substr(module)),
                                      value[expert]));
  }
  return tensors;
}

Status copy_tokenizer(const std::string& from, FolderWriter* to) {
  for (const std::string_view name : kTokenizerFiles) {
    const auto source = std::filesystem::path(from) / name;
    std::error_code error;
    if (!std::filesystem::exists(source, error)) continue;
    US_ASSIGN(const MappedFile file, MappedFile::open(source.string()));
    std::string bytes(file.size_bytes(), '\0');
    US_TRY(file.read(0, std::as_writable_bytes(std::span(bytes))));
    US_TRY(to->write(name, bytes));
  }
  return {};
}

}  // namespace

Status export_language(const LanguageNet& net, const std::string& directory,
                       const std::string& tokenizer_folder) {
  constexpr std::string_view kWeights = "model.safetensors";
  US_ASSIGN(FolderWriter folder, FolderWriter::create(directory));
  WeightsFile file;
  for (const Parameter& parameter : net.parameters()) {
    for (const ExportedTensor& tensor : tensors_of(net, parameter)) {
      US_TRY(check_exportable(folder.path(kWeights), tensor));
      is_router(parameter) ? file.add_f32(tensor) : file.add_bf16(tensor);
    }
  }
  US_TRY(folder.write("config.json", language_config_json(net.config())));
  if (!tokenizer_folder.empty()) US_TRY(copy_tokenizer(tokenizer_folder, &folder));
  US_TRY(folder.write(kWeights, file.finish()));
  return folder.finish();
}

}  // namespace ultraspeed::train
