// Which tensors stand in which file, and where: a safetensors header comes before the data, so that
// everything is known from shapes before the first byte is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quantize/conversion.h"

namespace ultraspeed::quantize {

struct PlannedTensor {
  uint32_t conversion = 0;  // index into the plan's
  uint32_t output = 0;      // index into the conversion's outputs
  uint64_t offset = 0;      // in the file
};

struct PlannedShard {
  std::string file;  // "model-00001-of-00003.safetensors"
  uint32_t conversion_begin = 0;
  uint32_t conversion_end = 0;
  std::string header;                  // length, JSON and padding: the first bytes of the file
  std::vector<PlannedTensor> tensors;  // in the order of the data: wide dtypes first, for alignment
  uint64_t bytes = 0;                  // of the file

  // Where this output of a conversion of the shard begins.
  uint64_t offset_of(uint32_t conversion, uint32_t output) const;

 private:
  friend std::vector<PlannedShard> plan_shards(const std::vector<Conversion>&, uint64_t);
  void lay_out(const std::vector<Conversion>& conversions);

  std::vector<std::array<uint64_t, 2>> offsets_;  // [conversions of the shard][outputs]
};

// Files of at most about shard_bytes, but for a larger conversion alone; a weight and its scales
// stand in one file.
std::vector<PlannedShard> plan_shards(const std::vector<Conversion>& conversions,
                                      uint64_t shard_bytes);

// model.safetensors.index.json.
std::string index_json(const ConversionPlan& plan, const std::vector<PlannedShard>& shards);

}  // namespace ultraspeed::quantize
