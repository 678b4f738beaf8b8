#include "support/safetensors_writer.h"

#include <fmt/format.h>

#include <fstream>

namespace ultraspeed::test {
namespace {

std::string metadata_json(const Metadata& metadata) {
  std::string json;
  for (const auto& [key, value] : metadata) {
    json += fmt::format("{}\"{}\": \"{}\"", json.empty() ? "" : ", ", key, value);
  }
  return "{" + json + "}";
}

std::string shape_json(const std::vector<uint64_t>& shape) {
  std::string json;
  for (const uint64_t size : shape) json += (json.empty() ? "" : ", ") + std::to_string(size);
  return "[" + json + "]";
}

}  // namespace

Status write_file(const std::string& path, std::string_view contents) {
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  if (!file) return make_error(ErrorCode::kIo, "{}: cannot write", path);
  return {};
}

Status write_raw_safetensors(const std::string& path, std::string_view header,
                             std::string_view data) {
  std::string contents;
  for (uint32_t i = 0; i < 8; ++i) {
    contents += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i) & 0xff);
  }
  contents += header;
  contents += data;
  return write_file(path, contents);
}

Status write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                         const Metadata& metadata) {
  std::string header = "{\"__metadata__\": " + metadata_json(metadata);
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    header += fmt::format(
        ", \"{}\": {{\"dtype\": \"{}\", \"shape\": {}, \"data_offsets\": [{}, {}]}}", tensor.name,
        tensor.dtype, shape_json(tensor.shape), data.size(), data.size() + tensor.bytes.size());
    data.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return write_raw_safetensors(path, header + "}", data);
}

Status write_checkpoint_files(const std::string& directory,
                              const std::vector<StoredTensor>& tensors, uint32_t num_files,
                              const Metadata& metadata) {
  if (num_files == 1) {
    return write_safetensors(directory + "/model.safetensors", tensors, metadata);
  }
  std::vector<std::vector<StoredTensor>> shards(num_files);
  std::string weight_map;
  const auto file_name = [&](uint32_t index) {
    return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, num_files);
  };
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    shards[i % num_files].push_back(tensors[i]);
    weight_map += fmt::format("{}\"{}\": \"{}\"", i == 0 ? "" : ", ", tensors[i].name,
                              file_name(i % num_files));
  }
  for (uint32_t i = 0; i < num_files; ++i) {
    US_TRY(write_safetensors(directory + "/" + file_name(i), shards[i], {{"format", "pt"}}));
  }
  return write_file(directory + "/model.safetensors.index.json",
                    fmt::format("{{\"metadata\": {}, \"weight_map\": {{{}}}}}",
                                metadata_json(metadata), weight_map));
}

}  // namespace ultraspeed::test
