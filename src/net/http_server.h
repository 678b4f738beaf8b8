// An HTTP/1.1 server on one event-loop thread: connections, limits, keep-alive, streams with
// back-pressure, and a watch for clients that hang up. It moves bytes and knows nothing of what
// they mean; the handler gives every answer, also the body of errors found here. Boost.Asio and
// Boost.Beast stay behind this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/web_socket.h"

namespace ultraspeed::net {

struct Header {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;  // as sent: "GET", "POST", ...
  std::string target;  // as sent: path and query
  std::vector<Header> headers;
  std::string body;
  std::string peer = {};          // numeric address of who is connected; empty: by a socket file
  bool wants_web_socket = false;  // an upgrade() would be understood

  // The first header of that name (any case), or an empty view.
  std::string_view header(std::string_view name) const;
  // The target up to '?', percent-decoded. A malformed escape stays as it is.
  std::string path() const;
};

// Content-Length, Transfer-Encoding, Connection and Date are added by the server.
struct HttpResponse {
  unsigned status = 200;
  std::vector<Header> headers;
  std::string body;
};

struct StreamHead {
  unsigned status = 200;
  std::vector<Header> headers;
  // Written whenever nothing else was for HttpOptions::keepalive_interval_ms; empty: never.
  std::string keepalive;
};

enum class CloseReason {
  kClientClosed,  // end of file or reset; a client that shuts down its sending side counts as gone
  kSlowReader,    // max_queued_bytes were waiting, or a write made no progress for write_timeout_ms
  kServerStopped,
};
std::string_view close_reason_text(CloseReason reason);

// The answer to one request: send() alone, or start_stream(), write()..., finish(). Every function
// may be called by any thread, returns at once, and does nothing when the client is gone or the
// answer is complete. A writer destroyed before its answer is complete closes the connection (with
// status 500 if nothing was sent).
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void send(HttpResponse response) = 0;
  virtual void start_stream(StreamHead head) = 0;
  virtual void write(std::string bytes) = 0;
  virtual void finish() = 0;
  // Called on the event-loop thread once the kernel's socket has accepted all that was handed over
  // before; dropped if the connection is lost first.
  virtual void when_sent(std::function<void()> callback) = 0;
  // Instead of an answer: the connection becomes a WebSocket, with these headers beside the
  // handshake's own. REQUIRES: HttpRequest::wants_web_socket.
  virtual void upgrade(std::shared_ptr<WebSocketHandler> handler, std::vector<Header> headers) = 0;
  // Called on the event-loop thread, at most once, if the connection is lost before the answer was
  // handed over completely; also when it is lost already. The watch does not depend on writing.
  virtual void on_close(std::function<void(CloseReason)> callback) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Runs on the event-loop thread and must not block. The writer may be kept.
  virtual void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) = 0;
  // The answer to a request that never reached handle(): malformed, too large or too late.
  // `request` has as much of method, target and headers as is known; no body.
  virtual HttpResponse error_response(const HttpRequest& request, unsigned status,
                                      std::string_view message) = 0;
};

struct HttpOptions {
  std::string host = "127.0.0.1";  // a name or an address
  uint16_t port = 0;               // 0: any free port, see HttpServer::port()
  std::string unix_socket;         // a file instead of host and port, for its owner alone
  std::string certificate_file;    // not empty: TLS, with the chain and the key of these (PEM)
  std::string key_file;
  uint32_t max_connections = 4096;  // of more, one that waits for a request is closed
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 16 << 20;
  size_t max_unread_bytes = 256 << 20;      // of all bodies that are still arriving
  size_t max_queued_bytes = 1 << 20;        // of a stream, not yet taken by the socket
  uint32_t header_timeout_ms = 10'000;      // from a request's first byte to its header's end; also
                                            // of a TLS handshake
  uint32_t body_timeout_ms = 60'000;        // from the header's end to the body's end
  uint32_t idle_timeout_ms = 75'000;        // between two requests
  uint32_t write_timeout_ms = 30'000;       // without progress
  uint32_t keepalive_interval_ms = 10'000;  // see StreamHead::keepalive; pings of WebSockets
  uint32_t web_socket_idle_timeout_ms = 60'000;  // without a message or a pong
};

class HttpServer {
 public:
  // Binds and listens; start() begins to accept. `handler` outlives the server.
  // Errors: kInvalidArgument (host unknown, certificate or key unusable), kIo (address in use, no
  // permission).
  static Result<std::unique_ptr<HttpServer>> listen(const HttpOptions& options,
                                                    HttpHandler& handler);
  virtual ~HttpServer() = default;  // stops at once

  // The numeric address on which listen() would listen now; empty: a file. Errors: as listen().
  static Result<std::string> check_address(const HttpOptions& options);

  virtual void start() = 0;
  // Reads certificate and key again, for connections to come. Any thread. Errors:
  // kInvalidArgument; those that were read before stay.
  virtual Status reload_certificate() = 0;
  virtual const std::string& address() const = 0;  // numeric; empty: a file
  virtual uint16_t port() const = 0;

  // Runs `function` on the event-loop thread, in the order of the calls. After stop() it is
  // dropped.
  virtual void post(std::function<void()> function) = 0;

  // Stops accepting, closes idle connections, gives answers under way `flush_timeout_ms` to end,
  // closes the rest and joins the thread. REQUIRES: not called on the event-loop thread.
  virtual void stop(uint32_t flush_timeout_ms) = 0;
};

}  // namespace ultraspeed::net
