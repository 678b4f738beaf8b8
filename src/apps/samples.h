// Prompts that the bundled model answers well: what `run` shows when it is given none.
#pragma once

#include <span>
#include <string_view>

namespace ultraspeed::apps {

struct Sample {
  std::string_view name;
  std::string_view description;
  std::string_view text;   // a user's message, or raw text
  std::string_view tools;  // JSON array, or empty
  bool is_raw = false;     // true: text to continue, without the chat template
};

// The first is the default.
std::span<const Sample> samples();

// nullptr when there is none of that name.
const Sample* find_sample(std::string_view name);

}  // namespace ultraspeed::apps
