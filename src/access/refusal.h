// Why somebody does not get what they ask for, as an API says it: a status, a code for programs and
// a sentence for people.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

#include "base/result.h"

namespace ultraspeed::access {

struct Refusal {
  int status = 500;  // of HTTP
  std::string code;  // "invalid_api_key"
  std::string message;
  uint32_t retry_after_s = 0;  // 0: asking again does not help, or nobody knows when
  std::string log_detail;      // for the server's log alone; mostly empty

  Refusal() = default;
  Refusal(int refused_status, std::string refused_code, std::string refused_message,
          uint32_t refused_retry_after_s = 0)
      : status(refused_status),
        code(std::move(refused_code)),
        message(std::move(refused_message)),
        retry_after_s(refused_retry_after_s) {}
  // What the caller said wrong is 400, what is not there 404; anything else is the service's own
  // trouble, 503, whose sentence goes into the log.
  Refusal(Error error);  // NOLINT(google-explicit-constructor): so that US_TRY takes both
};

template <class T>
using Answer = tl::expected<T, Refusal>;

inline tl::unexpected<Refusal> refuse(int status, std::string code, std::string message,
                                      uint32_t retry_after_s = 0) {
  return tl::unexpected<Refusal>(
      Refusal(status, std::move(code), std::move(message), retry_after_s));
}

}  // namespace ultraspeed::access
