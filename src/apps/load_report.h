// The figures of `bench serve`, and how they are shown.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/load_run.h"
#include "apps/provenance.h"

namespace ultraspeed::apps {

inline constexpr char kLoadRunSchema[] = "ultraspeed-bench-serve/1";  // docs/benchmarks.md

// Of all requests that succeeded.
struct LoadFigures {
  struct Failure {
    size_t count = 0;
    std::string text;  // of the first
  };

  size_t num_succeeded = 0;
  uint64_t prompt_tokens = 0;
  uint64_t tokens = 0;
  double tokens_per_second = 0;  // of all streams, over the whole run
  double requests_per_second = 0;
  // A value a request, but of inter_event_ms: one between any two events of a stream.
  std::vector<double> first_token_ms;  // TTFT: from sending to the first event with output
  std::vector<double> ms_per_token;    // TPOT: (last - first) / (tokens - 1)
  std::vector<double> inter_event_ms;
  std::vector<double> end_to_end_ms;
  std::vector<double> stream_tokens_per_second;  // 1000 / TPOT
  std::vector<double> accepted_length;           // the server's, else (tokens - 1) / (events - 1)
  size_t num_server_lengths = 0;                 // how many of them the server gave
  std::map<std::string, Failure> failures;       // by kind
};

LoadFigures load_figures(const LoadRun& run);

struct LoadReport {
  Provenance made_by;  // without the API key
  std::string url;
  size_t num_prompts = 0;
  LoadOptions options;
  LoadRun run;
  LoadFigures figures;
};

// The arguments without the value of --api-key.
std::vector<std::string> without_api_key(std::vector<std::string> command);

std::string load_text(const LoadReport& report);  // tables; ends with a newline
nlohmann::ordered_json load_json(const LoadReport& report);
std::string load_svg(const LoadReport& report);

}  // namespace ultraspeed::apps
