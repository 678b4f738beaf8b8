// What CLI11 takes as numbers and is none here.
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

// A number of bytes: kB is 1000 B, KiB 1024 B. CLI::AsSizeValue takes -1 as 2^64 - 1.
inline CLI::Validator size_value() {
  const auto check = [as_bytes = CLI::AsSizeValue(true)](std::string& input) {
    if (input.find('-') == std::string::npos) return as_bytes(input);
    return fmt::format("Value {} is no size; expected a number of bytes, as 4GB or 512MiB", input);
  };
  return CLI::Validator(check, CLI::AsSizeValue(true).get_description());
}

}  // namespace ultraspeed::apps
