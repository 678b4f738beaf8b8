// The byte-level alphabet of GPT-2: tokenizer.json spells each byte as one printable character, so
// that any byte string can be a JSON string. Source: bytes_to_unicode() of the GPT-2 encoder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ultraspeed::text {

// The character that spells a byte: itself for '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF, the
// remaining 68 bytes from U+0100 on in ascending order.
char32_t byte_level_char(uint8_t byte);

// The byte that a character spells, if it spells one.
std::optional<uint8_t> byte_level_byte(char32_t code_point);

// Spells a byte string.
std::string byte_level_encode(std::string_view bytes);

// The bytes that a spelled token stands for; a token with any character outside of the alphabet
// stands for its own UTF-8 bytes. REQUIRES: token is valid UTF-8.
std::string byte_level_decode(std::string_view token);

}  // namespace ultraspeed::text
