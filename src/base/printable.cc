#include "base/printable.h"

#include <algorithm>

namespace ultraspeed {
namespace {

constexpr size_t kNameLength = 200;
bool is_control_character(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

}  // namespace

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_control_character);
}

std::string printable(std::string_view name) {
  std::string text(name.substr(0, kNameLength));
  std::replace_if(text.begin(), text.end(), is_control_character, '?');
  return name.size() > kNameLength ? text + "..." : text;
}

}  // namespace ultraspeed
