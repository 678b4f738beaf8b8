// A whole run: from a checkpoint folder to a quantised one (docs/quantize.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/output_folder.h"
#include "base/result.h"
#include "quantize/calibration.h"
#include "quantize/conversion.h"
#include "quantize/report.h"
#include "quantize/scale_rule.h"

namespace ultraspeed::quantize {

inline constexpr std::string_view kReportName = "quantize_report.json";

struct QuantizeOptions {
  std::string source;  // a checkpoint folder
  ScaleRule scale_rule = ScaleRule::kEven;
  LinearOptions linears;
  uint64_t memory_bytes = 4'000'000'000;  // for what is being converted, all threads together
  uint64_t shard_bytes = 5'000'000'000;   // of a file of the target
  uint32_t num_threads = 1;
  // Bytes read so far and in all: of the source, and of the target when it is read again. May be
  // called on any thread, one at a time.
  std::function<void(uint64_t done, uint64_t total)> progress;
  std::optional<CalibrationOptions> calibration;  // of experts; nothing: to the nearest code
};

struct QuantizeResult {
  std::vector<KindSummary> kinds;
  uint64_t num_files = 0;          // of weights
  uint64_t num_resumed_files = 0;  // that an interrupted run had finished; they were read again
  std::vector<std::string> not_copied;
};

// Writes the checkpoint, each file read again before it gets its name;
// model.safetensors.index.json, without which the folder is no checkpoint, comes last. After an
// error the finished files stay, and the same call continues with the first that is not. Errors
// name file and tensor; the folder is another than the source and not inside of it.
Result<QuantizeResult> quantize(const QuantizeOptions& options, const OutputFolder& folder);

}  // namespace ultraspeed::quantize
