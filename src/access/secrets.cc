#include "access/secrets.h"

#include <sodium.h>

#include <array>
#include <vector>

#include "base/check.h"

namespace ultraspeed::access {
namespace {

constexpr size_t kDigestBytes = 32;

// Any thread may be the first.
void require_sodium() {
  US_CHECK(sodium_init() >= 0, "libsodium finds no source of random numbers");
}

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string keyed_digest(std::string_view text, std::string_view key) {
  require_sodium();
  std::array<unsigned char, kDigestBytes> hash;
  crypto_generichash(hash.data(), hash.size(), bytes(text), text.size(),
                     key.empty() ? nullptr : bytes(key), key.size());
  std::array<char, 2 * kDigestBytes + 1> hex;
  return sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
}

}  // namespace

std::string random_text(size_t num_bytes) {
  require_sodium();
  constexpr int kVariant = sodium_base64_VARIANT_URLSAFE_NO_PADDING;
  std::vector<unsigned char> random(num_bytes);
  randombytes_buf(random.data(), random.size());
  std::string text(sodium_base64_encoded_len(num_bytes, kVariant), '\0');
  sodium_bin2base64(text.data(), text.size(), random.data(), random.size(), kVariant);
  text.pop_back();  // the terminating zero
  return text;
}

std::string digest(std::string_view secret) {
  return keyed_digest(secret, {});
}

std::string derived(std::string_view secret, std::string_view purpose) {
  // A key has 16 to 64 bytes; the digest of the secret is one of 64.
  return keyed_digest(purpose, digest(secret));
}

bool is_equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

Status check_password_length(std::string_view password) {
  if (password.size() >= kMinPasswordBytes && password.size() <= kMaxPasswordBytes) return {};
  return make_error(ErrorCode::kInvalidArgument, "the password has {} bytes; expected {} to {}",
                    password.size(), kMinPasswordBytes, kMaxPasswordBytes);
}

Result<std::string> hash_password(std::string_view password, PasswordCost cost) {
  require_sodium();
  US_TRY(check_password_length(password));
  std::array<char, crypto_pwhash_STRBYTES> hash;
  if (crypto_pwhash_str_alg(hash.data(), password.data(), password.size(), cost.num_passes,
                            cost.memory_bytes, crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return make_error(ErrorCode::kOutOfMemory,
                      "cannot hash a password with {} bytes of memory and {} passes",
                      cost.memory_bytes, cost.num_passes);
  }
  return std::string(hash.data());
}

bool is_password_of(std::string_view password, const std::string& hash) {
  require_sodium();
  return password.size() <= kMaxPasswordBytes && hash.size() < crypto_pwhash_STRBYTES &&
         crypto_pwhash_str_verify(hash.c_str(), password.data(), password.size()) == 0;
}

}  // namespace ultraspeed::access
