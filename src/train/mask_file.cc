// mask_embedding.pt: a zip archive of stored entries with the pickle of a dict, as torch.save
// writes it and model/mask_embedding.cc reads it.
#include <cmath>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tensor/bf16.h"
#include "train/drafter_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint32_t kCrcPolynomial = 0xedb88320u;  // of zip's CRC-32, reflected
constexpr uint32_t kFirstDay = 0x00210000u;       // 1980-01-01 as MS-DOS date and time

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? kCrcPolynomial : 0);
  }
  return ~crc;
}

// What local headers and the central directory say alike of a stored entry.
std::string entry_fields(const std::string& name, const std::string& contents) {
  std::string fields;
  append(&fields, uint16_t{10});  // the version that is needed
  append(&fields, uint16_t{0});   // no flags
  append(&fields, uint16_t{0});   // stored
  append(&fields, kFirstDay);
  append(&fields, crc32(contents));
  append(&fields, static_cast<uint32_t>(contents.size()));
  append(&fields, static_cast<uint32_t>(contents.size()));
  append(&fields, static_cast<uint16_t>(name.size()));
  append(&fields, uint16_t{0});  // no extra field
  return fields;
}

std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string archive, directory;
  for (const auto& [name, contents] : entries) {
    const std::string fields = entry_fields(name, contents);
    directory += "PK\1\2";
    append(&directory, uint16_t{10});  // the version that wrote it
    directory += fields;
    append(&directory, uint16_t{0});  // no comment
    append(&directory, uint16_t{0});  // the first disk
    append(&directory, uint16_t{0});
    append(&directory, uint32_t{0});  // no attributes
    append(&directory, static_cast<uint32_t>(archive.size()));
    directory += name;
    archive += "PK\3\4";
    archive += fields;
    archive += name;
    archive += contents;
  }
  std::string end = "PK\5\6";
  append(&end, uint32_t{0});  // one disk
  append(&end, static_cast<uint16_t>(entries.size()));
  append(&end, static_cast<uint16_t>(entries.size()));
  append(&end, static_cast<uint32_t>(directory.size()));
  append(&end, static_cast<uint32_t>(archive.size()));
  append(&end, uint16_t{0});
  return archive + directory + end;
}

void push_text(std::string* pickle, const std::string& text) {
  *pickle += 'X';
  append(pickle, static_cast<uint32_t>(text.size()));
  *pickle += text;
}

void push_integer(std::string* pickle, uint32_t value) {
  *pickle += 'J';
  append(pickle, static_cast<int32_t>(value));
}

// {"mask_token_id": id, "embedding": tensor of `size` BF16 numbers in the storage "0"}.
std::string pickle_of(uint32_t mask_token_id, uint32_t size) {
  std::string pickle = "\x80\2}(";  // protocol 2, an empty dict, a mark for its items
  push_text(&pickle, "mask_token_id");
  push_integer(&pickle, mask_token_id);
  push_text(&pickle, "embedding");
  pickle += "ctorch._utils\n_rebuild_tensor_v2\n((";
  push_text(&pickle, "storage");
  pickle += "ctorch\nBFloat16Storage\n";
  push_text(&pickle, "0");
  push_text(&pickle, "cpu");
  push_integer(&pickle, size);
  pickle += "tQ";            // the storage by its persistent id
  push_integer(&pickle, 0);  // offset
  push_integer(&pickle, size);
  pickle += '\x85';  // the shape, a tuple of one
  push_integer(&pickle, 1);
  pickle += "\x85\x89";  // the stride; needs no gradient
  return pickle + "ccollections\nOrderedDict\n)RtRu.";
}

}  // namespace

Result<std::string> mask_embedding_file(const std::string& path, uint32_t mask_token_id,
                                        std::span<const float> embedding) {
  std::string values;
  for (const float value : embedding) {
    if (!std::isfinite(value)) {
      return make_error(ErrorCode::kInvalidData, "{}: an embedding that is not finite", path);
    }
    append(&values, tensor::bf16_from_float(value));
  }
  const std::string pickle = pickle_of(mask_token_id, static_cast<uint32_t>(embedding.size()));
  return zip_archive({{"mask_embedding/data.pkl", pickle},
                      {"mask_embedding/data/0", values},
                      {"mask_embedding/version", "3\n"}});
}

}  // namespace ultraspeed::train
