#include "hub/blob_hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace ultraspeed::hub {

struct BlobHash::State {
  struct Free {
    void operator()(EVP_MD_CTX* owned) const { EVP_MD_CTX_free(owned); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

std::optional<BlobName> parse_blob_name(std::string_view text) {
  if (text.starts_with("W/")) text.remove_prefix(2);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  const bool is_hex = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (!is_hex || (text.size() != 40 && text.size() != 64)) return std::nullopt;
  return BlobName{text.size() == 64 ? HashKind::kSha256 : HashKind::kGitSha1, std::string(text)};
}

BlobHash::BlobHash(HashKind kind, uint64_t size_bytes) : state_(std::make_unique<State>()) {
  const bool is_git = kind == HashKind::kGitSha1;
  const int is_ready =
      EVP_DigestInit_ex(state_->context.get(), is_git ? EVP_sha1() : EVP_sha256(), nullptr);
  US_CHECK(is_ready == 1, "OpenSSL has no such hash");
  if (!is_git) return;
  std::string head = fmt::format("blob {}", size_bytes);
  head.push_back('\0');
  update(std::as_bytes(std::span(head.data(), head.size())));
}

BlobHash::~BlobHash() = default;
BlobHash::BlobHash(BlobHash&&) noexcept = default;
BlobHash& BlobHash::operator=(BlobHash&&) noexcept = default;

void BlobHash::update(std::span<const std::byte> bytes) {
  const int is_taken = EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size());
  US_CHECK(is_taken == 1, "{} bytes", bytes.size());
}

std::string BlobHash::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
  unsigned int size = 0;
  US_CHECK(EVP_DigestFinal_ex(state_->context.get(), digest.data(), &size) == 1, "{}", size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace ultraspeed::hub
