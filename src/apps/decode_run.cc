#include "apps/decode_run.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "apps/bench_result.h"
#include "apps/json_object.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

// The raw numbers of one row.
struct Row {
  uint32_t block = 0, streams = 0;
  std::vector<double> rates;  // [repeat]
  uint64_t num_cycles = 0;
  std::vector<uint64_t> cycles_by_length;
};

Result<Row> read_row(const JsonObject& json) {
  Row row;
  US_TRY(json.text("drafter"));
  US_ASSIGN(row.block, json.small_number("block"));
  US_ASSIGN(row.streams, json.small_number("streams"));
  US_ASSIGN(row.rates, json.samples("tokens_per_second_of_repeats"));
  US_ASSIGN(row.num_cycles, json.number("cycles"));
  US_ASSIGN(row.cycles_by_length, json.counts("cycles_by_length"));
  if (row.streams > 0) return row;
  return json.error("streams", "expected 1 or more");
}

double accepted_length(const Row& row) {
  double tokens = 0;
  for (size_t i = 0; i < row.cycles_by_length.size(); ++i) {
    tokens += static_cast<double>(i + 1) * static_cast<double>(row.cycles_by_length[i]);
  }
  return row.num_cycles == 0 ? 0 : tokens / static_cast<double>(row.num_cycles);
}

// A repeat by the one beside it. REQUIRES: as many.
double speedup(const Row& row, const Row& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < row.rates.size(); ++i) ratios.push_back(row.rates[i] / base.rates[i]);
  return median(std::move(ratios));
}

const Row& base_of(const std::vector<Row>& rows, const Row& row) {
  return *std::ranges::find_if(rows, [&](const Row& other) {
    return other.block == row.block && other.streams == row.streams;
  });
}

}  // namespace

Result<ordered_json> compute_decode_figures(const ordered_json& json, const std::string& label) {
  US_ASSIGN(const JsonObject top, JsonObject::of(json, label));
  for (const char* key : {"model", "processor"}) US_TRY(top.text(key));
  US_ASSIGN(const auto results, top.objects("results"));
  std::vector<Row> rows;
  for (const JsonObject& result : results) {
    US_ASSIGN(Row row, read_row(result));
    rows.push_back(std::move(row));
  }
  ordered_json computed = json;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& base = base_of(rows, rows[i]);
    if (base.rates.size() != rows[i].rates.size()) {
      return results[i].error("tokens_per_second_of_repeats",
                              fmt::format("{} repeats, the first drafter has {}",
                                          rows[i].rates.size(), base.rates.size()));
    }
    ordered_json& result = computed["results"][i];
    const double rate = median(rows[i].rates);
    result["tokens_per_second"] = rate;
    result["tokens_per_second_per_stream"] = rate / rows[i].streams;
    result["speedup"] = speedup(rows[i], base);
    result["accepted_length"] = accepted_length(rows[i]);
  }
  return computed;
}

TextTable decode_table(const ordered_json& json) {
  TextTable table;
  table.head = {"drafter", "streams", "block", "tokens/s", "per stream", "speed-up", "accepted"};
  for (const ordered_json& result : json["results"]) {
    const auto number = [&result](const char* key) { return result[key].get<double>(); };
    table.rows.push_back({result["drafter"].get<std::string>(),
                          fmt::format("{}", result["streams"].get<uint32_t>()),
                          fmt::format("{}", result["block"].get<uint32_t>()),
                          fmt::format("{:.1f}", number("tokens_per_second")),
                          fmt::format("{:.1f}", number("tokens_per_second_per_stream")),
                          fmt::format("{:.2f}", number("speedup")),
                          fmt::format("{:.2f}", number("accepted_length"))});
  }
  return table;
}

}  // namespace ultraspeed::apps
