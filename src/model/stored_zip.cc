// APPNOTE.TXT of the zip format, sections 4.3.7 (local header), 4.3.12 (central directory) and
// 4.3.16 (its end).
#include "model/stored_zip.h"

#include <cstdint>

#include "model/byte_reader.h"
#include "model/json_reader.h"

namespace ultraspeed::model {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndRecord = 0x06054b50;
constexpr size_t kLocalHeaderBytes = 30;
constexpr size_t kCentralHeaderBytes = 46;
constexpr size_t kEndRecordBytes = 22;
constexpr uint32_t kMaxEntries = 64;
constexpr uint32_t kEncryptedFlag = 1;

class ZipReader {
 public:
  ZipReader(std::string_view file, std::span<const std::byte> archive)
      : file_(file), archive_(archive) {}

  Result<ZipEntries> read() const {
    // torch writes no comment, so the end record is the file's last 22 bytes.
    if (archive_.size() < kEndRecordBytes) return fail("is too short for a zip archive");
    const size_t end = archive_.size() - kEndRecordBytes;
    if (number<uint32_t>(end) != kEndRecord) {
      return fail("does not end with a zip end record; expected what torch.save writes");
    }
    const uint32_t count = number<uint16_t>(end + 10);
    if (count > kMaxEntries) {
      return make_error(ErrorCode::kUnsupported, "{}: {} zip entries, expected at most {}", file_,
                        count, kMaxEntries);
    }
    ZipEntries entries;
    size_t at = number<uint32_t>(end + 16);
    for (uint32_t i = 0; i < count; ++i) {
      if (!fits(at, kCentralHeaderBytes) || number<uint32_t>(at) != kCentralHeader) {
        return fail("has a damaged central directory");
      }
      US_TRY(read_entry(at, &entries));
      at += kCentralHeaderBytes + number<uint16_t>(at + 28) + number<uint16_t>(at + 30) +
            number<uint16_t>(at + 32);
    }
    return entries;
  }

 private:
  Status read_entry(size_t at, ZipEntries* entries) const {
    const size_t name_bytes = number<uint16_t>(at + 28);
    if (!fits(at + kCentralHeaderBytes, name_bytes)) return fail("has an entry without a name");
    const std::string name(text_of(archive_.subspan(at + kCentralHeaderBytes, name_bytes)));
    const bool is_encrypted = (number<uint16_t>(at + 8) & kEncryptedFlag) != 0;
    if (is_encrypted || number<uint16_t>(at + 10) != 0) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: entry '{}' is compressed or encrypted, expected a stored one", file_,
                        printable(name));
    }
    const size_t size = number<uint32_t>(at + 24);
    const size_t header = number<uint32_t>(at + 42);
    if (!fits(header, kLocalHeaderBytes) || number<uint32_t>(header) != kLocalHeader) {
      return fail("has no local header for entry '" + printable(name) + "'");
    }
    const size_t data =
        header + kLocalHeaderBytes + number<uint16_t>(header + 26) + number<uint16_t>(header + 28);
    if (!fits(data, size)) return fail("ends inside entry '" + printable(name) + "'");
    if (!entries->emplace(name, archive_.subspan(data, size)).second) {
      return fail("has two entries '" + printable(name) + "'");
    }
    return {};
  }

  bool fits(size_t at, size_t size) const {
    return at <= archive_.size() && size <= archive_.size() - at;
  }
  template <class T>
  T number(size_t at) const {
    return little_endian<T>(archive_, at);
  }
  tl::unexpected<Error> fail(const std::string& what) const {
    return make_error(ErrorCode::kInvalidData, "{}: {}", file_, what);
  }

  std::string_view file_;
  std::span<const std::byte> archive_;
};

}  // namespace

Result<ZipEntries> read_stored_zip(std::string_view file, std::span<const std::byte> archive) {
  return ZipReader(file, archive).read();
}

}  // namespace ultraspeed::model
