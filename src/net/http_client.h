// An HTTP/1.1 client for many requests at once on the caller's thread, each on a connection of its
// own; bodies are handed on as they arrive. Boost stays behind this header.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http_server.h"

namespace ultraspeed::net {

struct HttpUrl {
  std::string host;  // a name or an address, IPv6 without brackets
  uint16_t port = 80;
  std::string path;  // without '/' at its end: "" or "/v1"
  bool has_tls = false;
};

// "http://HOST[:PORT][/PATH]", or https. Errors: kInvalidArgument.
Result<HttpUrl> parse_http_url(std::string_view text);

enum class RequestFailure {
  kConnect,    // nobody listens, the host is not reached, or its certificate is not trusted
  kTimeout,    // nothing arrived for ClientOptions::timeout
  kLost,       // the connection ended before the answer did
  kMalformed,  // the answer is not HTTP/1
};

// on_end or on_failed is the last call, and no call follows on_body's false.
class ResponseListener {
 public:
  virtual ~ResponseListener() = default;
  virtual void on_head(unsigned status, const std::vector<Header>& headers) = 0;
  // Some of the body, without the framing. False: the rest is not wanted; the connection is closed.
  virtual bool on_body(std::string_view bytes) = 0;
  virtual void on_end() = 0;
  virtual void on_failed(RequestFailure failure, const std::string& message) = 0;
};

struct ClientOptions {
  std::chrono::milliseconds timeout{600'000};
};

class HttpClient {
 public:
  using Clock = std::chrono::steady_clock;

  // Looks the host up. With TLS the certificate must be the host's, of an authority that the system
  // trusts (or of SSL_CERT_FILE, as OpenSSL reads it). Errors: kNotFound.
  static Result<std::unique_ptr<HttpClient>> create(const HttpUrl& url,
                                                    const ClientOptions& options);
  virtual ~HttpClient() = default;

  // Starts a request; its listener is called by run(). Host, Content-Length and Connection are
  // added. REQUIRES: no control characters in headers and target.
  virtual void send(const HttpRequest& request, std::shared_ptr<ResponseListener> listener) = 0;

  virtual void call_at(Clock::time_point when, std::function<void()> function) = 0;

  // Until no request is under way and no call is due.
  virtual void run() = 0;
};

}  // namespace ultraspeed::net
