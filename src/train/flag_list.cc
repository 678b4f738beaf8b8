#include "train/flag_list.h"

#include <algorithm>

namespace ultraspeed::train {

tl::unexpected<Error> wrong_flag(const std::string& what) {
  return make_error(ErrorCode::kInvalidArgument, "{}", what);
}

void FlagList::list(const char* name, std::vector<uint32_t>* out, const char* purpose) {
  const auto get = [out] {
    std::string text;
    for (const uint32_t number : *out) {
      text += fmt::format("{}{}", text.empty() ? "" : ",", number);
    }
    return text;
  };
  add({name, "N,N,...", purpose, get(),
       [out](const std::string& value) {
         out->clear();
         for (size_t at = 0; at <= value.size();) {
           const size_t end = std::min(value.find(',', at), value.size());
           uint32_t number = 0;
           if (!read_number(value.substr(at, end - at), &number)) return false;
           if (!out->empty() && number <= out->back()) return false;
           out->push_back(number);
           at = end + 1;
         }
         return true;
       },
       get});
}

Status FlagList::parse(std::span<const std::string> arguments) const {
  for (size_t i = 0; i < arguments.size(); i += 2) {
    const auto flag = std::find_if(flags_.begin(), flags_.end(),
                                   [&](const Flag& f) { return f.name == arguments[i]; });
    if (flag == flags_.end()) return wrong_flag("unknown flag '" + arguments[i] + "'; see --help");
    if (i + 1 == arguments.size()) return wrong_flag(flag->name + " needs a value");
    if (!flag->set(arguments[i + 1])) {
      return wrong_flag(
          fmt::format("{} '{}': expected {}", flag->name, arguments[i + 1], flag->value));
    }
  }
  return {};
}

std::string FlagList::help() const {
  std::string help;
  for (const Flag& flag : flags_) {
    help += fmt::format("  {:<32} {}{}\n", flag.name + " " + flag.value, flag.purpose,
                        flag.initial.empty() ? "" : " (" + flag.initial + ")");
  }
  return help;
}

std::string FlagList::describe() const {
  std::string text;
  for (const Flag& flag : flags_) {
    text += fmt::format("{}{} {}", text.empty() ? "" : " ", flag.name, flag.get());
  }
  return text;
}

}  // namespace ultraspeed::train
