#include "apps/figure_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr double kTolerance = 1e-9;

std::string shown(const ordered_json& value) {
  return value.dump(-1, ' ', true, ordered_json::error_handler_t::replace);
}

bool agree(const ordered_json& given, const ordered_json& computed) {
  if (!given.is_number() || !computed.is_number()) return given == computed;
  const auto a = given.get<double>();
  const auto b = computed.get<double>();
  return std::abs(a - b) <= kTolerance * std::max(std::abs(a), std::abs(b));
}

// Stops at the first difference. `path` is "" for the whole.
void compare(const ordered_json& given, const ordered_json& computed, const std::string& path,
             FigureCheck* check) {
  const auto member = [&path](const std::string& key) {
    return path.empty() ? key : path + "." + key;
  };
  if (given.is_object() && computed.is_object()) {
    for (const auto& [key, value] : computed.items()) {
      if (!check->difference.empty()) return;
      const auto found = given.find(key);
      if (found == given.end()) {
        check->difference =
            fmt::format("{} is missing; from the raw numbers it is {}", member(key), shown(value));
        return;
      }
      compare(*found, value, member(key), check);
    }
    for (const auto& [key, value] : given.items()) {
      if (!check->difference.empty()) return;
      if (computed.contains(key)) continue;
      check->difference = fmt::format("{} does not belong there", member(key));
    }
  } else if (given.is_array() && computed.is_array() && given.size() == computed.size()) {
    for (size_t i = 0; i < given.size() && check->difference.empty(); ++i) {
      compare(given[i], computed[i], fmt::format("{}[{}]", path, i), check);
    }
  } else if (agree(given, computed)) {
    ++check->num_values;
  } else {
    check->difference =
        fmt::format("{} is {}; from the raw numbers it is {}", path, shown(given), shown(computed));
  }
}

}  // namespace

FigureCheck check_figures(const ordered_json& given, const ordered_json& computed) {
  FigureCheck check;
  compare(given, computed, "", &check);
  return check;
}

}  // namespace ultraspeed::apps
