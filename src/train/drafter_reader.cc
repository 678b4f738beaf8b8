#include "train/drafter_reader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/mapped_file.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "train/json_text.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kMaxHeaderBytes = 1 << 24;
constexpr uint64_t kMaxDimension = 1 << 24;
constexpr uint64_t kMaxValues = uint64_t{1} << 32;
constexpr uint64_t kScaleBlock = 128;
constexpr std::string_view kScaleSuffix = "_scale_inv";

struct Entry {
  std::string dtype;
  std::vector<uint64_t> shape, offsets;
};

bool read_entry(JsonText* json, Entry* out) {
  return json->object([&](const std::string& key) {
    if (key == "dtype") return json->string(&out->dtype);
    if (key == "shape") return json->numbers(&out->shape);
    return key == "data_offsets" && json->numbers(&out->offsets);
  });
}

// A safetensors header's, without its metadata.
bool read_entries(std::string_view header, std::vector<std::pair<std::string, Entry>>* entries) {
  JsonText json(header);
  const auto read = [&](const std::string& name) {
    if (name == "__metadata__") return json.skip();
    return read_entry(&json, &entries->emplace_back(name, Entry()).second);
  };
  return json.object(read) && json.is_at_end();
}

// Errors: kInvalidData where the entry's bytes are not those of its shape.
Status read_values(const std::string& path, const std::string& name, const Entry& entry,
                   std::span<const std::byte> data, std::vector<float>* out) {
  const size_t size = entry.dtype == "F32" ? 4 : entry.dtype == "BF16" ? 2 : 1;
  if (size == 1 && entry.dtype != "F8_E4M3") {
    return make_error(ErrorCode::kUnsupported, "{}: '{}' is of another type than BF16, F32 and FP8",
                      path, name);
  }
  uint64_t count = 1;
  bool is_shape = true;
  for (const uint64_t dimension : entry.shape) {
    is_shape = is_shape && dimension > 0 && dimension <= kMaxDimension;
    count = std::min(kMaxValues, count * (is_shape ? dimension : 0));
  }
  if (!is_shape || count == kMaxValues || entry.offsets.size() != 2 ||
      entry.offsets[0] > entry.offsets[1] || entry.offsets[1] > data.size() ||
      entry.offsets[1] - entry.offsets[0] != count * size) {
    return make_error(ErrorCode::kInvalidData, "{}: '{}' has other bytes than its shape", path,
                      name);
  }
  for (uint64_t i = 0; i < count; ++i) {
    const size_t at = entry.offsets[0] + i * size;
    if (size == 4) out->push_back(number_at<float>(data, at));
    if (size == 2) out->push_back(tensor::bf16_to_float(number_at<uint16_t>(data, at)));
    if (size == 1) out->push_back(tensor::e4m3_to_float(number_at<uint8_t>(data, at)));
  }
  return {};
}

// Multiplies blocks of 128 x 128 values with their scales.
Status scale(const std::string& path, const ExportedTensor& scales, ExportedTensor* tensor) {
  const auto blocks = [](uint64_t size) { return (size + kScaleBlock - 1) / kScaleBlock; };
  if (tensor->shape.size() != 2 || scales.shape.size() != 2 ||
      scales.shape[0] != blocks(tensor->shape[0]) || scales.shape[1] != blocks(tensor->shape[1])) {
    return make_error(ErrorCode::kInvalidData, "{}: '{}' has scales of another shape", path,
                      tensor->name);
  }
  const uint64_t columns = tensor->shape[1];
  for (uint64_t i = 0; i < tensor->values.size(); ++i) {
    const uint64_t row = i / columns / kScaleBlock, column = i % columns / kScaleBlock;
    tensor->values[i] *= scales.values[row * scales.shape[1] + column];
  }
  return {};
}

}  // namespace

Result<std::vector<ExportedTensor>> parse_drafter_weights(const std::string& path,
                                                          std::span<const std::byte> bytes) {
  const uint64_t header_bytes = bytes.size() < 8 ? 0 : number_at<uint64_t>(bytes, 0);
  std::vector<std::pair<std::string, Entry>> entries;
  if (header_bytes == 0 || header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - 8 ||
      !read_entries({reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes}, &entries)) {
    return make_error(ErrorCode::kInvalidData, "{}: has no header of a drafter's safetensors",
                      path);
  }
  std::vector<ExportedTensor> tensors;
  std::map<std::string, ExportedTensor, std::less<>> scales;
  for (const auto& [name, entry] : entries) {
    ExportedTensor tensor = {name, entry.shape, {}};
    US_TRY(read_values(path, name, entry, bytes.subspan(8 + header_bytes), &tensor.values));
    if (name.ends_with(kScaleSuffix)) {
      scales.emplace(name.substr(0, name.size() - kScaleSuffix.size()), std::move(tensor));
    } else {
      tensors.push_back(std::move(tensor));
    }
  }
  for (ExportedTensor& tensor : tensors) {
    const auto found = scales.find(tensor.name);
    if (found != scales.end()) US_TRY(scale(path, found->second, &tensor));
  }
  return tensors;
}

Result<std::vector<ExportedTensor>> read_drafter_weights(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::vector<std::byte> bytes(file.size_bytes());
  US_TRY(file.read(0, bytes));
  return parse_drafter_weights(path, bytes);
}

}  // namespace ultraspeed::train
