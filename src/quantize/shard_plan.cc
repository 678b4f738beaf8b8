#include "quantize/shard_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace ultraspeed::quantize {
namespace {

using nlohmann::ordered_json;

constexpr size_t kHeaderAlignment = 8;

// A string with its quotes. Objects are put together as text: an ordered_json looks each of its
// keys up among all others.
std::string quoted(const std::string& text) {
  return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string with_length(std::string json) {
  json.resize((json.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  std::string header;
  for (int shift = 0; shift < 64; shift += 8) {
    header.push_back(static_cast<char>(json.size() >> shift & 0xff));
  }
  return header + json;
}

}  // namespace

uint64_t PlannedShard::offset_of(uint32_t conversion, uint32_t output) const {
  US_CHECK(conversion >= conversion_begin && conversion < conversion_end, "{}", conversion);
  return offsets_[conversion - conversion_begin].at(output);
}

void PlannedShard::lay_out(const std::vector<Conversion>& conversions) {
  for (uint32_t i = conversion_begin; i < conversion_end; ++i) {
    const auto count = static_cast<uint32_t>(conversions[i].outputs.size());
    for (uint32_t output = 0; output < count; ++output) tensors.push_back({i, output, 0});
  }
  const auto of = [&](const PlannedTensor& tensor) -> const OutputTensor& {
    return conversions[tensor.conversion].outputs[tensor.output];
  };
  std::stable_sort(tensors.begin(), tensors.end(),
                   [&](const PlannedTensor& a, const PlannedTensor& b) {
                     return model::dtype_bytes(of(a).dtype) > model::dtype_bytes(of(b).dtype);
                   });
  std::string json = R"({"__metadata__":{"format":"pt"})";
  uint64_t end = 0;
  for (PlannedTensor& tensor : tensors) {
    const OutputTensor& output = of(tensor);
    tensor.offset = end;
    end += output.bytes();
    json += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                        quoted(output.name), model::dtype_name(output.dtype),
                        ordered_json(output.shape).dump(), tensor.offset, end);
  }
  header = with_length(std::move(json) + "}");
  bytes = header.size() + end;
  offsets_.resize(conversion_end - conversion_begin);
  for (PlannedTensor& tensor : tensors) {
    tensor.offset += header.size();
    offsets_[tensor.conversion - conversion_begin].at(tensor.output) = tensor.offset;
  }
}

std::vector<PlannedShard> plan_shards(const std::vector<Conversion>& conversions,
                                      uint64_t shard_bytes) {
  std::vector<PlannedShard> shards;
  uint64_t filled = 0;
  for (uint32_t i = 0; i < conversions.size(); ++i) {
    const uint64_t bytes = conversions[i].output_bytes();
    if (shards.empty() || filled + bytes > shard_bytes) {
      shards.emplace_back().conversion_begin = i;
      filled = 0;
    }
    filled += bytes;
    shards.back().conversion_end = i + 1;
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    shards[i].lay_out(conversions);
  }
  return shards;
}

std::string index_json(const ConversionPlan& plan, const std::vector<PlannedShard>& shards) {
  std::string map;
  uint64_t total_bytes = 0;
  for (const PlannedShard& shard : shards) {
    total_bytes += shard.bytes - shard.header.size();
    for (uint32_t i = shard.conversion_begin; i < shard.conversion_end; ++i) {
      for (const OutputTensor& output : plan.conversions[i].outputs) {
        map += fmt::format("{}\n  {}: {}", map.empty() ? "" : ",", quoted(output.name),
                           quoted(shard.file));
      }
    }
  }
  ordered_json metadata = {{"total_size", total_bytes}};
  if (plan.form.has_mxfp4_experts) metadata["save_format"] = "mxfp4";
  if (plan.tp_size) metadata["tp_size"] = std::to_string(*plan.tp_size);
  return fmt::format("{{\n \"metadata\": {},\n \"weight_map\": {{{}\n }}\n}}\n", metadata.dump(),
                     map);
}

}  // namespace ultraspeed::quantize
