// What the files of this module are made of: little-endian records of plain numbers.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/checksum.h"

namespace ultraspeed::train {

static_assert(std::endian::native == std::endian::little, "records are written as they lie");

inline constexpr size_t kModelNameBytes = 128;

template <class T>
void append(std::string* record, const T& value) {
  record->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Filled up with zeros to kModelNameBytes. REQUIRES: shorter than that.
void append_model_name(std::string* record, std::string_view name);

// REQUIRES: at + sizeof(T) <= record.size().
template <class T>
T number_at(std::span<const std::byte> record, size_t at) {
  T value;
  std::memcpy(&value, record.subspan(at, sizeof(T)).data(), sizeof(T));
  return value;
}

// Up to the first zero of the kModelNameBytes at `at`.
std::string model_name_at(std::span<const std::byte> record, size_t at);

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
// The bytes of plain numbers, to be written.
template <class Numbers>
std::string_view text_of(const Numbers& numbers) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(numbers));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace ultraspeed::train
