// Writes safetensors files and their index, byte by byte as the format says and without any code of
// src/model, so that it can also write what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::test {

struct StoredTensor {
  std::string name;
  std::string dtype;  // as the header spells it
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;
};

Status write_file(const std::string& path, std::string_view contents);

// A file with this header text and data, whatever they are.
Status write_raw_safetensors(const std::string& path, std::string_view header,
                             std::string_view data);

using Metadata = std::map<std::string, std::string>;

Status write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                         const Metadata& metadata);

// num_files == 1: model.safetensors, metadata in its header. Else shards and
// model.safetensors.index.json with the metadata; the tensors are dealt out in turn.
Status write_checkpoint_files(const std::string& directory,
                              const std::vector<StoredTensor>& tensors, uint32_t num_files,
                              const Metadata& metadata);

}  // namespace ultraspeed::test
