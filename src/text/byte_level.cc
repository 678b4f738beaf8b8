// The two tables of the byte-level alphabet, built at compile time.
#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace ultraspeed::text {
namespace {

constexpr size_t kNumBytes = 256;
constexpr size_t kNumShifted = 68;  // bytes that are not printable by themselves

struct Tables {
  std::array<char32_t, kNumBytes> chars{};
  std::array<int16_t, kNumBytes + kNumShifted> bytes{};  // -1: not in the alphabet
};

constexpr Tables make_tables() {
  Tables tables;
  tables.bytes.fill(-1);
  char32_t next_shifted = kNumBytes;
  for (size_t byte = 0; byte < kNumBytes; ++byte) {
    const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    const char32_t spelled = is_printable ? static_cast<char32_t>(byte) : next_shifted++;
    tables.chars[byte] = spelled;
    tables.bytes[spelled] = static_cast<int16_t>(byte);
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

char32_t byte_level_char(uint8_t byte) {
  return kTables.chars[byte];
}

std::optional<uint8_t> byte_level_byte(char32_t code_point) {
  if (code_point >= kTables.bytes.size() || kTables.bytes[code_point] < 0) return std::nullopt;
  return static_cast<uint8_t>(kTables.bytes[code_point]);
}

std::string byte_level_encode(std::string_view bytes) {
  std::string spelled;
  spelled.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(byte_level_char(static_cast<uint8_t>(byte)), spelled);
  return spelled;
}

std::string byte_level_decode(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t offset = 0; offset < token.size();) {
    const Utf8Piece piece = first_utf8_piece(token.substr(offset));
    const std::optional<uint8_t> byte = byte_level_byte(piece.code_point);
    if (!byte) return std::string(token);
    bytes.push_back(static_cast<char>(*byte));
    offset += piece.size_bytes;
  }
  return bytes;
}

}  // namespace ultraspeed::text
