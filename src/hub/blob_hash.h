// What names and proves a file of a hub: the SHA-256 of what Git LFS keeps, the object name in Git
// of the rest, SHA-1 of "blob SIZE\0" and the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ultraspeed::hub {

enum class HashKind : uint8_t { kGitSha1, kSha256 };

struct BlobName {
  HashKind kind = HashKind::kSha256;
  std::string hex;  // in lower case: the blob's file name in the cache

  std::string_view hash() const { return kind == HashKind::kSha256 ? "sha256" : "git sha1"; }
};

// Of 40 or 64 hexadecimal digits; with quotes or "W/" around them, as an ETag has.
std::optional<BlobName> parse_blob_name(std::string_view text);

class BlobHash {
 public:
  BlobHash(HashKind kind, uint64_t size_bytes);
  ~BlobHash();
  BlobHash(BlobHash&&) noexcept;
  BlobHash& operator=(BlobHash&&) noexcept;

  void update(std::span<const std::byte> bytes);
  // REQUIRES: the last call.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ultraspeed::hub
