// libFuzzer entry: a token file's bytes, as they are and with its checksums made right, which
// mutations would never find.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "train/records.h"
#include "train/token_file.h"

namespace ultraspeed::train {
namespace {

constexpr size_t kIdsSum = 24, kHeaderSum = 32, kHeader = 40;

void read_all(std::span<const std::byte> bytes) {
  const auto tokens = TokenFile::parse("fuzz.tokens", bytes);
  if (!tokens) return;
  US_CHECK(tokens->ids.size() * sizeof(int32_t) + kHeader == bytes.size(), "{}", bytes.size());
  for (const int32_t id : tokens->ids) {
    US_CHECK(id >= 0 && static_cast<uint32_t>(id) < tokens->vocab_size, "{}", id);
  }
}

void set(std::string* bytes, size_t at, uint64_t value) {
  std::copy_n(reinterpret_cast<const char*>(&value), sizeof(value), bytes->data() + at);
}

void mend(std::string* bytes) {
  if (bytes->size() < kHeader) return;
  set(bytes, kIdsSum, checksum(bytes_of(*bytes).subspan(kHeader)));
  set(bytes, kHeaderSum, checksum(bytes_of(*bytes).first(kHeaderSum)));
}

}  // namespace
}  // namespace ultraspeed::train

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace train = ultraspeed::train;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  train::read_all(train::bytes_of(bytes));
  train::mend(&bytes);
  train::read_all(train::bytes_of(bytes));
  return 0;
}
