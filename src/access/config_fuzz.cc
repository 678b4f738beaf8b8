// Fuzzes the reader of the offer's configuration: any text gives a configuration whose prices can
// be computed with and whose window has an end, or an error that names the file. ASCII alone:
// toml++ 3.3.0 has undefined behaviour at some other characters outside strings, and the file is
// its owner's.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "access/config.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ultraspeed::access;
  if (std::any_of(data, data + size, [](uint8_t byte) { return byte >= 0x80; })) return 0;
  const auto config = parse_config("a.toml", {reinterpret_cast<const char*>(data), size});
  if (!config) {
    US_CHECK(config.error().message.starts_with("a.toml:"), "{}", config.error().message);
    return 0;
  }
  if (!*config) return 0;
  const AccessConfig& access = **config;
  US_CHECK(access.window.begin(access.calendar) < access.window.end(access.calendar), "a window");
  for (const TierOptions& tier : access.tiers) {
    const auto rates = Rates::of(access.prices, tier.multiplier);
    US_CHECK(rates.has_value() && rates->cost({1, 1, 1}).units >= 0, "rates");
  }
  return 0;
}
