// Numeric IP addresses and ranges of them. An IPv4 address and its form in IPv6 (::ffff:1.2.3.4)
// are the same.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::net {

using AddressBytes = std::array<uint8_t, 16>;

// nullopt: not a numeric address, such as a name or 127.1.
std::optional<AddressBytes> parse_address(std::string_view text);

// False for what is no numeric address.
bool is_loopback(std::string_view address);

class AddressRange {
 public:
  // "10.0.0.7", "10.0.0.0/8", "fd00::/8". Errors: kInvalidArgument.
  static Result<AddressRange> parse(std::string_view text);

  bool contains(std::string_view address) const;  // false for what is no numeric address

 private:
  AddressBytes bytes_{};
  unsigned num_bits_ = 128;  // that must be equal
};

}  // namespace ultraspeed::net
