// One .safetensors file: an 8-byte little-endian header length, a JSON header
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {string: string}}, the data.
// Format: https://github.com/huggingface/safetensors#format. All of it is validated: the byte range
// of a TensorInfo always lies in the file and matches its dtype and shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "base/result.h"

namespace ultraspeed::model {

enum class Dtype : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4m3,
  kF8E5m2,
  kF8E8m0,
  kU16,
  kI16,
  kF16,
  kBf16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
};

std::string_view dtype_name(Dtype dtype);  // as the header spells it: "F8_E4M3"
uint32_t dtype_bytes(Dtype dtype);

struct TensorInfo {
  Dtype dtype = Dtype::kU8;
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  // in the file
  uint64_t bytes = 0;
};

std::string shape_text(std::span<const uint64_t> shape);  // "[192, 512]"

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

struct SafetensorsHeader {
  StringMap<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;

  // `file` is for messages; `json` the header's text; the data section follows at `data_offset` and
  // has `data_bytes`. Errors: kInvalidData.
  static Result<SafetensorsHeader> parse(std::string_view file, std::string_view json,
                                         uint64_t data_offset, uint64_t data_bytes);
};

class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const SafetensorsHeader& header() const { return header_; }

  // Copies bytes [offset, offset + out.size()) of the file. Errors: kIo when the file shrank.
  Status read(uint64_t offset, std::span<std::byte> out) const { return file_.read(offset, out); }
  Status read_rows(const FileRows& rows, std::span<std::byte> out) const {
    return file_.read_rows(rows, out);
  }
  const MappedFile& mapped() const { return file_; }
  void forget(uint64_t offset, uint64_t bytes) const { file_.forget(offset, bytes); }

 private:
  SafetensorsFile(MappedFile file, SafetensorsHeader header)
      : file_(std::move(file)), header_(std::move(header)) {}

  MappedFile file_;
  SafetensorsHeader header_;
};

}  // namespace ultraspeed::model
