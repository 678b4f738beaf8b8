// Writes one file of the checkpoint and, afterwards, reads it again.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/output_folder.h"
#include "base/result.h"
#include "quantize/calibration.h"
#include "quantize/conversion.h"
#include "quantize/scale_rule.h"
#include "quantize/shard_plan.h"
#include "quantize/tensor_record.h"

namespace ultraspeed::quantize {

struct ShardOptions {
  ScaleRule scale_rule = ScaleRule::kEven;
  uint32_t num_threads = 1;
  uint64_t memory_bytes = 0;               // of all threads
  std::function<void(uint64_t)> on_bytes;  // bytes read since the last call; on any thread
  Calibration* calibration = nullptr;      // of conversions that have an input
};

// The records of the shard's conversions. The file is on the disk afterwards, under `name`.
// Errors: those of reading, with file, tensor, row and column; kIo; kOutOfMemory.
Result<std::vector<TensorRecord>> write_shard(const std::vector<Conversion>& conversions,
                                              const PlannedShard& shard, const OutputFolder& folder,
                                              const std::string& name, const ShardOptions& options);

// Reads the file again: its header is the planned one, every byte and every number that the
// quantised tensors stand for is the recorded one. Errors: kInvalidData, naming file and tensor.
Status check_shard(const std::vector<Conversion>& conversions, const PlannedShard& shard,
                   const std::string& path, const std::vector<TensorRecord>& records,
                   const ShardOptions& options);

}  // namespace ultraspeed::quantize
