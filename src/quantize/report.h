// What quantising cost: of each tensor, and of each kind of tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quantize/conversion.h"
#include "quantize/tensor_record.h"

namespace ultraspeed::quantize {

// Tensors of one kind that became the same form.
struct KindSummary {
  TensorKind kind = TensorKind::kOther;
  Form form = Form::kCopy;
  uint64_t num_tensors = 0;  // scales not counted
  uint64_t num_values = 0;
  uint64_t source_bytes = 0;
  uint64_t output_bytes = 0;
  // Of what was quantised:
  double relative_error = 0;  // sqrt(sum of squared errors / sum of squares)
  double worst_error = 0;     // of one tensor
  std::string worst;          // which
  uint64_t num_blocks = 0;
  uint64_t num_clipped = 0;
};

// In the order of kAllTensorKinds, then of forms; those without tensors left out.
// REQUIRES: a record for each conversion.
std::vector<KindSummary> summarize(const std::vector<Conversion>& conversions,
                                   const std::vector<TensorRecord>& records);

// What the report says besides the tensors.
struct ReportHeader {
  std::string flags;                    // a JSON object: what was asked
  std::vector<std::string> not_copied;  // files of the source that are none of a checkpoint
};

// The report as a JSON file; docs/quantize.md describes it. Nothing in it depends on time, threads
// or memory.
std::string report_json(const ReportHeader& header, const std::vector<Conversion>& conversions,
                        const std::vector<TensorRecord>& records);

std::string_view form_name(Form form);

}  // namespace ultraspeed::quantize
