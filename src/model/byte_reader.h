// Numbers and text out of raw bytes. Internal to model/.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

#include "base/check.h"

namespace ultraspeed::model {

static_assert(std::endian::native == std::endian::little);

template <class T>
T little_endian(std::span<const std::byte> bytes, size_t at) {
  US_CHECK(at <= bytes.size() && sizeof(T) <= bytes.size() - at, "{} of {}", at, bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace ultraspeed::model
