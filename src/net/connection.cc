#include "net/connection.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>

#include "net/http_message.h"

namespace ultraspeed::net {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using std::chrono::milliseconds;

constexpr milliseconds kLingerTime{2000};
constexpr size_t kMaxPipelinedBytes = 256 << 10;

std::string to_string(boost::beast::string_view view) {
  return {view.data(), view.size()};
}

template <class Message>
HttpRequest head_of(const Message& message) {
  HttpRequest request;
  request.method = to_string(message.method_string());
  request.target = to_string(message.target());
  for (const auto& field : message) {
    request.headers.push_back({to_string(field.name_string()), to_string(field.value())});
  }
  return request;
}

// Method and target of the request line at the begin of `bytes`, if it is one.
HttpRequest request_line(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, bytes.find('\r'));
  const size_t method_end = line.find(' ');
  if (method_end == std::string_view::npos || method_end + 1 == line.size()) return {};
  const std::string_view target = line.substr(method_end + 1);
  if (target.front() != '/') return {};
  HttpRequest request;
  request.method = line.substr(0, method_end);
  request.target = target.substr(0, target.find(' '));
  return request;
}

}  // namespace

Connection::Connection(std::shared_ptr<EventLoop> loop, std::unique_ptr<Stream> stream,
                       std::string peer, const HttpOptions& options, HttpHandler& handler)
    : loop_(std::move(loop)),
      stream_(std::move(stream)),
      peer_(std::move(peer)),
      options_(options),
      handler_(handler),
      input_(options.max_header_bytes),
      last_write_(Clock::now()) {}

void Connection::start() {
  if (!stream_->needs_handshake()) return on_handshake({});
  state_ = State::kHandshake;
  read_deadline_ = Clock::now() + milliseconds(options_.header_timeout_ms);
  stream_->handshake([self = shared_from_this()](const boost::system::error_code& error) {
    self->on_handshake(error);
  });
}

void Connection::on_handshake(const boost::system::error_code& error) {
  if (state_ == State::kClosed) return;
  if (error) return close(CloseReason::kClientClosed);
  begin_request();
  read();
}

void Connection::refuse(unsigned status, std::string_view message) {
  if (stream_->needs_handshake()) return close(CloseReason::kServerStopped);
  begin_request();
  fail_request(status, message);
  read();
}

void Connection::tick(Clock::time_point now) {
  if (web_socket_ != nullptr) return web_socket_->tick(now);
  const auto self = shared_from_this();
  if (is_writing_ && now - last_write_ > milliseconds(options_.write_timeout_ms)) {
    return close(CloseReason::kSlowReader);
  }
  if (state_ == State::kReadingRequest && now > read_deadline_) {
    if (!has_first_byte_) return close(CloseReason::kClientClosed);
    return fail_request(408, "the request did not arrive in time");
  }
  const bool is_waiting = state_ == State::kLingering || state_ == State::kHandshake;
  if (is_waiting && now > read_deadline_) {
    return close(CloseReason::kClientClosed);
  }
  if (body_ == Body::kStream && !keepalive_.empty() && !is_writing_ &&
      now - last_write_ > milliseconds(options_.keepalive_interval_ms)) {
    write(request_number_, keepalive_);
  }
}

void Connection::close_when_idle() {
  if (web_socket_ != nullptr) {
    return web_socket_->close(CloseCode::kGoingAway, "the server is shutting down");
  }
  if (state_ == State::kResponding) {
    keep_alive_ = false;
  } else if (state_ == State::kReadingRequest || state_ == State::kHandshake) {
    close(CloseReason::kServerStopped);
  }
}

std::optional<Clock::time_point> Connection::waiting_since() const {
  if (state_ != State::kReadingRequest) return std::nullopt;
  return waiting_since_;
}

void Connection::close(CloseReason reason) {
  if (state_ == State::kClosed) return;
  if (web_socket_ != nullptr) return web_socket_->abort(reason);
  state_ = State::kClosed;
  stream_->close();
  if (!is_writing_) sent_.drop();  // else on_written() does, which knows what went through
  parser_.reset();
  count_body(0);
  const bool is_lost = body_ != Body::kComplete;
  if (!is_lost) return;
  close_reason_ = reason;
  if (auto callback = std::exchange(close_callback_, nullptr)) callback(reason);
}

// --- Reading ---

