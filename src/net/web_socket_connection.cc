#include "net/web_socket_connection.h"

#include <boost/asio/post.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/http/field.hpp>

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;
using std::chrono::milliseconds;

constexpr size_t kFrameReadBytes = 64 << 10;
constexpr milliseconds kCloseTime{2000};  // for the client to answer, and to read what was sent

}  // namespace

WebSocketConnection::WebSocketConnection(std::shared_ptr<EventLoop> loop,
                                         std::unique_ptr<Stream> stream, std::string input,
                                         const HttpOptions& options,
                                         std::shared_ptr<WebSocketHandler> handler)
    : loop_(std::move(loop)),
      options_(options),
      handler_(std::move(handler)),
      stream_(loop_->io, std::move(stream), std::move(input)) {}

void WebSocketConnection::accept(const Request& request, const std::vector<Header>& headers) {
  websocket::stream_base::timeout timeout{};
  timeout.handshake_timeout = milliseconds(options_.header_timeout_ms);
  timeout.idle_timeout = websocket::stream_base::none();  // tick() knows more
  stream_.set_option(timeout);
  stream_.set_option(
      websocket::stream_base::decorator([headers](websocket::response_type& response) {
        for (const Header& header : headers) response.insert(header.name, header.value);
      }));
  stream_.read_message_max(options_.max_body_bytes);
  stream_.auto_fragment(false);
  stream_.text(true);
  stream_.control_callback([this](websocket::frame_type type, boost::beast::string_view) {
    last_read_ = Clock::now();
    if (type == websocket::frame_type::close) tell_closed(who_closed());
  });
  stream_.async_accept(request, [self = shared_from_this()](const error_code& error) {
    if (self->is_closed_) return;
    if (error) return self->abort(CloseReason::kClientClosed);
    self->is_open_ = true;
    self->handler_->on_open(self);
    self->write();
    self->read();
  });
}

// --- Reading ---

void WebSocketConnection::read() {
  stream_.async_read_some(
      input_, kFrameReadBytes,
      [self = shared_from_this()](const error_code& error, size_t) { self->on_read(error); });
}

// What was malformed has been closed by Beast, with the code that says so.
void WebSocketConnection::on_read(const error_code& error) {
  if (is_closed_) return;
  last_read_ = Clock::now();
  if (error) return abort(who_closed());
  if (unread_bytes_ == 0) message_begin_ = last_read_;
  count_unread(input_.size());
  if (close_reason_ || !handler_) {
    input_.clear();
  } else if (loop_->unread_bytes > options_.max_unread_bytes) {
    close(CloseCode::kTryAgainLater, "the server is receiving too many large messages at once");
  } else if (stream_.is_message_done()) {
    take_message();
  }
  read();
}

void WebSocketConnection::take_message() {
  count_unread(0);
  std::string text = boost::beast::buffers_to_string(input_.data());
  input_.clear();
  input_.shrink_to_fit();
  if (!stream_.got_text()) return close(CloseCode::kUnsupportedData, "messages are text");
  handler_->on_message(std::move(text));
}

void WebSocketConnection::count_unread(size_t size_bytes) {
  loop_->unread_bytes += size_bytes - unread_bytes_;
  unread_bytes_ = size_bytes;
}

// --- Writing ---

void WebSocketConnection::send(std::string text) {
  if (is_closed_ || close_reason_) return;
  // A long message, which an answer may begin with twice, makes nobody a slow reader.
  if (queued_bytes_ > options_.max_queued_bytes + 2 * longest_bytes_) {
    return abort(CloseReason::kSlowReader);
  }
  longest_bytes_ = std::max(longest_bytes_, text.size());
  queued_bytes_ += text.size();
  queue_.push_back(std::move(text));
  sent_.count_queued(1);
  write();
}

void WebSocketConnection::when_sent(std::function<void()> callback) {
  if (!is_closed_) sent_.when_sent(std::move(callback));
}

void WebSocketConnection::write() {
  if (is_writing_ || is_closed_ || !is_open_) return;
  if (queue_.empty()) return begin_close();
  is_writing_ = true;
  stream_.async_write(asio::buffer(queue_.front()),
                      [self = shared_from_this()](const error_code& error, size_t) {
                        self->is_writing_ = false;
                        self->queued_bytes_ -= self->queue_.front().size();
                        self->queue_.pop_front();
                        if (error) return self->abort(CloseReason::kClientClosed);
                        self->sent_.count_sent(1);
                        self->write();
                      });
}

void WebSocketConnection::ping() {
  is_pinging_ = true;
  last_ping_ = Clock::now();
  stream_.async_ping({}, [self = shared_from_this()](const error_code& error) {
    self->is_pinging_ = false;
    if (error) self->abort(CloseReason::kClientClosed);
  });
}

// --- The end ---

void WebSocketConnection::close(CloseCode code, std::string reason) {
  if (is_closed_ || close_reason_) return;
  close_reason_.emplace(static_cast<websocket::close_code>(code), reason);
  if (code != CloseCode::kGoingAway) tell_closed(who_closed());
  write();
}

// Nobody reads answers any more, while the connection is still being closed.
void WebSocketConnection::tell_closed(CloseReason reason) {
  if (!handler_) return;
  asio::post(loop_->io,
             [handler = std::exchange(handler_, nullptr), reason] { handler->on_close(reason); });
}

void WebSocketConnection::begin_close() {
  if (!close_reason_ || std::exchange(is_closing_, true)) return;
  last_ping_ = Clock::now();
  stream_.async_close(*close_reason_, [self = shared_from_this()](const error_code&) {
    self->abort(self->who_closed());
  });
}

void WebSocketConnection::abort(CloseReason reason) {
  if (std::exchange(is_closed_, true)) return;
  count_unread(0);
  sent_.drop();
  stream_.next_layer().close();
  tell_closed(reason);
}

void WebSocketConnection::tick(Clock::time_point now) {
  if (is_closed_) return;
  const auto last_write = stream_.next_layer().last_write();
  if (is_writing_ && now - last_write > milliseconds(options_.write_timeout_ms)) {
    return abort(CloseReason::kSlowReader);
  }
  const bool is_ending = is_closing_ && now - last_ping_ > kCloseTime;
  const bool is_discarding = stream_.next_layer().is_torn_down() && now - last_write > kCloseTime;
  if (is_ending || is_discarding) return abort(who_closed());
  if (!is_open_ || close_reason_) return;
  if (unread_bytes_ > 0 && now - message_begin_ > milliseconds(options_.body_timeout_ms)) {
    return close(CloseCode::kPolicyViolation, "the message did not arrive in time");
  }
  if (now - last_read_ > milliseconds(options_.web_socket_idle_timeout_ms)) {
    return close(CloseCode::kGoingAway, "nothing came for too long");
  }
  const bool is_silent =
      now - std::max(last_write, last_ping_) > milliseconds(options_.keepalive_interval_ms);
  if (is_silent && !is_writing_ && !is_pinging_) ping();
}

}  // namespace ultraspeed::net
