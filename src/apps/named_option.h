// Options that choose by name.
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace ultraspeed::apps {

// An option whose value is the name of one of `choices`, which outlive the parsing. Target: Choice,
// or an optional of it.
template <class Choice, size_t kCount, class Target>
CLI::Option* add_named_option(CLI::App& app, const std::string& flag, const std::string& help,
                              const std::array<Choice, kCount>& choices,
                              std::string_view (*name_of)(Choice), Target* chosen) {
  std::vector<std::string> names;
  for (const Choice choice : choices) names.emplace_back(name_of(choice));
  const auto set = [&choices, name_of, chosen](const std::string& name) {
    for (const Choice choice : choices) {
      if (name_of(choice) == name) *chosen = choice;
    }
  };
  return app.add_option_function<std::string>(flag, set, help)->check(CLI::IsMember(names));
}

}  // namespace ultraspeed::apps
