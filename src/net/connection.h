// One client's connection. It reads all the time: while an answer is under way the same read sees
// the client hang up, without depending on writes. Bytes of a pipelined request stay in the input
// buffer until the answer before them is complete; when that buffer is full, reading pauses.
// Everything here runs on the event-loop thread. Internal to net/: this header includes Boost.
#pragma once

#include <utility>  // missing in Boost 1.74's own headers under C++20

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/http_server.h"
#include "net/sent_callbacks.h"
#include "net/stream.h"
#include "net/web_socket_connection.h"

namespace ultraspeed::net {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `peer`: HttpRequest::peer of every request.
  Connection(std::shared_ptr<EventLoop> loop, std::unique_ptr<Stream> stream, std::string peer,
             const HttpOptions& options, HttpHandler& handler);

  void start();
  // Answers with an error and closes: for a connection above the limit. One that would need a
  // handshake first is closed.
  void refuse(unsigned status, std::string_view message);
  // Deadlines, keep-alive bytes. Called about ten times a second.
  void tick(Clock::time_point now);
  // Closes when the answer under way is complete; at once if there is none.
  void close_when_idle();
  void close(CloseReason reason);
  // Since when it waits for a request, or for the rest of one; nullopt: it does not.
  std::optional<Clock::time_point> waiting_since() const;
  bool is_closed() const {
    return state_ == State::kClosed || (web_socket_ != nullptr && web_socket_->is_closed());
  }

  // The answer to request `number`; ignored unless that is the one being answered.
  void send(uint64_t number, HttpResponse response);
  void start_stream(uint64_t number, StreamHead head);
  void write(uint64_t number, std::string_view bytes);
  void finish(uint64_t number);
  void when_sent(uint64_t number, std::function<void()> callback);
  void on_close(uint64_t number, std::function<void(CloseReason)> callback);
  void abandon(uint64_t number);
  void upgrade(uint64_t number, std::shared_ptr<WebSocketHandler> handler,
               const std::vector<Header>& headers);

 private:
  enum class State {
    kHandshake,
    kReadingRequest,
    kResponding,
    kLingering,  // everything is sent; input is discarded so that the client can read the answer
    kUpgraded,   // web_socket_ has the stream
    kClosed,
  };
  enum class Body { kNone, kStream, kComplete };  // how far the answer is
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void on_handshake(const boost::system::error_code& error);
  void read();
  void on_read(const boost::system::error_code& error, size_t size);
  void make_input_room();
  void begin_request();
  void parse_input();
  // Feeds the parser once; false when it needs more input or the request was refused.
  bool parse_some();
  bool accept_header();
  void count_body(size_t size_bytes);
  void dispatch();
  HttpRequest known_request() const;
  void fail_request(unsigned status, std::string_view message);

  bool is_answering(uint64_t number) const;
  ResponseFraming framing() const;
  void enqueue(std::string_view bytes);
  void write_some();
  void on_written(const boost::system::error_code& error, size_t size);
  void complete_answer();
  void linger();

  const std::shared_ptr<EventLoop> loop_;
  std::unique_ptr<Stream> stream_;
  const std::string peer_;
  const HttpOptions& options_;
  HttpHandler& handler_;
  State state_ = State::kReadingRequest;

  std::vector<char> input_;  // [max_header_bytes], or more; input_size_ bytes are unparsed
  size_t input_size_ = 0;
  bool is_reading_ = false;
  std::optional<Parser> parser_;
  size_t longest_write_ = 0;  // in bytes, of streams
  size_t header_bytes_ = 0;   // of the request being read
  size_t body_bytes_ = 0;     // of the same, as counted in the event loop's sum
  bool has_first_byte_ = false;
  Clock::time_point waiting_since_;
  Clock::time_point read_deadline_;

  uint64_t request_number_ = 0;
  Body body_ = Body::kNone;
  bool is_head_request_ = false;
  bool is_http_1_0_ = false;
  bool keep_alive_ = true;
  std::function<void(CloseReason)> close_callback_;
  std::optional<CloseReason> close_reason_;
  // Of the request being answered, if it asks for a WebSocket. Nothing is read meanwhile: what
  // follows is not HTTP.
  std::optional<WebSocketConnection::Request> upgrade_request_;
  std::shared_ptr<WebSocketConnection> web_socket_;

  std::string queued_;  // waits behind output_
  std::string output_;  // being written, from output_begin_
  size_t output_begin_ = 0;
  bool is_writing_ = false;
  SentCallbacks sent_;  // of bytes
  Clock::time_point last_write_;
  std::string keepalive_;
};

}  // namespace ultraspeed::net
