// Code that is being edited, as raw text: each prompt holds a piece of code and the beginning of a
// changed copy, which the bundled model finishes by repeating the first.
#pragma once

#include <span>
#include <string_view>

namespace ultraspeed::apps {

struct BenchEdit {
  std::string_view name;
  std::string_view text;
  std::string_view stop;  // where the copy is finished
};

std::span<const BenchEdit> bench_edits();

}  // namespace ultraspeed::apps