void Connection::read() {
  if (is_reading_ || state_ == State::kClosed || input_size_ == input_.size()) return;
  if (upgrade_request_) return;
  const bool has_grown = input_.size() > options_.max_header_bytes;
  if (has_grown && input_size_ == 0 && state_ == State::kReadingRequest) {
    input_ = std::vector<char>(options_.max_header_bytes);
  }
  is_reading_ = true;
  stream_->read_some(asio::buffer(input_.data() + input_size_, input_.size() - input_size_),
                     [self = shared_from_this()](const boost::system::error_code& error,
                                                 size_t size) { self->on_read(error, size); });
}

void Connection::on_read(const boost::system::error_code& error, size_t size) {
  is_reading_ = false;
  if (state_ == State::kClosed) return;
  if (error) return close(CloseReason::kClientClosed);
  input_size_ += size;
  if (state_ == State::kLingering) input_size_ = 0;
  if (state_ == State::kResponding && input_size_ == input_.size()) make_input_room();
  parse_input();
  read();
}

// A client may send its next requests before it has this answer. Of more than is kept the rest is
// dropped, and the connection ends with the answer: without reading on nobody would see it lost.
void Connection::make_input_room() {
  if (input_.size() < kMaxPipelinedBytes) return input_.resize(2 * input_.size());
  keep_alive_ = false;
  input_size_ = 0;
}

void Connection::begin_request() {
  state_ = State::kReadingRequest;
  ++request_number_;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(options_.max_header_bytes));
  parser_->body_limit(options_.max_body_bytes);
  header_bytes_ = 0;
  has_first_byte_ = false;
  body_ = Body::kNone;
  is_head_request_ = false;
  is_http_1_0_ = false;
  keep_alive_ = true;
  upgrade_request_.reset();
  close_callback_ = nullptr;
  keepalive_.clear();
  waiting_since_ = Clock::now();
  read_deadline_ = waiting_since_ + milliseconds(options_.idle_timeout_ms);
}

void Connection::parse_input() {
  while (state_ == State::kReadingRequest && input_size_ > 0 && parse_some()) {
  }
}

bool Connection::parse_some() {
  if (!has_first_byte_) {
    has_first_byte_ = true;
    read_deadline_ = Clock::now() + milliseconds(options_.header_timeout_ms);
  }
  const bool had_header = parser_->is_header_done();
  boost::system::error_code error;
  const size_t used = parser_->put(asio::buffer(input_.data(), input_size_), error);
  std::memmove(input_.data(), input_.data() + used, input_size_ - used);
  input_size_ -= used;
  if (!had_header) header_bytes_ += used;
  count_body(parser_->get().body().size());

  const bool is_full = input_size_ == input_.size();
  // After an error the header counts as not done, and what follows it in the input is its body.
  const bool is_incomplete = !error || error == http::error::need_more;
  const bool is_header_large = is_incomplete && !parser_->is_header_done() &&
                               header_bytes_ + input_size_ >= options_.max_header_bytes;
  if (error == http::error::header_limit || is_header_large) {
    fail_request(431, "the request's header is larger than the server's limit");
  } else if (error == http::error::body_limit) {
    fail_request(413, "the request's body is larger than the server's limit");
  } else if (loop_->unread_bytes > options_.max_unread_bytes) {
    fail_request(503, "the server is receiving too many large requests at once");
  } else if (error == http::error::need_more) {
    if (is_full) fail_request(400, "a chunk header or trailer is too long");
    return false;
  } else if (error) {
    fail_request(400, "malformed HTTP: " + error.message());
  } else if (!had_header && parser_->is_header_done() && !accept_header()) {
    return false;
  } else if (parser_->is_done()) {
    dispatch();
  }
  return state_ == State::kReadingRequest;
}

void Connection::count_body(size_t size_bytes) {
  loop_->unread_bytes += size_bytes - body_bytes_;
  body_bytes_ = size_bytes;
}

// Checks of the header that the parser leaves to us.
bool Connection::accept_header() {
  const auto& message = parser_->get();
  is_http_1_0_ = message.version() < 11;
  is_head_request_ = message.method() == http::verb::head;
  const auto transfer_encoding = message[http::field::transfer_encoding];
  if (!transfer_encoding.empty() &&
      !equals_ignoring_case(to_string(transfer_encoding), "chunked")) {
    fail_request(501, "the only transfer encoding this server reads is chunked");
    return false;
  }
  parser_->eager(true);
  read_deadline_ = Clock::now() + milliseconds(options_.body_timeout_ms);
  const bool wants_continue =
      equals_ignoring_case(to_string(message[http::field::expect]), "100-continue");
  if (wants_continue && !parser_->is_done()) enqueue("HTTP/1.1 100 Continue\r\n\r\n");
  return true;
}

