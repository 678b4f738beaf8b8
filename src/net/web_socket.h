// WebSocket connections (RFC 6455) as the handler of requests sees them: it agrees to one by
// ResponseWriter::upgrade(). Everything here is called on the event-loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace ultraspeed::net {

enum class CloseReason;

// Why a server closes (RFC 6455, section 7.4.1). What is malformed or too large is closed by the
// connection itself: 1002, 1007, 1009.
enum class CloseCode : uint16_t {
  kGoingAway = 1001,
  kUnsupportedData = 1003,
  kPolicyViolation = 1008,
  kTryAgainLater = 1013,
};

class WebSocket {
 public:
  virtual ~WebSocket() = default;
  // One text message, behind those that wait. Without effect after close(). A client that lets more
  // than HttpOptions::max_queued_bytes wait is dropped.
  virtual void send(std::string text) = 0;
  // As ResponseWriter::when_sent().
  virtual void when_sent(std::function<void()> callback) = 0;
  // Once what waits is sent. `reason`: up to 123 bytes.
  virtual void close(CloseCode code, std::string reason) = 0;
};

class WebSocketHandler {
 public:
  virtual ~WebSocketHandler() = default;
  virtual void on_open(std::weak_ptr<WebSocket> socket) = 0;
  virtual void on_message(std::string text) = 0;  // valid UTF-8
  // Nothing follows. Called once, not from inside of send() or close(); also without on_open(), if
  // the connection is lost before.
  virtual void on_close(CloseReason reason) = 0;
};

}  // namespace ultraspeed::net
