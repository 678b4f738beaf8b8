// libFuzzer entry: a packed file's bytes, as they are and with the checksum of its index made
// right, which mutations would never find.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "base/check.h"
#include "base/checksum.h"
#include "model/packed_file.h"

namespace ultraspeed::model {
namespace {

constexpr size_t kTextBytes = 16, kBlocks = 24, kSum = 32, kHead = 40, kEntry = 16;

void parse_all(std::span<const std::byte> bytes) {
  const auto index = PackedIndex::parse("fuzz.weights", bytes, bytes.size());
  if (!index) return;
  uint64_t end = index->header().size();
  US_CHECK(std::memcmp(index->header().data(), bytes.data(), end) == 0, "{} bytes", end);
  for (const PackedIndex::Block& block : index->blocks) {
    US_CHECK(block.offset >= end && block.bytes <= bytes.size() - block.offset, "{} + {}",
             block.offset, block.bytes);
    end = block.offset + block.bytes;
  }
}

uint64_t word_at(const std::string& bytes, size_t at) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data() + at, sizeof(word));
  return word;
}

void mend(std::string* bytes) {
  if (bytes->size() < kHead) return;
  const uint64_t left = bytes->size() - kHead;
  const uint64_t text = word_at(*bytes, kTextBytes), blocks = word_at(*bytes, kBlocks);
  if (text > left || blocks > (left - text) / kEntry) return;
  const auto all = std::as_bytes(std::span(*bytes));
  const uint64_t sum =
      checksum(all.subspan(kHead, text + blocks * kEntry), checksum(all.first(kSum)));
  std::copy_n(reinterpret_cast<const char*>(&sum), sizeof(sum), bytes->data() + kSum);
}

}  // namespace
}  // namespace ultraspeed::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace model = ultraspeed::model;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  model::parse_all(std::as_bytes(std::span(bytes)));
  model::mend(&bytes);
  model::parse_all(std::as_bytes(std::span(bytes)));
  return 0;
}
