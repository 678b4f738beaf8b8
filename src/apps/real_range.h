// Options that are real numbers of a range.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

namespace ultraspeed::apps {

// From low to high. CLI::Range takes NaN, which is neither below nor above anything.
template <class Real>
CLI::Validator real_range(Real low, Real high) {
  const auto check = [low, high](const std::string& input) {
    Real value = 0;
    if (CLI::detail::lexical_cast(input, value) && value >= low && value <= high) {
      return std::string();
    }
    return fmt::format("Value {} not in range {} to {}", input, low, high);
  };
  return CLI::Validator(check, fmt::format("FLOAT in [{} - {}]", low, high));
}

}  // namespace ultraspeed::apps
