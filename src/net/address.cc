#include "net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace ultraspeed::net {
namespace {

constexpr unsigned kIpv4Bits = 32;
constexpr unsigned kIpv6Bits = 128;

bool equals_bits(const AddressBytes& a, const AddressBytes& b, unsigned num_bits) {
  for (unsigned bit = 0; bit < num_bits; bit += 8) {
    const unsigned ignored = num_bits - bit < 8 ? 8 - (num_bits - bit) : 0;
    if ((a[bit / 8] ^ b[bit / 8]) >> ignored != 0) return false;
  }
  return true;
}

}  // namespace

std::optional<AddressBytes> parse_address(std::string_view text) {
  const std::string terminated(text);
  AddressBytes bytes{};
  if (inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) return bytes;
  bytes = {};
  bytes[10] = bytes[11] = 0xFF;
  if (inet_pton(AF_INET, terminated.c_str(), bytes.data() + 12) == 1) return bytes;
  return std::nullopt;
}

bool is_loopback(std::string_view address) {
  static const AddressRange kIpv4 = *AddressRange::parse("127.0.0.0/8");
  static const AddressRange kIpv6 = *AddressRange::parse("::1");
  return kIpv4.contains(address) || kIpv6.contains(address);
}

Result<AddressRange> AddressRange::parse(std::string_view text) {
  const size_t slash = std::min(text.find('/'), text.size());
  const std::string_view address = text.substr(0, slash);
  const auto bytes = parse_address(address);
  const unsigned most = address.find(':') == std::string_view::npos ? kIpv4Bits : kIpv6Bits;
  unsigned num_bits = most;
  bool is_valid = bytes.has_value();
  if (slash < text.size()) {
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + slash + 1, end, num_bits);
    is_valid = is_valid && error == std::errc() && rest == end && num_bits <= most;
  }
  if (!is_valid) {
    return make_error(ErrorCode::kInvalidArgument,
                      "'{}' is not an address or range; expected one like 10.0.0.7, 10.0.0.0/8 or "
                      "fd00::/8",
                      text);
  }
  AddressRange range;
  range.bytes_ = *bytes;
  range.num_bits_ = num_bits + (kIpv6Bits - most);
  return range;
}

bool AddressRange::contains(std::string_view address) const {
  const auto bytes = parse_address(address);
  return bytes && equals_bits(*bytes, bytes_, num_bits_);
}

}  // namespace ultraspeed::net
