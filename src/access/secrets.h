// Secrets: how they are made, what is stored of them, and how they are compared. On libsodium.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::access {

// `num_bytes` from the system's random numbers, as URL-safe base64 without padding.
std::string random_text(size_t num_bytes);

// What is stored of a secret that random_text() made: 64 hexadecimal digits of BLAKE2b. Of
// passwords, which people choose, it would not do.
std::string digest(std::string_view secret);

// A value that only who knows the secret can say, one for each purpose: like digest().
std::string derived(std::string_view secret, std::string_view purpose);

// In time that depends on the lengths alone.
bool is_equal(std::string_view a, std::string_view b);

// What one guess at a password costs (argon2id). The defaults are libsodium's for logins: about
// 0.1 s.
struct PasswordCost {
  uint64_t num_passes = 2;
  uint64_t memory_bytes = 64 << 20;
};

inline constexpr size_t kMinPasswordBytes = 12;
inline constexpr size_t kMaxPasswordBytes = 256;

// Errors: kInvalidArgument.
Status check_password_length(std::string_view password);
// Errors: those of check_password_length(), kOutOfMemory.
Result<std::string> hash_password(std::string_view password, PasswordCost cost);
// `hash`: what hash_password() returned. Anything else, an empty one too, is no password's.
bool is_password_of(std::string_view password, const std::string& hash);

}  // namespace ultraspeed::access