// Forwards the calls of any thread to the event loop; always through its queue, so that calls of
// several threads keep their order. Holds the connection weakly: sockets close
// with the server even if somebody keeps a writer.
class ConnectionWriter final : public ResponseWriter {
 public:
  ConnectionWriter(std::shared_ptr<EventLoop> loop, std::weak_ptr<Connection> connection,
                   uint64_t number)
      : loop_(std::move(loop)), connection_(std::move(connection)), number_(number) {}
  ~ConnectionWriter() override {
    run([number = number_](Connection& connection) { connection.abandon(number); });
  }

  void send(HttpResponse response) override {
    run([number = number_, response = std::move(response)](Connection& connection) mutable {
      connection.send(number, std::move(response));
    });
  }
  void start_stream(StreamHead head) override {
    run([number = number_, head = std::move(head)](Connection& connection) mutable {
      connection.start_stream(number, std::move(head));
    });
  }
  void write(std::string bytes) override {
    run([number = number_, bytes = std::move(bytes)](Connection& connection) {
      connection.write(number, bytes);
    });
  }
  void finish() override {
    run([number = number_](Connection& connection) { connection.finish(number); });
  }
  void when_sent(std::function<void()> callback) override {
    run([number = number_, callback = std::move(callback)](Connection& connection) mutable {
      connection.when_sent(number, std::move(callback));
    });
  }
  void upgrade(std::shared_ptr<WebSocketHandler> handler, std::vector<Header> headers) override {
    asio::post(loop_->io, [weak = connection_, number = number_, handler = std::move(handler),
                           headers = std::move(headers)] {
      const auto connection = weak.lock();
      if (!connection) return handler->on_close(CloseReason::kClientClosed);
      connection->upgrade(number, handler, headers);
    });
  }
  void on_close(std::function<void(CloseReason)> callback) override {
    auto watch = [weak = connection_, number = number_, callback = std::move(callback)]() mutable {
      const auto connection = weak.lock();
      if (!connection) return callback(CloseReason::kClientClosed);
      connection->on_close(number, std::move(callback));
    };
    asio::post(loop_->io, std::move(watch));
  }

 private:
  template <class Function>
  void run(Function function) {
    asio::post(loop_->io, [weak = connection_, function = std::move(function)]() mutable {
      if (const auto connection = weak.lock()) function(*connection);
    });
  }

  std::shared_ptr<EventLoop> loop_;
  std::weak_ptr<Connection> connection_;
  uint64_t number_;
};

void Connection::dispatch() {
  auto message = parser_->release();
  count_body(0);
  HttpRequest request = head_of(message);
  request.peer = peer_;
  request.wants_web_socket =
      boost::beast::websocket::is_upgrade(message) && message.body().empty() && !is_writing_;
  request.body = std::move(message.body());
  state_ = State::kResponding;
  keep_alive_ = message.keep_alive();
  if (request.wants_web_socket) upgrade_request_.emplace(std::move(message));
  handler_.handle(std::move(request),
                  std::make_shared<ConnectionWriter>(loop_, weak_from_this(), request_number_));
}

// Of the request being read. Beast parses a header when all of it is there.
HttpRequest Connection::known_request() const {
  HttpRequest request = head_of(parser_->get());
  if (request.target.empty()) request = request_line({input_.data(), input_size_});
  request.peer = peer_;
  return request;
}

void Connection::fail_request(unsigned status, std::string_view message) {
  const HttpRequest request = known_request();
  state_ = State::kResponding;
  keep_alive_ = false;
  input_size_ = 0;
  parser_.reset();
  count_body(0);
  send(request_number_, handler_.error_response(request, status, message));
}

// --- Writing ---

bool Connection::is_answering(uint64_t number) const {
  return state_ == State::kResponding && number == request_number_ && body_ != Body::kComplete;
}

ResponseFraming Connection::framing() const {
  ResponseFraming framing;
  framing.is_http_1_0 = is_http_1_0_;
  framing.keep_alive = keep_alive_;
  return framing;
}

void Connection::send(uint64_t number, HttpResponse response) {
  if (!is_answering(number) || body_ != Body::kNone) return;
  ResponseFraming how = framing();
  how.has_length = response.status != 204;  // which has no body (RFC 9110 section 8.6)
  how.content_length = response.body.size();
  body_ = Body::kComplete;
  close_callback_ = nullptr;
  std::string bytes = response_head(response.status, response.headers, how);
  if (!is_head_request_) bytes += response.body;
  enqueue(bytes);
}

void Connection::start_stream(uint64_t number, StreamHead head) {
  if (!is_answering(number) || body_ != Body::kNone) return;
  if (is_http_1_0_) keep_alive_ = false;  // without chunks only the end of file ends the body
  ResponseFraming how = framing();
  how.is_chunked = !is_http_1_0_;
  body_ = Body::kStream;
  keepalive_ = std::move(head.keepalive);
  enqueue(response_head(head.status, head.headers, how));
}

