#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

constexpr std::string_view kTools = R"([
  {"type": "function", "function": {
    "name": "get_weather",
    "description": "Get the current weather for a city",
    "parameters": {"type": "object", "properties": {
      "city": {"type": "string", "description": "City name"},
      "unit": {"type": "string", "description": "celsius or fahrenheit"}}}}},
  {"type": "function", "function": {
    "name": "calculator",
    "description": "Evaluate an arithmetic expression",
    "parameters": {"type": "object", "properties": {
      "expression": {"type": "string", "description": "Expression to evaluate"}}}}}
])";

constexpr Sample kSamples[] = {
    {.name = "math",
     .description = "an arithmetic word problem",
     .text = "There are 212 tiles at the school. Pedro brings 179 more, and later Rosa takes 60. "
             "How many tiles are left?",
     .tools = {}},
    {.name = "tool",
     .description = "a question that one of two offered tools answers",
     .text = "What is the weather in Lisbon?",
     .tools = kTools},
    {.name = "function",
     .description = "a small Python function",
     .text = "Write a python function keep_even(numbers) that returns the elements of numbers that "
             "are even. Add a docstring.",
     .tools = {}},
    {.name = "code",
     .description = "the beginning of a C++ file, continued",
     .text = "#include <algorithm>\n#include <string>\n#include <vector>\n\nnamespace util {\n\n"
             "// Returns the sum of all values.\nint sum(const std::vector<int>& values) {\n",
     .tools = {},
     .is_raw = true},
};

}  // namespace

std::span<const Sample> samples() {
  return kSamples;
}

const Sample* find_sample(std::string_view name) {
  for (const Sample& sample : kSamples) {
    if (sample.name == name) return &sample;
  }
  return nullptr;
}

}  // namespace ultraspeed::apps
