// US_CHECK(condition, format, values...): programming errors. Always on; prints where and what,
// then aborts.
// For input from outside use Result (result.h).
#pragma once

#include <fmt/format.h>

#include <string>

namespace ultraspeed::internal {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);

inline std::string check_message() {
  return {};
}
template <class... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

}  // namespace ultraspeed::internal

#define US_CHECK(condition, ...)                                                                \
  do {                                                                                          \
    if (!(condition)) [[unlikely]]                                                              \
      ::ultraspeed::internal::check_failed(__FILE__, __LINE__, #condition,                      \
                                           ::ultraspeed::internal::check_message(__VA_ARGS__)); \
  } while (false)
