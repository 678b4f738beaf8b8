// libFuzzer entry: a shard's bytes, as they are and with the checksums of header and table made
// right, which mutations would never find.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "train/feature_shard.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr size_t kTableAt = 224, kTableSumAt = 232, kHeaderSumAt = 240, kHeaderBytes = 248;

void read_all(std::span<const std::byte> bytes) {
  const auto shard = FeatureShard::parse("fuzz.features", bytes);
  if (!shard) return;
  for (size_t i = 0; i < shard->num_sequences() && i < 8; ++i) {
    const auto sequence = shard->read(i);
    if (!sequence) continue;
    US_CHECK(sequence->token_ids.size() == shard->length(i), "{}", sequence->token_ids.size());
    US_CHECK(sequence->features.size() * 2 <= bytes.size(), "{}", sequence->features.size());
  }
}

void set(std::string* bytes, size_t at, uint64_t value) {
  std::memcpy(bytes->data() + at, &value, sizeof(value));
}

void mend(std::string* bytes) {
  if (bytes->size() < kHeaderBytes) return;
  const auto all = bytes_of(*bytes);
  const auto table = number_at<uint64_t>(all, kTableAt);
  if (table <= bytes->size()) set(bytes, kTableSumAt, checksum(all.subspan(table)));
  set(bytes, kHeaderSumAt, checksum(all.first(kHeaderSumAt)));
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
