// The server's end of one WebSocket, on the stream of the connection whose request asked for it.
// Boost.Beast knows the frames. It reads all the time, so that it sees the client hang up.
// Everything here runs on the event-loop thread. Internal to net/: this header includes Boost.
#pragma once

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "net/http_server.h"
#include "net/sent_callbacks.h"
#include "net/stream_adapter.h"
#include "net/web_socket.h"

namespace ultraspeed::net {

class WebSocketConnection final : public WebSocket,
                                  public std::enable_shared_from_this<WebSocketConnection> {
 public:
  using Request = boost::beast::http::request<boost::beast::http::string_body>;

  // `input`: bytes that follow the request.
  WebSocketConnection(std::shared_ptr<EventLoop> loop, std::unique_ptr<Stream> stream,
                      std::string input, const HttpOptions& options,
                      std::shared_ptr<WebSocketHandler> handler);
  ~WebSocketConnection() override { count_unread(0); }

  void accept(const Request& request, const std::vector<Header>& headers);
  void send(std::string text) override;
  void when_sent(std::function<void()> callback) override;
  void close(CloseCode code, std::string reason) override;
  void abort(CloseReason reason);
  void tell_closed(CloseReason reason);
  void tick(Clock::time_point now);  // deadlines and pings
  bool is_closed() const { return is_closed_; }

 private:
  void read();
  void on_read(const boost::system::error_code& error);
  void take_message();
  void count_unread(size_t size_bytes);
  void write();
  void begin_close();
  void ping();
  CloseReason who_closed() const {
    return close_reason_ ? CloseReason::kServerStopped : CloseReason::kClientClosed;
  }

  const std::shared_ptr<EventLoop> loop_;
  const HttpOptions& options_;
  std::shared_ptr<WebSocketHandler> handler_;  // until it was told of the end
  boost::beast::websocket::stream<StreamAdapter, /*deflateSupported=*/false> stream_;
  bool is_open_ = false;
  bool is_closed_ = false;
  std::optional<boost::beast::websocket::close_reason> close_reason_;  // of ours
  bool is_closing_ = false;                                            // the frame is on its way

  boost::beast::flat_buffer input_;
  size_t unread_bytes_ = 0;  // of the message that arrives, as counted in the event loop's sum
  Clock::time_point last_read_ = Clock::now();      // of anything, pongs too
  Clock::time_point message_begin_ = Clock::now();  // of the message that arrives

  std::deque<std::string> queue_;  // the first one is being written, if is_writing_
  SentCallbacks sent_;             // of messages
  size_t queued_bytes_ = 0;
  size_t longest_bytes_ = 0;  // of the messages sent
  bool is_writing_ = false;
  bool is_pinging_ = false;
  Clock::time_point last_ping_ = Clock::now();
};

}  // namespace ultraspeed::net
