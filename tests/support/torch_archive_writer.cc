#include "support/torch_archive_writer.h"

#include <fmt/format.h>

namespace ultraspeed::test {
namespace {

// The low bytes of a value, lowest first; zeros past its eight.
std::string number(uint64_t value, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i, value >>= 8) text += static_cast<char>(value & 0xff);
  return text;
}

std::string unicode(const std::string& text) {
  return fmt::format("X{}{}", number(text.size(), 4), text);
}

std::string integer(uint32_t value) {
  return fmt::format("J{}", number(value, 4));
}

std::string tuple(const std::vector<uint32_t>& values) {
  std::string text = "(";
  for (const uint32_t value : values) text += integer(value);
  return text + "t";
}

}  // namespace

std::string zip_archive(const ArchiveEntries& entries) {
  std::string archive, directory;
  for (const auto& [name, contents] : entries) {
    const std::string size = number(contents.size(), 4);
    const std::string common = number(0x0808, 2) + number(0, 6);  // descriptor follows; stored
    directory +=
        fmt::format("PK\1\2{}{}{}{}{}{}{}{}{}", number(0, 4), common, number(0, 4), size, size,
                    number(name.size(), 2), number(0, 12), number(archive.size(), 4), name);
    archive += fmt::format("PK\3\4{}{}{}{}{}{}FB{}ZZ{}", number(0, 2), common, number(0, 12),
                           number(name.size(), 2), number(6, 2), name, number(2, 2), contents);
    archive += fmt::format("PK\7\10{}{}{}", number(0, 4), size, size);
  }
  const std::string count = number(entries.size(), 2);
  return fmt::format("{}{}PK\5\6{}{}{}{}{}{}", archive, directory, number(0, 4), count, count,
                     number(directory.size(), 4), number(archive.size(), 4), number(0, 2));
}

std::string mask_pickle(uint32_t mask_token_id, const std::vector<uint32_t>& shape) {
  uint32_t elements = 1;
  for (const uint32_t size : shape) elements *= size;
  std::vector<uint32_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  std::string text = "\x80\2}q";
  text += number(0, 1) + "(" + unicode("mask_token_id") + integer(mask_token_id);
  text += unicode("embedding") + "ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage");
  text += "ctorch\nBFloat16Storage\n" + unicode("0") + unicode("cpu") + integer(elements) + "tQ";
  text += integer(0) + tuple(shape) + tuple(strides) + "\x89";
  return text + "ccollections\nOrderedDict\n)RtRu.";
}

std::string mask_embedding_file(uint32_t mask_token_id, const std::vector<uint16_t>& codes) {
  std::string data;
  for (const uint16_t code : codes) data += number(code, 2);
  const auto size = static_cast<uint32_t>(codes.size());
  return zip_archive(
      {{"archive/data.pkl", mask_pickle(mask_token_id, {size})}, {"archive/data/0", data}});
}

}  // namespace ultraspeed::test
