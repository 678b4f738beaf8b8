#include "support/mtp_generator.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "support/checkpoint_generator.h"

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kMtpName = "model_mtp.safetensors";

// As models/tiny-mimo/config.json says, for what MTP layers have.
GeneratorOptions tiny_mimo_options(uint32_t num_layers) {
  GeneratorOptions options;
  options.num_mtp_layers = num_layers;
  options.hidden_size = 512;
  options.intermediate_size = 1536;
  options.num_q_heads = 8;
  options.num_kv_heads = 2;
  options.num_sliding_kv_heads = 4;
  return options;
}

}  // namespace

TinyMimoWithMtp::TinyMimoWithMtp(uint32_t num_layers) {
  std::string index;
  for (const auto& entry : fs::directory_iterator(fs::absolute(US_TINY_MIMO))) {
    const std::string name = entry.path().filename().string();
    if (name != kIndexName) {
      fs::create_symlink(entry.path(), path() + "/" + name);
      continue;
    }
    std::ifstream file(entry.path());
    index.assign(std::istreambuf_iterator<char>(file), {});
  }
  const GeneratedCheckpoint mtp = generate_mtp_layers(tiny_mimo_options(num_layers));
  std::string entries;
  for (const StoredTensor& tensor : mtp.tensors) {
    entries += ", \"" + tensor.name + "\": \"" + kMtpName + "\"";
  }
  const size_t end = index.rfind("}}");
  US_CHECK(end != std::string::npos, "{} has another form", kIndexName);
  index.insert(end, entries);
  US_CHECK(write_file(path() + "/" + kIndexName, index).has_value());
  US_CHECK(write_safetensors(path() + "/" + kMtpName, mtp.tensors, {{"format", "pt"}}).has_value());
}

}  // namespace ultraspeed::test
