// libFuzzer entry: the JSON of a bench run. A report can be made of every run whose figures follow,
// and is found right; a simulation takes what it can of it.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/files.h"
#include "apps/measured_times.h"
#include "apps/report_archive.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace apps = ultraspeed::apps;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto json = apps::parse_json(text, "fuzz.json")) {
    if (const auto measured = apps::read_measured_times(*json, "fuzz.json")) {
      auto times = ultraspeed::plan::device_times("h100");
      apps::use_measured(*measured, &times);
    }
  }
  const auto check = apps::check_run(text, "fuzz.json");
  if (!check || !check->difference.empty()) return 0;
  const auto report = apps::make_report({{"fuzz.json", text}}, {"0", "c", {"fuzz"}});
  US_CHECK(report.has_value());
  const auto again = apps::check_report(*report, "fuzz.tar");
  US_CHECK(again.has_value() && again->difference.empty());
  return 0;
}
