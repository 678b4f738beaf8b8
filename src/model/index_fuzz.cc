// libFuzzer entry: model.safetensors.index.json; no accepted shard name may leave the folder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = ultraspeed::model::CheckpointIndex::parse("fuzz.json", text);
  if (!index) return 0;
  for (const auto& shard : index->shards) {
    US_CHECK(shard.find('/') == std::string::npos && shard.ends_with(".safetensors"), "{}", shard);
  }
  for (const auto& [name, shard] : index->shard_of) {
    US_CHECK(shard < index->shards.size(), "{}", name);
  }
  return 0;
}
