// One answer on a WebSocket: what an exchange writes as a stream becomes text messages, and an
// error in place of the stream an event
// {"type":"error","status":...,"error":{...},"headers":{...}}. Used on the event-loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_server.h"
#include "server/api_error.h"

namespace ultraspeed::server {

// Ends each message of a stream; none contains it.
inline constexpr char kSocketMessageEnd = '\n';

// Echoed by every message about the request that named it.
struct StreamId {
  std::string member;  // ,"stream_id":"...", or empty
};

// Of what is no stream. `message`: {...}, of which the stream's id becomes the last member.
std::string socket_message(std::string message, const StreamId& stream);
std::string socket_error(const net::HttpResponse& response, const StreamId& stream);

class SocketTurn final : public net::ResponseWriter {
 public:
  using Send = std::function<void(std::string message)>;

  using WhenSent = std::function<void(std::function<void()> callback)>;

  // `send` is called for each message, `end` once: the turn is over. Neither behind close().
  // `when_sent`: net::WebSocket's.
  SocketTurn(StreamId stream, Send send, WhenSent when_sent, std::function<void()> end)
      : stream_(std::move(stream)),
        send_(std::move(send)),
        when_sent_(std::move(when_sent)),
        end_(std::move(end)) {}
  ~SocketTurn() override;

  void send(net::HttpResponse response) override;  // an error
  // Its X- headers are the first message's "headers": by which a ledger or a log knows the answer.
  void start_stream(net::StreamHead head) override;
  void write(std::string bytes) override;
  void finish() override;
  void when_sent(std::function<void()> callback) override { when_sent_(std::move(callback)); }
  void on_close(std::function<void(net::CloseReason)> callback) override;
  void upgrade(std::shared_ptr<net::WebSocketHandler>, std::vector<net::Header>) override {}

  void close(net::CloseReason reason);  // the socket is gone

 private:
  enum class State { kOpen, kOver, kClosed };

  const StreamId stream_;
  const Send send_;
  const WhenSent when_sent_;
  const std::function<void()> end_;
  State state_ = State::kOpen;
  std::string head_;  // ,"headers":{...}, of the message that comes next, or empty
  net::CloseReason close_reason_{};
  std::function<void(net::CloseReason)> close_callback_;
};

}  // namespace ultraspeed::server
