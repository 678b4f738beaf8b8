// The numbers of `bench decode`: medians over the passes of one drafter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/bench_decode.h"
#include "apps/executor_choice.h"
#include "apps/provenance.h"

namespace ultraspeed::apps {

// All that was measured of one drafter at one block size and number of streams.
struct BenchResult {
  std::string drafter;
  uint32_t block = 1;
  uint32_t streams = 1;
  std::vector<DecodePass> passes;  // in the order of the repeats; at least one

  double tokens_per_second() const;  // of all streams together
  double draft_ms() const;           // mean of a cycle
  double verify_ms() const;
  double other_ms() const;
  double cycle_ms() const;

  // The same in every pass, as the texts are.
  const engine::SpeculationStats& speculation() const { return passes.front().speculation; }
};

// The same by text: whether a drafter is good, or its texts are.
struct TextSpread {
  size_t num_loops = 0;             // texts that end in a loop (text_loops.h)
  double length_without_loops = 0;  // accepted length of all others together; 0: there are none
  double highest = 0;               // accepted length of a text
};
TextSpread text_spread(const BenchResult& result);

// How much faster than `base`, a pass with the pass beside it, so that what slows both cancels.
// REQUIRES: as many passes.
double speedup(const BenchResult& result, const BenchResult& base);

// The same of one prompt. REQUIRES: one stream. 0 where the prompt's text has a single token.
double prompt_speedup(const BenchResult& result, const BenchResult& base, size_t prompt);

// Of an even number the mean of the two in the middle. REQUIRES: not empty.
double median(std::vector<double> values);

// Below which a share of them lies, linear between the values beside it. REQUIRES: not empty.
double quantile(std::vector<double> values, double share);

inline constexpr char kDecodeRunSchema[] = "ultraspeed-bench-decode/1";  // docs/benchmarks.md

// Everything that one run of the command measured.
struct BenchReport {
  Provenance made_by;
  std::string model;
  std::string processor;  // or the GPU
  uint32_t threads = 0;   // of the processor; 0: on a GPU
  uint32_t max_tokens = 0;
  float temperature = 0;
  engine::Acceptance acceptance = engine::Acceptance::kKeyed;
  ArithmeticModes modes;
  std::vector<BenchPrompt> prompts;
  std::vector<BenchResult> results;  // by streams, then block, then drafter

  // The first drafter's result with the same block and streams.
  const BenchResult& base_of(const BenchResult& result) const;
};

// "PROCESSOR (N threads)", or the GPU.
std::string bench_device(const BenchReport& report);

// Tables; ends with a newline. per_prompt: those of the prompts, too.
std::string bench_tables(const BenchReport& report, bool per_prompt);

// One JSON object; ends with a newline.
std::string bench_json(const BenchReport& report);

// A picture of tokens per second, accepted length and its histogram.
std::string bench_svg(const BenchReport& report);

}  // namespace ultraspeed::apps
