#include "apps/folder_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

#include "apps/files.h"
#include "base/printable.h"

namespace ultraspeed::apps {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::string_view kExpectedFiles =
    "expected safetensors in BF16 or F32, in FP8 (quant_method fp8, blocks of 128 x 128) or with "
    "MXFP4 experts, such as the model's first publication; 'ultraspeed quantize' makes the latter "
    "two of it";

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::vector<std::string> names_in(const std::string& folder) {
  constexpr size_t kMaxNames = 10'000;
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end;
       !error && entry != end && names.size() < kMaxNames; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

tl::unexpected<Error> other_format(std::string_view what, std::string_view format) {
  return make_error(ErrorCode::kUnsupported, "{}: {}, which is not read; {}", what, format,
                    kExpectedFiles);
}

// Weights in other formats, where there are none in safetensors.
Status check_formats(const std::string& folder) {
  struct Format {
    std::string_view ending, name;
  };
  constexpr std::array<Format, 6> kFormats = {Format{".gguf", "llama.cpp's format GGUF"},
                                              {".ggml", "llama.cpp's format GGML"},
                                              {".bin", "PyTorch's pickled format"},
                                              {".pth", "PyTorch's pickled format"},
                                              {".onnx", "the format ONNX"},
                                              {".h5", "TensorFlow's format"}};
  const std::vector<std::string> names = names_in(folder);
  const auto with = [&names](std::string_view ending) {
    return std::find_if(names.begin(), names.end(),
                        [ending](const std::string& name) { return name.ends_with(ending); });
  };
  if (with(".safetensors") != names.end()) return {};
  for (const Format& format : kFormats) {
    const auto found = with(format.ending);
    const bool is_other = found == names.end() || *found == "training_args.bin";
    if (!is_other) return other_format(fmt::format("{}/{}", folder, *found), format.name);
  }
  return {};
}

}  // namespace

Status check_model_folder(const std::string& folder) {
  std::error_code error;
  if (is_file(folder)) {
    if (folder.ends_with(".gguf")) return other_format(folder, "llama.cpp's format GGUF");
    return make_error(ErrorCode::kInvalidArgument, "{}: a file; expected the folder it lies in",
                      folder);
  }
  if (!fs::is_directory(folder, error)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no such folder; expected a model folder, or ORG/NAME of the Hugging "
                      "Face cache (to ask a question: ultraspeed run --user TEXT)",
                      folder);
  }
  US_TRY(check_formats(folder));
  if (is_file(folder + "/config.json")) return check_quantization(folder);
  return make_error(ErrorCode::kNotFound,
                    "{}: no config.json; expected a model folder with config.json, "
                    "*.safetensors and tokenizer.json",
                    folder);
}

Status check_quantization(const std::string& folder) {
  const std::string file = folder + "/config.json";
  const auto config = read_json_file(file);
  if (!config || !config->is_object()) return {};
  const auto section = config->find("quantization_config");
  if (section == config->end() || !section->is_object()) return {};
  const auto method = section->find("quant_method");
  if (method == section->end() || !method->is_string()) return {};
  const auto name = method->get<std::string>();
  if (name == "fp8" || name == "mxfp4") return {};
  return other_format(file,
                      fmt::format("weights quantised by '{}' (quant_method)", printable(name)));
}

std::string describe_missing_tokenizer(const std::string& folder) {
  for (const char* name : {"tokenizer.model", "vocab.json", "tiktoken.model", "spiece.model"}) {
    if (!is_file(fmt::format("{}/{}", folder, name))) continue;
    return fmt::format(
        "no tokenizer.json, which text needs; {} is not read. transformers makes one of it: "
        "AutoTokenizer.from_pretrained(\"{}\").save_pretrained(\"{}\")",
        name, folder, folder);
  }
  return "no tokenizer.json, which text needs";
}

}  // namespace ultraspeed::apps
