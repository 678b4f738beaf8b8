#include "apps/samples.h"

namespace ultraspeed::apps {
namespace {

constexpr Sample kSamples[] = {
    {.name = "math",
     .description = "an arithmetic word problem",
     .text = "There are 212 tiles at the school. Pedro brings 179 more, and later Rosa takes 60. "
             "How many tiles are left?",
     .kind = Sample::Kind::kPlainAnswer},
    {.name = "tool",
     .description = "a question that one of two offered tools answers",
     .text = "What is the weather in Lisbon?",
     .kind = Sample::Kind::kToolCall},
    {.name = "function",
     .description = "a small Python function",
     .text = "Write a python function keep_even(numbers) that returns the elements of numbers that "
             "are even. Add a docstring.",
     .kind = Sample::Kind::kPlainAnswer},
    {.name = "code",
     .description = "the beginning of a C++ function, continued to its end",
     .text = "#include <vector>\n\ntemplate <class T>\nT sum(const std::vector<T>& values) {\n"
             "  T total = 0;\n  for (size_t i = 0; i < values.size(); ++i) {\n",
     .kind = Sample::Kind::kRawText},
};

}  // namespace

std::span<const Sample> samples() {
  return kSamples;
}

std::string_view sample_tools() {
  return R"([
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
}

const Sample* find_sample(std::string_view name) {
  for (const Sample& sample : kSamples) {
    if (sample.name == name) return &sample;
  }
  return nullptr;
}

}  // namespace ultraspeed::apps
