#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "model/json_reader.h"

namespace ultraspeed::model {
namespace {

constexpr uint64_t kHeaderLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxDimensions = 8;

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  uint32_t bytes;
};
constexpr std::array<DtypeRow, 16> kDtypes = {{{Dtype::kBool, "BOOL", 1},
                                               {Dtype::kU8, "U8", 1},
                                               {Dtype::kI8, "I8", 1},
                                               {Dtype::kF8E4m3, "F8_E4M3", 1},
                                               {Dtype::kF8E5m2, "F8_E5M2", 1},
                                               {Dtype::kF8E8m0, "F8_E8M0", 1},
                                               {Dtype::kU16, "U16", 2},
                                               {Dtype::kI16, "I16", 2},
                                               {Dtype::kF16, "F16", 2},
                                               {Dtype::kBf16, "BF16", 2},
                                               {Dtype::kU32, "U32", 4},
                                               {Dtype::kI32, "I32", 4},
                                               {Dtype::kF32, "F32", 4},
                                               {Dtype::kU64, "U64", 8},
                                               {Dtype::kI64, "I64", 8},
                                               {Dtype::kF64, "F64", 8}}};

const DtypeRow& dtype_row(Dtype dtype) {
  return kDtypes.at(static_cast<size_t>(dtype));
}

// Parses one file's header; the members are what every error message needs.
class HeaderParser {
 public:
  HeaderParser(std::string_view file, uint64_t data_offset, uint64_t data_bytes)
      : file_(file), data_offset_(data_offset), data_bytes_(data_bytes) {}

  Result<SafetensorsHeader> parse(std::string_view json) {
    if (json.empty() || json.front() != '{') {
      return make_error(ErrorCode::kInvalidData, "{}: the header does not begin with '{{'", file_);
    }
    US_ASSIGN(const JsonDocument document, JsonDocument::parse(file_, json));
    for (const auto field : document.object()) {
      if (field.key == "__metadata__") {
        US_TRY(read_metadata(field.value));
      } else {
        US_TRY(read_tensor(field.key, field.value));
      }
    }
    US_TRY(check_ranges());
    return std::move(header_);
  }

 private:
  template <class... Args>
  tl::unexpected<Error> bad(std::string_view tensor, fmt::format_string<Args...> format,
                            Args&&... args) const {
    return make_error(ErrorCode::kInvalidData, "{}: tensor '{}': {}", file_, printable(tensor),
                      fmt::format(format, std::forward<Args>(args)...));
  }

  Status read_metadata(const simdjson::dom::element& value) {
    simdjson::dom::object object;
    if (value.get(object) != simdjson::SUCCESS) {
      return make_error(ErrorCode::kInvalidData, "{}: __metadata__ is {}; expected an object",
                        file_, json_excerpt(value));
    }
    for (const auto field : object) {
      std::string_view text;
      if (field.value.get(text) != simdjson::SUCCESS) {
        return make_error(ErrorCode::kInvalidData,
                          "{}: __metadata__ key '{}' is {}; expected a string", file_,
                          printable(field.key), json_excerpt(field.value));
      }
      header_.metadata[std::string(field.key)] = text;
    }
    return {};
  }

  Status read_tensor(std::string_view name, const simdjson::dom::element& value) {
    if (name.empty() || name.size() > kMaxNameBytes) {
      return bad(name, "its name has {} bytes; expected 1 to {}", name.size(), kMaxNameBytes);
    }
    if (has_control_characters(name)) return bad(name, "its name holds control characters");
    simdjson::dom::object object;
    if (value.get(object) != simdjson::SUCCESS || object.size() != 3) {
      return bad(name, "its entry is {}; expected an object of dtype, shape and data_offsets",
                 json_excerpt(value));
    }
    TensorInfo info;
    US_ASSIGN(info.dtype, read_dtype(name, object));
    US_ASSIGN(info.shape, read_shape(name, object));
    US_TRY(read_offsets(name, object, info));
    header_.tensors.emplace(name, std::move(info));
    return {};
  }

  Result<Dtype> read_dtype(std::string_view name, const simdjson::dom::object& object) const {
    std::string_view text;
    if (object.at_key("dtype").get(text) != simdjson::SUCCESS) {
      return bad(name, "dtype is missing or not a string");
    }
    for (const DtypeRow& row : kDtypes) {
      if (row.name == text) return row.dtype;
    }
    return bad(name, "dtype '{}' is unknown; expected one such as F32, BF16, F8_E4M3 or U8",
               printable(text));
  }

  Result<std::vector<uint64_t>> read_shape(std::string_view name,
                                           const simdjson::dom::object& object) const {
    simdjson::dom::array array;
    if (object.at_key("shape").get(array) != simdjson::SUCCESS || array.size() > kMaxDimensions) {
      return bad(name, "shape is not a list of at most {} sizes", kMaxDimensions);
    }
    std::vector<uint64_t> shape;
    for (const auto item : array) {
      uint64_t size = 0;
      if (item.get(size) != simdjson::SUCCESS) {
        return bad(name, "shape has {}; expected non-negative integers", json_excerpt(item));
      }
      shape.push_back(size);
    }
    return shape;
  }

