// The flags of a training run, `--name value`: parsed, listed for --help, and written out again as
// what two processes must agree on.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

struct Flag {
  std::string name, value, purpose, initial;
  std::function<bool(const std::string&)> set;  // false for a text that is no value of the flag
  std::function<std::string()> get;             // a text that sets the same value
};

template <class Value>
using Choices = std::vector<std::pair<std::string, Value>>;

template <class Number>
bool read_number(const std::string& text, Number* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(*out)) return false;
  }
  return error == std::errc() && end == text.data() + text.size();
}

// Each flag writes to a variable that outlives the list, whose value so far is the default.
class FlagList {
 public:
  void text(const char* name, std::string* out, const char* purpose) {
    add({name, "PATH", purpose, *out,
         [out](const std::string& value) {
           *out = value;
           return !value.empty();
         },
         [out] { return *out; }});
  }

  template <class Number>
  void number(const char* name, Number* out, const char* purpose) {
    const auto get = [out] { return fmt::format("{}", *out); };
    add({name, "N", purpose, get(),
         [out](const std::string& value) { return read_number(value, out); }, get});
  }

  // Ascending numbers with commas between; none by default.
  void list(const char* name, std::vector<uint32_t>* out, const char* purpose);

  template <class Value>
  void choice(const char* name, Value* out, const Choices<Value>& choices, const char* purpose) {
    std::string names;
    for (const auto& [key, value] : choices) names += (names.empty() ? "" : "|") + key;
    const auto get = [out, choices]() -> std::string {
      for (const auto& [key, value] : choices) {
        if (value == *out) return key;
      }
      return "";
    };
    add({name, names, purpose, get(),
         [out, choices](const std::string& text) {
           for (const auto& [key, value] : choices) {
             if (key != text) continue;
             *out = value;
             return true;
           }
           return false;
         },
         get});
  }

  // Errors: kInvalidArgument for an unknown flag and a value that is none.
  Status parse(std::span<const std::string> arguments) const;

  // A line a flag, with its default.
  std::string help() const;

  // "--name value --name value ...", as the variables are.
  std::string describe() const;

 private:
  void add(Flag flag) { flags_.push_back(std::move(flag)); }

  std::vector<Flag> flags_;
};

// What a program says of its flags.
tl::unexpected<Error> wrong_flag(const std::string& what);

}  // namespace ultraspeed::train
