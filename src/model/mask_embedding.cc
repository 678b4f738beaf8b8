#include "model/mask_embedding.h"

#include <cstring>

#include "model/config_limits.h"
#include "model/stored_zip.h"
#include "model/tensor_pickle.h"
#include "model/weight_checks.h"

namespace ultraspeed::model {
namespace {

// Twice the largest embedding row, and room for torch's alignment and records.
constexpr uint64_t kMaxFileBytes = uint64_t{2} * kMaxHiddenSize * sizeof(uint16_t) + (64 << 10);

// The one entry NAME/LEAF; torch puts all entries into a folder named after the file.
Result<std::span<const std::byte>> find_entry(std::string_view file, const ZipEntries& entries,
                                              const std::string& leaf) {
  for (const auto& [name, bytes] : entries) {
    if (name.ends_with("/" + leaf) && name.find('/') == name.size() - leaf.size() - 1) return bytes;
  }
  return make_error(ErrorCode::kInvalidData, "{}: no entry '{}'; expected what torch.save writes",
                    file, printable(leaf));
}

template <class T>
Result<T> find_item(std::string_view file, const PickledDict& dict, std::string_view key,
                    std::string_view expected) {
  const auto found = dict.find(key);
  const T* value = found == dict.end() ? nullptr : std::get_if<T>(&found->second);
  if (value != nullptr) return *value;
  return make_error(ErrorCode::kInvalidData, "{}: no '{}'; expected {}", file, key, expected);
}

}  // namespace

Result<MaskEmbedding> MaskEmbedding::parse(std::string_view file,
                                           std::span<const std::byte> archive) {
  US_ASSIGN(const ZipEntries entries, read_stored_zip(file, archive));
  US_ASSIGN(const auto pickle, find_entry(file, entries, "data.pkl"));
  US_ASSIGN(const PickledDict dict, read_tensor_pickle(file, pickle));
  MaskEmbedding mask;
  US_ASSIGN(const int64_t id, find_item<int64_t>(file, dict, "mask_token_id", "a token id"));
  if (id < 0 || id >= kMaxVocabSize) {
    return make_error(ErrorCode::kInvalidData, "{}: mask_token_id {} is not in [0, {})", file, id,
                      kMaxVocabSize);
  }
  mask.mask_token_id = static_cast<uint32_t>(id);
  US_ASSIGN(const auto tensor,
            find_item<PickledTensor>(file, dict, "embedding", "a BF16 tensor [hidden_size]"));
  const bool is_row =
      tensor.shape.size() == 1 || (tensor.shape.size() == 2 && tensor.shape[0] == 1);
  US_ASSIGN(const auto storage, find_entry(file, entries, "data/" + tensor.key));
  const uint64_t available = storage.size() / sizeof(uint16_t);
  const uint64_t size = is_row ? tensor.shape.back() : 0;
  if (size == 0 || size > available || tensor.offset > available - size) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: the embedding does not lie in its storage of {} elements; expected one "
                      "row [hidden_size]",
                      file, available);
  }
  mask.values.resize(size);
  const auto elements = storage.subspan(tensor.offset * sizeof(uint16_t), size * sizeof(uint16_t));
  std::memcpy(mask.values.data(), elements.data(), elements.size());
  if (const auto bad = find_bad_element(tensor::WeightFormat::kBf16, elements)) {
    return make_error(ErrorCode::kInvalidData, "{}: element {} of the embedding is not finite",
                      file, *bad);
  }
  return mask;
}

Result<MaskEmbedding> MaskEmbedding::load(const std::string& path) {
  US_ASSIGN(const std::string bytes, read_text_file(path, kMaxFileBytes));
  return parse(path, std::as_bytes(std::span(bytes)));
}

}  // namespace ultraspeed::model
