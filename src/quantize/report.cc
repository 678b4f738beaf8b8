#include "quantize/report.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "model/tensor_names.h"

namespace ultraspeed::quantize {
namespace {

using nlohmann::ordered_json;

uint64_t count_values(const Conversion& conversion) {
  if (conversion.form != Form::kCopy) {
    return uint64_t{conversion.source.rows} * conversion.source.columns;
  }
  uint64_t count = 1;
  for (const uint64_t size : conversion.copied.info->shape) count *= size;
  return count;
}

// Scales that are copied with their weight.
bool is_scale(const Conversion& conversion) {
  return conversion.form == Form::kCopy && (conversion.name().ends_with(model::kFp8ScaleSuffix) ||
                                            conversion.name().ends_with(model::kMxScaleSuffix));
}

std::string source_form(const Conversion& conversion) {
  const model::TensorRef& tensor =
      conversion.form == Form::kCopy ? conversion.copied : conversion.source.weight;
  return std::string(model::dtype_name(tensor.info->dtype));
}

ordered_json kind_json(const KindSummary& summary) {
  ordered_json json = {
      {"kind", tensor_kind_name(summary.kind)}, {"form", form_name(summary.form)},
      {"num_tensors", summary.num_tensors},     {"num_values", summary.num_values},
      {"source_bytes", summary.source_bytes},   {"output_bytes", summary.output_bytes}};
  if (summary.form == Form::kCopy) return json;
  json["relative_error"] = summary.relative_error;
  json["worst_error"] = summary.worst_error;
  json["worst"] = summary.worst;
  json["num_blocks"] = summary.num_blocks;
  json["num_clipped"] = summary.num_clipped;
  return json;
}

ordered_json tensor_json(const Conversion& conversion, const TensorRecord& record) {
  return {{"name", conversion.name()},
          {"kind", tensor_kind_name(conversion.kind)},
          {"from", source_form(conversion)},
          {"form", form_name(conversion.form)},
          {"shape", {conversion.source.rows, conversion.source.columns}},
          {"relative_error", record.relative_error()},
          {"largest", record.largest},
          {"largest_error", record.largest_error},
          {"num_blocks", record.num_blocks},
          {"num_clipped", record.num_clipped}};
}

}  // namespace

std::string_view form_name(Form form) {
  switch (form) {
    case Form::kCopy:
      return "as it was";
    case Form::kFp8:
      return "FP8";
    case Form::kMxfp4:
      return "MXFP4";
  }
  return "?";
}

std::vector<KindSummary> summarize(const std::vector<Conversion>& conversions,
                                   const std::vector<TensorRecord>& records) {
  US_CHECK(conversions.size() == records.size(), "{} and {}", conversions.size(), records.size());
  struct Sums {
    KindSummary summary;
    double squares = 0, square_errors = 0;
  };
  std::map<std::pair<TensorKind, Form>, Sums> all;
  for (size_t i = 0; i < conversions.size(); ++i) {
    const Conversion& conversion = conversions[i];
    const TensorRecord& record = records[i];
    Sums& sums = all[{conversion.kind, conversion.form}];
    KindSummary& summary = sums.summary;
    summary.kind = conversion.kind;
    summary.form = conversion.form;
    summary.source_bytes += conversion.source_bytes();
    summary.output_bytes += conversion.output_bytes();
    summary.num_blocks += record.num_blocks;
    summary.num_clipped += record.num_clipped;
    sums.squares += record.squares;
    sums.square_errors += record.square_errors;
    if (is_scale(conversion)) continue;
    ++summary.num_tensors;
    summary.num_values += count_values(conversion);
    if (conversion.form != Form::kCopy && record.relative_error() >= summary.worst_error) {
      summary.worst_error = record.relative_error();
      summary.worst = conversion.name();
    }
  }
  std::vector<KindSummary> summaries;
  for (auto& [key, sums] : all) {
    if (sums.squares > 0) {
      sums.summary.relative_error = std::sqrt(sums.square_errors / sums.squares);
    }
    summaries.push_back(std::move(sums.summary));
  }
  return summaries;
}

std::string report_json(const ReportHeader& header, const std::vector<Conversion>& conversions,
                        const std::vector<TensorRecord>& records) {
  const auto dump = [](const ordered_json& json) {
    return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  };
  ordered_json kinds = ordered_json::array();
  for (const KindSummary& summary : summarize(conversions, records)) {
    kinds.push_back(kind_json(summary));
  }
  std::string text =
      fmt::format("{{\"flags\": {},\n\"not_copied\": {},\n\"kinds\": {},\n\"tensors\": [",
                  header.flags, dump(header.not_copied), kinds.dump(1));
  // A line each, appended: all of them as one JSON value would take several times the memory.
  std::string_view separator = "\n";
  for (size_t i = 0; i < conversions.size(); ++i) {
    if (conversions[i].form == Form::kCopy) continue;
    text += separator;
    text += dump(tensor_json(conversions[i], records[i]));
    separator = ",\n";
  }
  return text + "\n]}\n";
}

}  // namespace ultraspeed::quantize
