// Traces in Chrome's trace event format, which ui.perfetto.dev shows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ultraspeed::apps {

// A track is a thread (tid) of a process (pid). Names are plain: nothing of them is escaped.
class PerfettoTrace {
 public:
  struct Track {
    uint64_t pid = 0, tid = 0;
  };

  void name_process(uint64_t pid, std::string_view name);
  void name_track(Track track, std::string_view name);
  // Microseconds.
  void add(Track track, std::string_view name, std::string_view category, double begin_us,
           double duration_us);

  // All of it, as JSON.
  std::string json() const;

 private:
  void name(std::string_view what, Track track, std::string_view name);

  std::string events_;
};

}  // namespace ultraspeed::apps
