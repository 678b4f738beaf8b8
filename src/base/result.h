// Result<T>: a value or an Error, for everything the outside world can get wrong (files, requests,
// memory at start). Programming errors use CHECK (check.h) instead. No exception crosses a module.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace ultraspeed {

enum class ErrorCode {
  kInvalidArgument,  // the caller's input is malformed (a flag, a request, a prompt)
  kInvalidData,      // a file's contents are malformed (a checkpoint, a tokenizer, a template)
  kNotFound,         // a file, tensor or name does not exist
  kIo,               // the operating system refused or a file changed underneath
  kUnsupported,      // well-formed, but this build cannot do it
  kOutOfMemory,      // a limit stated at start would be exceeded
  kCancelled,        // the caller asked to stop
  kInternal,         // a fault record of an executor, a deadline that passed
};

// The sentence says what was wrong, where, and what to do about it.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

// make_error(ErrorCode::kNotFound, "{}: no tensor '{}'", file, name) converts to any Result.
template <class... Args>
tl::unexpected<Error> make_error(ErrorCode code, fmt::format_string<Args...> format,
                                 Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace ultraspeed

// US_TRY(expression): returns the error of a Status or Result from the enclosing function.
#define US_TRY(expression)                                                       \
  do {                                                                           \
    auto us_try_status = (expression);                                           \
    if (!us_try_status) return tl::unexpected(std::move(us_try_status).error()); \
  } while (false)

#define US_CONCAT_INNER(a, b) a##b
#define US_CONCAT(a, b) US_CONCAT_INNER(a, b)

// US_ASSIGN(auto value, expression): declares value or returns the error.
#define US_ASSIGN(declaration, expression) \
  US_ASSIGN_INNER(declaration, expression, US_CONCAT(us_assign_result_, __LINE__))
#define US_ASSIGN_INNER(declaration, expression, temporary)            \
  auto temporary = (expression);                                       \
  if (!temporary) return tl::unexpected(std::move(temporary).error()); \
  declaration = *std::move(temporary)
