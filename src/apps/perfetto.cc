#include "apps/perfetto.h"

#include <fmt/format.h>

#include <iterator>

namespace ultraspeed::apps {
namespace {

constexpr std::string_view kSeparator = ",\n";

}  // namespace

void PerfettoTrace::name(std::string_view what, Track track, std::string_view name) {
  fmt::format_to(
      std::back_inserter(events_),
      "{{\"name\":\"{}\",\"ph\":\"M\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":\"{}\"}}}}{}", what,
      track.pid, track.tid, name, kSeparator);
}

void PerfettoTrace::name_process(uint64_t pid, std::string_view name) {
  this->name("process_name", {pid, 0}, name);
}

void PerfettoTrace::name_track(Track track, std::string_view name) {
  this->name("thread_name", track, name);
}

void PerfettoTrace::add(Track track, std::string_view name, std::string_view category,
                        double begin_us, double duration_us) {
  fmt::format_to(std::back_inserter(events_),
                 "{{\"name\":\"{}\",\"cat\":\"{}\",\"ph\":\"X\",\"pid\":{},\"tid\":{},"
                 "\"ts\":{:.3f},\"dur\":{:.3f}}}{}",
                 name, category, track.pid, track.tid, begin_us, duration_us, kSeparator);
}

std::string PerfettoTrace::json() const {
  std::string_view events = events_;
  if (!events.empty()) events.remove_suffix(kSeparator.size());
  return fmt::format("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}\n]}}\n", events);
}

}  // namespace ultraspeed::apps