void Connection::write(uint64_t number, std::string_view bytes) {
  if (!is_answering(number) || body_ != Body::kStream || bytes.empty()) return;
  if (is_head_request_) return;
  // One long write makes nobody a slow reader.
  const size_t queued_bytes = queued_.size() + (output_.size() - output_begin_);
  if (queued_bytes > options_.max_queued_bytes + longest_write_) {
    return close(CloseReason::kSlowReader);
  }
  longest_write_ = std::max(longest_write_, bytes.size());
  if (is_http_1_0_) return enqueue(bytes);
  std::string chunk;
  append_chunk(chunk, bytes);
  enqueue(chunk);
}

void Connection::finish(uint64_t number) {
  if (!is_answering(number) || body_ != Body::kStream) return;
  body_ = Body::kComplete;
  close_callback_ = nullptr;
  if (!is_http_1_0_ && !is_head_request_) return enqueue(kLastChunk);
  if (!is_writing_) complete_answer();
}

// Of a request before, all was sent: else there would be no other one.
void Connection::when_sent(uint64_t number, std::function<void()> callback) {
  if (number < request_number_) return callback();
  if (state_ == State::kResponding) sent_.when_sent(std::move(callback));
}

void Connection::on_close(uint64_t number, std::function<void(CloseReason)> callback) {
  if (number != request_number_ || body_ == Body::kComplete) return;
  if (state_ == State::kClosed) return callback(close_reason_.value_or(CloseReason::kClientClosed));
  close_callback_ = std::move(callback);
}

void Connection::abandon(uint64_t number) {
  if (!is_answering(number)) return;
  keep_alive_ = false;
  if (body_ == Body::kNone) {
    const std::string_view message = "the server dropped the request without an answer";
    return send(number, handler_.error_response({}, 500, message));
  }
  body_ = Body::kComplete;  // the missing last chunk tells the client that the body is cut
  close_callback_ = nullptr;
  if (!is_writing_) complete_answer();
}

void Connection::upgrade(uint64_t number, std::shared_ptr<WebSocketHandler> handler,
                         const std::vector<Header>& headers) {
  if (!is_answering(number) || body_ != Body::kNone || !upgrade_request_) {
    return handler->on_close(close_reason_.value_or(CloseReason::kClientClosed));
  }
  state_ = State::kUpgraded;
  body_ = Body::kComplete;
  close_callback_ = nullptr;
  web_socket_ = std::make_shared<WebSocketConnection>(loop_, std::move(stream_),
                                                      std::string(input_.data(), input_size_),
                                                      options_, std::move(handler));
  web_socket_->accept(*upgrade_request_, headers);
  upgrade_request_.reset();
  input_ = {};
}

void Connection::enqueue(std::string_view bytes) {
  queued_ += bytes;
  sent_.count_queued(bytes.size());
  if (!is_writing_) write_some();
}

void Connection::write_some() {
  if (output_begin_ == output_.size()) {
    output_.clear();
    output_begin_ = 0;
    std::swap(output_, queued_);
  }
  if (!is_writing_) last_write_ = Clock::now();
  is_writing_ = true;
  stream_->write_some(asio::buffer(output_.data() + output_begin_, output_.size() - output_begin_),
                      [self = shared_from_this()](const boost::system::error_code& error,
                                                  size_t size) { self->on_written(error, size); });
}

void Connection::on_written(const boost::system::error_code& error, size_t size) {
  if (!error) sent_.count_sent(size);
  if (state_ == State::kClosed) return sent_.drop();
  if (error) {
    is_writing_ = false;
    return close(CloseReason::kClientClosed);
  }
  output_begin_ += size;
  last_write_ = Clock::now();
  if (output_begin_ < output_.size() || !queued_.empty()) return write_some();
  is_writing_ = false;
  if (state_ == State::kResponding && body_ == Body::kComplete) complete_answer();
}

// The whole answer is with the kernel.
void Connection::complete_answer() {
  if (!keep_alive_) return linger();
  begin_request();
  parse_input();
  read();
}

// Closing a socket with unread input sends a reset, which may destroy an answer that the client has
// not read yet (RFC 9112 section 9.6).
void Connection::linger() {
  state_ = State::kLingering;
  stream_->end_sending([self = shared_from_this()] {});
  read_deadline_ = Clock::now() + kLingerTime;
  input_size_ = 0;
  read();
}

}  // namespace ultraspeed::net
