// Prompts that the bundled model answers well: what `run` shows when it is given none.
#pragma once

#include <span>
#include <string_view>

namespace ultraspeed::apps {

struct Sample {
  enum class Kind {
    kPlainAnswer,  // a user's message, answered without thinking
    kToolCall,     // a user's message with sample_tools()
    kRawText,      // text to continue up to the next blank line, without the chat template
  };
  std::string_view name;
  std::string_view description;
  std::string_view text;
  Kind kind = Kind::kPlainAnswer;
};

inline constexpr std::string_view kRawSampleStop = "\n\n";

// The first is the default.
std::span<const Sample> samples();

std::string_view sample_tools();  // a JSON array

// nullptr when there is none of that name.
const Sample* find_sample(std::string_view name);

}  // namespace ultraspeed::apps
