// Fuzzes the parser of event streams: any bytes give the same events whole and byte by byte, and
// none of them is larger than the limit.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "net/sse.h"

using ultraspeed::net::SseEvent;
using ultraspeed::net::SseParser;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxEventBytes = 256;
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  SseParser whole(kMaxEventBytes);
  std::vector<SseEvent> expected;
  const bool is_valid = whole.push(stream, &expected).has_value();
  SseParser parser(kMaxEventBytes);
  std::vector<SseEvent> events;
  bool is_still_valid = true;
  for (size_t i = 0; i < size && is_still_valid; ++i) {
    is_still_valid = parser.push(stream.substr(i, 1), &events).has_value();
  }
  US_CHECK(is_valid == is_still_valid, "valid {}, byte by byte {}", is_valid, is_still_valid);
  US_CHECK(events.size() == expected.size(), "{} events, {}", expected.size(), events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    US_CHECK(events[i].type == expected[i].type && events[i].data == expected[i].data, "event {}",
             i);
    US_CHECK(events[i].data.size() <= kMaxEventBytes, "{} bytes", events[i].data.size());
  }
  return 0;
}
