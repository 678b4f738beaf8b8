// Requests to a Hugging Face hub: redirections, who gets the token, what is tried again, and what
// its refusals mean to a user.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/http_location.h"

namespace ultraspeed::hub {

struct ClientOptions {
  net::HttpUrl endpoint;
  std::string token;  // sent to the endpoint's origin alone; "": none
  std::string user_agent = "ultraspeed";
  std::chrono::milliseconds silence_timeout{30'000};
  // Waits before each try that follows a failure, doubled up to 30 times, unless the hub names a
  // time (Retry-After).
  std::chrono::milliseconds retry_delay{1000};
  uint32_t max_tries = 8;  // in a row without progress
  std::function<void(std::string_view)> report = [](std::string_view) {};  // a sentence
};

struct Answer {
  unsigned status = 0;
  std::vector<net::Header> headers;
  std::string body;  // unless a sink took it

  std::string_view header(std::string_view name) const;  // "": absent
};

struct Request {
  std::string_view method = "GET";
  std::string target;       // below the endpoint: "/api/models/..."
  uint64_t offset = 0;      // bytes that are not wanted (Range)
  std::string subject;      // what messages call it: "ORG/NAME: config.json"
  bool follows_out = true;  // redirections to other origins; else their answer is the result
};

// Takes the body of a 200 or 206.
class BodySink {
 public:
  virtual ~BodySink() = default;
  // The body begins at this byte of the file: of a 206 at the request's offset, of a 200 at 0.
  virtual Status begin(uint64_t offset) = 0;
  virtual Status write(std::string_view bytes) = 0;
  // Bytes of the file that are there: more than ever before is progress.
  virtual uint64_t position() const = 0;
  virtual bool is_complete() const = 0;
};

class Client {
 public:
  explicit Client(ClientOptions options) : options_(std::move(options)) {}

  const ClientOptions& options() const { return options_; }

  // The answer to the request, tried again while that may help. `make` gives it anew each time. A
  // sink's errors end it. Errors: kNotFound, kInvalidArgument (the token), kIo, kInvalidData.
  Result<Answer> send(const std::function<Request()>& make, BodySink* sink);

 private:
  struct Outcome;
  Outcome exchange(const Request& request, BodySink* sink);
  Outcome exchange_at(const net::HttpLocation& place, const Request& request, BodySink* sink);
  std::chrono::milliseconds delay(uint32_t tries, const Outcome& outcome) const;
  Error failure(const Request& request, const Outcome& outcome) const;
  Error refusal(const Answer& answer) const;

  ClientOptions options_;
  bool has_answered_ = false;  // a hub that never did is not waited for
};

}  // namespace ultraspeed::hub
