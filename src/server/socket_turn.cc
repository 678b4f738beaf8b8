#include "server/socket_turn.h"

#include <fmt/format.h>

#include <utility>

#include "net/http_message.h"
#include "server/json_text.h"

namespace ultraspeed::server {

namespace {

void append_headers(std::string& message, const std::vector<net::Header>& headers) {
  message += R"(,"headers":{)";
  bool is_first = true;
  for (const net::Header& header : headers) {
    if (net::equals_ignoring_case(header.name, "Content-Type")) continue;
    if (!std::exchange(is_first, false)) message += ',';
    append_json_string(message, header.name);
    message += ':';
    append_json_string(message, header.value);
  }
  message += '}';
}

// `message`: {...}; `member`: ,"name":value, or empty.
std::string with_member(std::string message, std::string_view member) {
  if (member.empty()) return message;
  message.pop_back();
  message += member;
  message += '}';
  return message;
}

}  // namespace

std::string socket_message(std::string message, const StreamId& stream) {
  return with_member(std::move(message), stream.member);
}

// The body is {"error":{...}}.
std::string socket_error(const net::HttpResponse& response, const StreamId& stream) {
  std::string message = fmt::format(R"({{"type":"error","status":{},)", response.status);
  message.append(response.body, 1, response.body.size() - 2);
  append_headers(message, response.headers);
  message += '}';
  return socket_message(std::move(message), stream);
}

SocketTurn::~SocketTurn() {
  if (state_ != State::kOpen) return;
  ApiError error;
  error.status = 500;
  error.message = "The server dropped the request without an answer.";
  send(error_response(error));
}

void SocketTurn::send(net::HttpResponse response) {
  if (state_ != State::kOpen) return;
  send_(socket_error(response, stream_));
  finish();
}

void SocketTurn::start_stream(net::StreamHead head) {
  std::erase_if(head.headers, [](const net::Header& header) {
    return header.name.size() < 2 || !net::equals_ignoring_case(header.name.substr(0, 2), "X-");
  });
  if (!head.headers.empty()) append_headers(head_, head.headers);
}

void SocketTurn::write(std::string bytes) {
  if (state_ != State::kOpen) return;
  size_t begin = 0;
  for (size_t end; (end = bytes.find(kSocketMessageEnd, begin)) != std::string::npos;
       begin = end + 1) {
    std::string message = with_member(bytes.substr(begin, end - begin), std::exchange(head_, {}));
    send_(socket_message(std::move(message), stream_));
  }
}

void SocketTurn::finish() {
  if (state_ != State::kOpen) return;
  state_ = State::kOver;
  close_callback_ = nullptr;
  end_();
}

void SocketTurn::on_close(std::function<void(net::CloseReason)> callback) {
  if (state_ == State::kClosed) return callback(close_reason_);
  if (state_ == State::kOpen) close_callback_ = std::move(callback);
}

void SocketTurn::close(net::CloseReason reason) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosed;
  close_reason_ = reason;
  if (auto callback = std::exchange(close_callback_, nullptr)) callback(reason);
}

}  // namespace ultraspeed::server