  // data_offsets, checked against dtype, shape and the size of the data section.
  Status read_offsets(std::string_view name, const simdjson::dom::object& object,
                      TensorInfo& info) const {
    simdjson::dom::array array;
    uint64_t begin = 0;
    uint64_t end = 0;
    if (object.at_key("data_offsets").get(array) != simdjson::SUCCESS || array.size() != 2 ||
        array.at(0).get(begin) != simdjson::SUCCESS || array.at(1).get(end) != simdjson::SUCCESS) {
      return bad(name, "data_offsets are not a list of two non-negative integers");
    }
    if (begin > end || end > data_bytes_) {
      return bad(name,
                 "data_offsets [{}, {}) are not a range within the {} bytes of data; the file is "
                 "truncated or the header is wrong",
                 begin, end, data_bytes_);
    }
    uint64_t bytes = dtype_bytes(info.dtype);
    for (const uint64_t size : info.shape) {
      if (__builtin_mul_overflow(bytes, size, &bytes)) {
        return bad(name, "shape {} overflows 64 bits", shape_text(info.shape));
      }
    }
    if (bytes != end - begin) {
      return bad(name, "data_offsets [{}, {}) span {} bytes; expected {} for {} {}", begin, end,
                 end - begin, bytes, dtype_name(info.dtype), shape_text(info.shape));
    }
    info.offset = data_offset_ + begin;
    info.bytes = bytes;
    return {};
  }

  // The tensors must tile the data section: no overlap, no hole, nothing after the last.
  Status check_ranges() const {
    struct Range {
      uint64_t begin, end;
      std::string_view name;
      bool operator<(const Range& other) const {
        return begin != other.begin ? begin < other.begin : end < other.end;
      }
    };
    std::vector<Range> ranges;
    ranges.reserve(header_.tensors.size());
    for (const auto& [name, info] : header_.tensors) {
      const uint64_t begin = info.offset - data_offset_;
      ranges.push_back({begin, begin + info.bytes, name});
    }
    std::sort(ranges.begin(), ranges.end());
    uint64_t end = 0;
    std::string_view previous;
    for (const Range& range : ranges) {
      if (range.begin < end) {
        return bad(range.name,
                   "data_offsets [{}, {}) overlap those of tensor '{}', which end at "
                   "{}",
                   range.begin, range.end, printable(previous), end);
      }
      if (range.begin > end) {
        return bad(range.name,
                   "data_offsets begin at {}; expected {}: the bytes between belong to "
                   "no tensor",
                   range.begin, end);
      }
      end = range.end;
      previous = range.name;
    }
    if (end != data_bytes_) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: the tensors end at byte {} of the data, which has {} bytes", file_,
                        end, data_bytes_);
    }
    return {};
  }

  std::string_view file_;
  uint64_t data_offset_;
  uint64_t data_bytes_;
  SafetensorsHeader header_;
};

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  return dtype_row(dtype).name;
}
uint32_t dtype_bytes(Dtype dtype) {
  return dtype_row(dtype).bytes;
}

std::string shape_text(std::span<const uint64_t> shape) {
  std::string text;
  for (const uint64_t size : shape) {
    text += text.empty() ? "[" : ", ";
    text += std::to_string(size);
  }
  return text.empty() ? "[]" : text + "]";
}

Result<SafetensorsHeader> SafetensorsHeader::parse(std::string_view file, std::string_view json,
                                                   uint64_t data_offset, uint64_t data_bytes) {
  return HeaderParser(file, data_offset, data_bytes).parse(json);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  US_ASSIGN(MappedFile file, MappedFile::open(path));
  if (file.size_bytes() < kHeaderLengthBytes) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: {} bytes; expected at least the 8 of the header length", path,
                      file.size_bytes());
  }
  std::array<std::byte, kHeaderLengthBytes> length_bytes = {};
  US_TRY(file.read(0, length_bytes));
  uint64_t header_bytes = 0;
  for (size_t i = kHeaderLengthBytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(length_bytes[i]);
  }
  const uint64_t limit = std::min(kMaxHeaderBytes, file.size_bytes() - kHeaderLengthBytes);
  if (header_bytes > limit) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: the header claims {} bytes; expected at most {}: truncated, or not a "
                      "safetensors file",
                      path, header_bytes, limit);
  }
  std::string json(header_bytes, '\0');
  US_TRY(file.read(kHeaderLengthBytes, std::as_writable_bytes(std::span(json))));
  const uint64_t data_offset = kHeaderLengthBytes + header_bytes;
  file.forget(0, data_offset);
  US_ASSIGN(SafetensorsHeader header,
            SafetensorsHeader::parse(path, json, data_offset, file.size_bytes() - data_offset));
  return SafetensorsFile(std::move(file), std::move(header));
}

}  // namespace ultraspeed::model
