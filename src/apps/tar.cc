#include "apps/tar.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/check.h"

namespace ultraspeed::apps {
namespace {

constexpr size_t kBlockBytes = 512;
constexpr size_t kMaxFiles = 1000;

// All fields are text; numbers are octal digits and a NUL.
struct Header {
  char name[100];
  char mode[8];
  char user[8];
  char group[8];
  char size[12];
  char time[12];
  char checksum[8];  // six digits, NUL, space
  char type;         // '0': a plain file
  char link[100];
  char magic[6];  // "ustar"
  char version[2];
  char user_name[32];
  char group_name[32];
  char device_major[8];
  char device_minor[8];
  char prefix[155];
  char rest[12];
};
static_assert(sizeof(Header) == kBlockBytes);

constexpr std::string_view kMagic("ustar\00000", 8);  // with the version

// The sum of all bytes, those of the checksum taken for spaces.
uint32_t checksum_of(Header header) {
  std::memset(header.checksum, ' ', sizeof(header.checksum));
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  return std::accumulate(bytes, bytes + kBlockBytes, 0U);
}

template <size_t kSize>
void write_octal(uint64_t value, size_t digits, char (&field)[kSize]) {
  for (size_t i = digits; i-- > 0; value /= 8) field[i] = static_cast<char>('0' + value % 8);
  US_CHECK(value == 0, "a number of more than {} octal digits", digits);
}

// Digits up to a NUL, a space or the end.
std::optional<uint64_t> read_octal(std::string_view field) {
  uint64_t value = 0;
  size_t digits = 0;
  for (const char c : field) {
    if (c == '\0' || c == ' ') break;
    if (c < '0' || c > '7') return {};
    value = value * 8 + static_cast<uint64_t>(c - '0');
    ++digits;
  }
  return digits > 0 ? std::optional(value) : std::nullopt;
}

Header header_of(const TarFile& file) {
  Header header = {};
  US_CHECK(!file.name.empty() && file.name.size() <= sizeof(header.name), "'{}'", file.name);
  std::memcpy(header.name, file.name.data(), file.name.size());
  write_octal(0644, 7, header.mode);
  write_octal(0, 7, header.user);
  write_octal(0, 7, header.group);
  write_octal(file.contents.size(), 11, header.size);
  write_octal(0, 11, header.time);
  header.type = '0';
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  write_octal(checksum_of(header), 6, header.checksum);
  header.checksum[7] = ' ';
  return header;
}

bool is_plain_name(std::string_view name) {
  const bool is_printable = std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7f; });
  return is_printable && !name.empty() && !name.starts_with('/') &&
         fmt::format("/{}/", name).find("/../") == std::string::npos;
}

class Reader {
 public:
  Reader(std::string_view archive, const std::string& label) : archive_(archive), label_(label) {}

  Result<std::vector<TarFile>> read() {
    std::vector<TarFile> files;
    while (true) {
      if (archive_.size() - at_ < 2 * kBlockBytes) {
        return error("the archive ends early: two empty blocks must end it");
      }
      if (is_empty(archive_.substr(at_, 2 * kBlockBytes))) break;
      if (files.size() == kMaxFiles) return error("more than 1000 files");
      US_ASSIGN(TarFile file, read_file());
      for (const TarFile& other : files) {
        if (other.name == file.name) return error(fmt::format("'{}' comes twice", file.name));
      }
      files.push_back(std::move(file));
    }
    if (!is_empty(archive_.substr(at_))) return error("there is more after the end");
    return files;
  }

 private:
  static bool is_empty(std::string_view bytes) {
    return std::ranges::all_of(bytes, [](char c) { return c == '\0'; });
  }

  tl::unexpected<Error> error(std::string_view what) const {
    return make_error(ErrorCode::kInvalidData, "{}: byte {}: {}", label_, at_, what);
  }

  Result<TarFile> read_file() {
    Header header;
    std::memcpy(&header, archive_.data() + at_, kBlockBytes);
    if (std::string_view(header.magic, kMagic.size()) != kMagic) {
      return error("no header of a ustar archive; expected what 'ultraspeed report' wrote");
    }
    const auto checksum = read_octal({header.checksum, sizeof(header.checksum)});
    if (checksum != checksum_of(header)) return error("a header with a wrong checksum");
    TarFile file;
    file.name = std::string(header.name, strnlen(header.name, sizeof(header.name)));
    if (!is_plain_name(file.name) || header.prefix[0] != '\0') {
      return error("a name that no report has");
    }
    if (header.type != '0') return error(fmt::format("'{}' is no plain file", file.name));
    const auto size = read_octal({header.size, sizeof(header.size)});
    const size_t begin = at_ + kBlockBytes;
    if (!size || *size > archive_.size() - begin) {
      return error(fmt::format("the archive ends within '{}'", file.name));
    }
    file.contents = archive_.substr(begin, *size);
    const size_t padded = (*size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    if (padded > archive_.size() - begin ||
        !is_empty(archive_.substr(begin + *size, padded - *size))) {
      return error(fmt::format("'{}' does not end with empty bytes", file.name));
    }
    at_ = begin + padded;
    return file;
  }

  std::string_view archive_;
  const std::string& label_;
  size_t at_ = 0;
};

}  // namespace

std::string write_tar(const std::vector<TarFile>& files) {
  std::string archive;
  for (const TarFile& file : files) {
    const Header header = header_of(file);
    archive.append(reinterpret_cast<const char*>(&header), kBlockBytes);
    archive += file.contents;
    archive.resize((archive.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
  }
  archive.resize(archive.size() + 2 * kBlockBytes);
  return archive;
}

Result<std::vector<TarFile>> read_tar(std::string_view archive, const std::string& label) {
  return Reader(archive, label).read();
}

}  // namespace ultraspeed::apps
